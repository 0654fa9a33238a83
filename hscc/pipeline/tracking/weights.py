"""The weights that ``train.weights`` names: a file of the workspace, or one that MLflow keeps."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from hscc.errors import ArtifactError, ParamsError, first_line
from hscc.pipeline import layout
from hscc.pipeline.params import WEIGHT_FILES, in_mlflow
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking.store import global_store, tracking_uri


def weights_file(name: str, workspace: Path) -> Path:
    """Return the file of weights, fetched from MLflow anew where it is kept there: an alias may have moved on.

    Parameters
    ----------
    name : str
        A path relative to the workspace, or an address such as ``models:/lung/3``, ``models:/lung@champion`` or
        ``runs:/<run>/<folder>``, below which one file of weights lies.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    ParamsError
        If the file does not exist, or MLflow does not give what the address names.
    ArtifactError
        If it is no single file of weights.
    """
    if not in_mlflow(name):
        path = workspace / name
        if not path.is_file():
            raise ParamsError(f"train.weights in params.yaml names {path}, which does not exist; correct one of them.")
        return path
    place = workspace / layout.SCRATCH / "weights"
    place.mkdir(parents=True, exist_ok=True)
    # Of its own: stages that run side by side fetch the same weights.
    folder = Path(tempfile.mkdtemp(dir=place))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return _only_weights(_download(name, folder, tracking_uri(workspace)), name)


def _download(name: str, folder: Path, uri: str) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with global_store(uri):
        try:
            return Path(download_artifacts(artifact_uri=name, dst_path=str(folder)))
        except (MlflowException, OSError) as error:
            raise ParamsError(
                f"train.weights in params.yaml names {name}, which MLflow at {redact(uri)} does not give "
                f"({first_line(error)}); correct the address, or set MLFLOW_TRACKING_URI."
            ) from error


def _only_weights(found: Path, name: str) -> Path:
    files = [found] if found.is_file() else sorted(path for path in found.rglob("*") if path.suffix in WEIGHT_FILES)
    if len(files) != 1 or files[0].suffix not in WEIGHT_FILES:
        held = ", ".join(path.name for path in files) or "none"
        raise ArtifactError(
            f"train.weights in params.yaml names {name}, which must hold one file of weights "
            f"({', '.join(WEIGHT_FILES)}) and holds {held}; log one with mlflow.log_artifact, or add its path."
        )
    return files[0]
