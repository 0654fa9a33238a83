"""Put a network into the MLflow model registry: whole, or not at all.

First everything is uploaded as a logged model of a run; then the version is made in one call, with its tags and its
description. A kill or a full disk in between leaves a logged model that no version names, never half a version. The
version carries the network that was evaluated and, made from it, the file that answers: pictures in, probabilities out.
It is known by the SHA-256 of the evaluated file; one that is there already is not registered again.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image, ImageDraw

import hscc
from hscc.files import file_sha256
from hscc.pipeline.registry.connection import connect, global_store, registry_errors

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

HASH_TAG = "model_sha256"  # of the evaluated network
DEPLOYED_TAG = "deployed_sha256"
PHANTOM_TAG = "phantom"  # true or false: trained on drawn images
# Files of a version: what answers, what was evaluated, and what is known of it.
DEPLOYED, NETWORK, PLAN, EVIDENCE, SCORES = "model.onnx", "network.onnx", "plan.json", "evidence.csv", "scores.json"

_EXAMPLE = 96  # pixels a side
_SERVED_WITH = (
    "mlflow", "numpy", "onnx", "onnxruntime", "pandas", "pillow", "pydicom", "rich", "scipy", "torch",
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A network to register and what is to be known about it.

    Attributes
    ----------
    files : tuple of Path
        Named `DEPLOYED`, `NETWORK`, `PLAN`, `EVIDENCE` and `SCORES`; kept under these names.
    code : Path
        The file that MLflow serves the network with.
    sha256 : str
        Hash of the evaluated network's file.
    tags : mapping of str to str
        Of the version, such as method, budget, seed, protocol, data hash, commit, `PHANTOM_TAG`.
    metrics : mapping of str to float
        Scores, kept with the version and as tags.
    description : str
        One paragraph for a reader of the registry.
    classes : tuple of str
        Names of the outputs, in order.
    """

    files: tuple[Path, ...]
    code: Path
    sha256: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    description: str
    classes: tuple[str, ...]


def find_version(name: str, sha256: str, uri: str) -> str | None:
    """Find the newest version of a registered model that holds a file.

    Parameters
    ----------
    name : str
        Name of the registered model, which need not exist.
    sha256 : str
        Hash of the file.
    uri : str
        Tracking store, which also holds the registry.

    Returns
    -------
    str or None
        The version's number; None when no version holds the file.

    Raises
    ------
    RegistryError
        If the store cannot be read.
    """
    with registry_errors(uri):
        found = connect(uri).search_model_versions(f"name = '{name}' and tags.`{HASH_TAG}` = '{sha256}'")
    return max((str(entry.version) for entry in found), key=int, default=None)


def log_version(candidate: Candidate, name: str, uri: str, run_id: str) -> str:
    """Log a network under an open run and make it a new version of a registered model.

    Parameters
    ----------
    candidate : Candidate
        The network.
    name : str
        Name of the registered model; made where it does not exist.
    uri : str
        Tracking store, which also holds the registry.
    run_id : str
        An open run.

    Returns
    -------
    str
        The version's number.

    Raises
    ------
    RegistryError
        If the store cannot be written; no version was made then.
    """
    import mlflow
    import mlflow.pyfunc

    headline = {key: f"{value:.6g}" for key, value in candidate.metrics.items()}
    (deployed,) = (path for path in candidate.files if path.name == DEPLOYED)
    hashes = {HASH_TAG: candidate.sha256, DEPLOYED_TAG: file_sha256(deployed)}
    tags = {**candidate.tags, **headline, **hashes}
    with registry_errors(uri, "written"), global_store(uri), _quiet(), mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(candidate.code),
            artifacts={path.stem: str(path) for path in candidate.files},
            code_paths=[str(Path(hscc.__file__).parent)],  # so that the version answers as it did when it was made
            model_config={"classes": list(candidate.classes), DEPLOYED_TAG: hashes[DEPLOYED_TAG]},
            signature=signature(candidate.classes),
            input_example=input_example(),
            pip_requirements=[f"{package}=={version(package)}" for package in _SERVED_WITH],
            metadata={"classes": list(candidate.classes), **hashes},
            tags=tags,
        )
        mlflow.log_metrics(dict(candidate.metrics), model_id=logged.model_id)
        return _create_version(name, logged.model_id, run_id, tags, candidate.description, uri)


def _create_version(name: str, model_id: str, run_id: str, tags: dict[str, str], description: str, uri: str) -> str:
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name, f"models:/{model_id}", run_id, tags=tags, description=description, model_id=model_id
    )
    return str(made.version)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back MLflow's remarks on models whose types are told by a signature and not by hints."""
    logger = logging.getLogger("mlflow.pyfunc")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(record=True):  # it overrules filters of its own accord
            yield
    finally:
        logger.setLevel(level)


def input_example() -> pd.DataFrame:
    """Draw a picture that a version accepts, bright matter in dark air, as the bytes of a PNG file."""
    picture = Image.new("L", (_EXAMPLE, _EXAMPLE))
    edge = _EXAMPLE // 6
    ImageDraw.Draw(picture).ellipse((edge, edge, _EXAMPLE - edge, _EXAMPLE - edge), fill=160)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return pd.DataFrame({"image": [buffer.getvalue()]})


def signature(classes: tuple[str, ...]) -> ModelSignature:
    """Say what a served version takes and gives.

    Parameters
    ----------
    classes : tuple of str
        Names of the outputs.

    Returns
    -------
    ModelSignature
        In: ``image``, the bytes of a file, or ``pixels``, rows of grey levels. Out: ``class``, a probability a class,
        ``notice``.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.binary, "image", required=False),
        ColSpec(Array(Array(DataType.long)), "pixels", required=False),
    ]
    probabilities = [ColSpec(DataType.double, name) for name in classes]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "class"),
        *probabilities,
        ColSpec(DataType.string, "notice"),
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))
