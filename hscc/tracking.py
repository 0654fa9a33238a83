"""The MLflow side of a stage: one run a job, continued after a kill.

The store is ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` with artifacts under ``mlruns/`` in the workspace. A job that is
killed leaves its run open and a small file naming it under ``.hscc/runs``; the same job with the same parameters then
continues that run instead of opening another.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hscc import telemetry
from hscc.errors import DataError, HSCCError
from hscc.stages import layout

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "hscc"
UNKNOWN = "unknown"

_OPEN_RUNS = layout.SCRATCH / "runs"
_WRITTEN_BY_THE_GRAPH = (":(exclude)dvc.lock", ":(exclude)reports")
_LONGEST_PARAM = 6000  # characters MLflow keeps of a parameter's value


class StageRun:
    """An open MLflow run of one job of one stage."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record figures.

        Parameters
        ----------
        values : Mapping[str, float]
            Figures by name.
        step : int, optional
            Epoch or batch, for curves.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self.run_id, metrics=[Metric(name, float(value), now, step or 0) for name, value in values.items()]
        )

    def artifact(self, path: Path) -> None:
        """Keep a copy of a file or of a folder's content with the run.

        Parameters
        ----------
        path : Path
            An existing file or folder.
        """
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), artifact_path=path.name)
        else:
            self._client.log_artifact(self.run_id, str(path))


@contextmanager
def stage_run(
    stage: str,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    workspace: Path = Path("."),
) -> Iterator[StageRun]:
    """Open the MLflow run of one job, or continue the one that a kill left open.

    The run ends as FINISHED, as KILLED on Ctrl-C, as FAILED on any other exception; a killed process leaves it RUNNING
    until the job is run again.

    Parameters
    ----------
    stage : str
        The stage, such as ``train``.
    name : str
        The job within the stage, such as ``grouped`` or ``hscc-6-0``.
    params : Mapping[str, Any]
        Parameters that decide the outcome; nested mappings become dotted names.
    tags : Mapping[str, str], optional
        Further tags. Stage, git commit and data hash are always set.
    workspace : Path
        Folder of ``dvc.yaml``.

    Yields
    ------
    StageRun
        What the job records its figures with.

    Raises
    ------
    HSCCError
        If the tracking store cannot be opened.
    """
    flat = _flatten(params)
    all_tags = {"stage": stage, "git_commit": git_commit(workspace), "data_hash": data_hash(workspace), **(tags or {})}
    memo = workspace / _OPEN_RUNS / f"{stage}-{name}.json"
    digest = hashlib.sha256(json.dumps([flat, all_tags["data_hash"]], sort_keys=True).encode()).hexdigest()
    client = _client(workspace)
    run_id = _left_open(client, memo, digest) or _start(client, f"{stage}-{name}", workspace, flat, all_tags)
    _remember(memo, digest, run_id)
    status = "FAILED"
    try:
        yield StageRun(client, run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        client.set_terminated(run_id, status)
    memo.unlink(missing_ok=True)


def tracking_uri(workspace: Path = Path(".")) -> str:
    """Return where figures and models are recorded.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    str
        ``MLFLOW_TRACKING_URI`` where set, else the SQLite file ``mlflow.db`` in the workspace.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(workspace / 'mlflow.db').resolve()}"


def experiment_id(client: MlflowClient, workspace: Path = Path(".")) -> str:
    """Return the id of the experiment ``hscc``, making it where it does not exist.

    Parameters
    ----------
    client : MlflowClient
        Client of the tracking store.
    workspace : Path
        Folder of ``dvc.yaml``; a local store keeps its artifacts in ``mlruns/`` there.

    Returns
    -------
    str
        The experiment's id.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        local = None if os.environ.get("MLFLOW_TRACKING_URI") else (workspace / "mlruns").resolve().as_uri()
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=local))
        except MlflowException as error:
            found = client.get_experiment_by_name(EXPERIMENT)  # another process may have made it meanwhile
            if found is None:
                raise error
    return str(found.experiment_id)


def data_hash(workspace: Path = Path(".")) -> str:
    """Return the content hash that ``data.dvc`` pins.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    str
        DVC's hash of the folder ``data``, ending in ``.dir``; ``unknown`` without a ``data.dvc``.

    Raises
    ------
    DataError
        If ``data.dvc`` holds no hash.
    """
    pin = workspace / layout.DATA.with_suffix(".dvc")
    if not pin.is_file():
        return UNKNOWN
    try:
        return str(yaml.safe_load(pin.read_text(encoding="utf-8"))["outs"][0]["md5"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{pin} holds no outs[0].md5; restore it with 'git checkout {pin.name}'.") from error


def git_commit(workspace: Path = Path(".")) -> str:
    """Return the commit of the code that runs.

    Parameters
    ----------
    workspace : Path
        A folder of the repository.

    Returns
    -------
    str
        The full hash, with ``-dirty`` appended when tracked files other than what the graph itself writes
        (``dvc.lock``, ``reports/``) differ from it; ``unknown`` outside git.
    """
    commit = _git(workspace, "rev-parse", "HEAD")
    if not commit:
        return UNKNOWN
    # ":/" is the whole repository, of which the workspace may be a folder; what is excluded is the workspace's own.
    changed = _git(workspace, "status", "--porcelain", "--untracked-files=no", "--", ":/", *_WRITTEN_BY_THE_GRAPH)
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _client(workspace: Path) -> MlflowClient:
    telemetry.switch_off()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = tracking_uri(workspace)
    try:
        client = MlflowClient(tracking_uri=uri)
        experiment_id(client, workspace)
    except MlflowException as error:
        first_line = str(error).splitlines()[0]
        raise HSCCError(
            f"the MLflow store {uri} cannot be opened ({first_line}); mend MLFLOW_TRACKING_URI or unset it."
        ) from error
    return client


def _start(client: MlflowClient, name: str, workspace: Path, params: dict[str, str], tags: dict[str, str]) -> str:
    from mlflow.entities import Param
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

    shown = {
        MLFLOW_GIT_COMMIT: tags["git_commit"],
        MLFLOW_SOURCE_NAME: f"hscc {tags['stage']}",
        MLFLOW_SOURCE_TYPE: "LOCAL",
    }
    run = client.create_run(experiment_id(client, workspace), tags={**shown, **tags}, run_name=name)
    client.log_batch(run.info.run_id, params=[Param(key, value) for key, value in params.items()])
    return str(run.info.run_id)


def _left_open(client: MlflowClient, memo: Path, digest: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        noted = json.loads(memo.read_text(encoding="utf-8"))
        if noted["digest"] != digest:
            return None
        client.update_run(noted["run_id"], status="RUNNING")  # fails where the store was emptied since
    except (OSError, ValueError, KeyError, TypeError, MlflowException):
        return None
    return str(noted["run_id"])


def _remember(memo: Path, digest: str, run_id: str) -> None:
    memo.parent.mkdir(parents=True, exist_ok=True)
    draft = memo.with_suffix(".tmp")
    draft.write_text(json.dumps({"digest": digest, "run_id": run_id}), encoding="utf-8")
    os.replace(draft, memo)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = str(value)[:_LONGEST_PARAM]
    return flat
