"""Register a network as a version in the MLflow model registry: whole, or not at all.

First everything is uploaded as a logged model of a run; then the version is created in one call, with its tags and its
description. A kill or a full disk in between leaves a logged model that no version names, never half a version. The
version holds the network that was evaluated and, made from it, the deployed file: pictures in, probabilities out.
It is identified by the SHA-256 of the evaluated file, which is not registered twice.
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

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

import hscc
from hscc.files import file_sha256
from hscc.pipeline.registry.connection import connect, registry_errors
from hscc.pipeline.registry.versions import DEPLOYED, DEPLOYED_TAG, ENGINE_FILE, ENGINE_TAG, HASH_TAG
from hscc.pipeline.tracking.store import global_store

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_EXAMPLE = 96  # pixels per side
_SERVED_WITH = (
    "mlflow", "numpy", "onnx", "onnxruntime", "pandas", "pillow", "pydantic", "pydicom", "rich", "scipy", "torch",
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A network to register, with its tags and scores.

    Attributes
    ----------
    files : tuple of Path
        Named as `hscc.pipeline.registry.versions` names the files of a version; kept under these names.
    code : Path
        The file that MLflow serves the network with.
    sha256 : str
        Hash of the evaluated network's file.
    tags : mapping of str to str
        Of the version, such as method, budget, seed, protocol, data hash, commit, ``phantom``.
    metrics : mapping of str to float
        Scores, kept with the version and as tags.
    description : str
        One paragraph for a reader of the registry.
    classes : tuple of str
        Names of the outputs, in order.
    runtime : str
        What the served version runs in: ``auto``, ``engine`` or ``onnxruntime``.
    grey : bool
        Whether it was made for grey pictures, which may be sent as rows of levels too.
    served_as : str or None
        First column of its answers: ``class``, ``labels`` or ``mask``; None where there are values only.
    volume : tuple of int or None
        Slices, rows and columns of the volumes that it was made for; None for pictures.
    """

    files: tuple[Path, ...]
    code: Path
    sha256: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    description: str
    classes: tuple[str, ...]
    runtime: str = "auto"
    grey: bool = True
    served_as: str | None = "class"
    volume: tuple[int, ...] | None = None


def log_version(candidate: Candidate, name: str, uri: str, run_id: str) -> str:
    """Log a network under an open run and make it a new version of a registered model.

    Parameters
    ----------
    candidate : Candidate
        The network.
    name : str
        Name of the registered model; created where it does not exist.
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
        If the store cannot be written; no version was created then.
    """
    import mlflow
    import mlflow.pyfunc

    headline = {key: f"{value:.6g}" for key, value in candidate.metrics.items()}
    (deployed,) = (path for path in candidate.files if path.name == DEPLOYED)
    hashes = {HASH_TAG: candidate.sha256, DEPLOYED_TAG: file_sha256(deployed)}
    for path in candidate.files:
        if path.name == ENGINE_FILE:
            hashes[ENGINE_TAG] = file_sha256(path)
    tags = {**candidate.tags, **headline, **hashes}
    with registry_errors(uri, "written"), global_store(uri), _quiet(), mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(candidate.code),
            artifacts={path.stem: str(path) for path in candidate.files},
            code_paths=[str(Path(hscc.__file__).parent)],  # so that the version answers as on the day it was registered
            model_config={
                "classes": list(candidate.classes),
                DEPLOYED_TAG: hashes[DEPLOYED_TAG],
                ENGINE_TAG: hashes.get(ENGINE_TAG),
                "runtime": candidate.runtime,
            },
            signature=signature(candidate.classes, candidate.grey, candidate.served_as),
            input_example=input_example(candidate.volume),
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
    source = f"models:/{model_id}"
    created = client.create_model_version(name, source, run_id, tags=tags, description=description, model_id=model_id)
    return str(created.version)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress MLflow's warnings on models that have a signature instead of type hints."""
    logger = logging.getLogger("mlflow.pyfunc")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(record=True):  # it overrides filters
            yield
    finally:
        logger.setLevel(level)


def input_example(volume: tuple[int, ...] | None = None) -> pd.DataFrame:
    """Draw what a version accepts: a bright ellipse on black as the bytes of a PNG file, or a volume of one cuboid.

    A volume is in the bytes of an NPY file.
    """
    if volume is not None:
        levels = np.zeros(volume, dtype=np.uint8)
        levels[tuple(slice(side // 4, -(side // 4)) for side in volume)] = 160
        array = io.BytesIO()
        np.save(array, levels)
        return pd.DataFrame({"image": [array.getvalue()]})
    picture = Image.new("L", (_EXAMPLE, _EXAMPLE))
    edge = _EXAMPLE // 6
    ImageDraw.Draw(picture).ellipse((edge, edge, _EXAMPLE - edge, _EXAMPLE - edge), fill=160)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return pd.DataFrame({"image": [buffer.getvalue()]})


def signature(classes: tuple[str, ...], grey: bool = True, served_as: str | None = "class") -> ModelSignature:
    """Input and output of a version for the names of its outputs.

    Input ``image`` (bytes of a file) or, for grey images, ``pixels`` (rows of levels); output ``class``, one
    probability per class, and ``notice``. Of a segmentation: ``mask`` (bytes of a PNG file), the share of the pixels of
    each class, and ``notice``. Of several labels: ``labels`` (those that are present, with a bar between them), one
    probability per label, and ``notice``; of values these, and ``notice``.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    decided = DataType.binary if served_as == "mask" else DataType.string
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.binary, "image", required=not grey),
        *([ColSpec(Array(Array(DataType.long)), "pixels", required=False)] if grey else []),
    ]
    probabilities = [ColSpec(DataType.double, name) for name in classes]
    outputs: list[ColSpec | TensorSpec] = [
        *([] if served_as is None else [ColSpec(decided, served_as)]),
        *probabilities,
        ColSpec(DataType.string, "notice"),
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))
