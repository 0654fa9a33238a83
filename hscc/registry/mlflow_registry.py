"""Put an ONNX network into the MLflow model registry, once.

The network is kept in MLflow's ONNX flavour: a protobuf file, no pickle. The version carries the SHA-256 of the file
that was evaluated; a file that is there already is not logged again, its version only gets the alias.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from hscc import telemetry
from hscc.errors import HSCCError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.data.dataset import Dataset
    from mlflow.models import ModelSignature

HASH_TAG = "model_sha256"
_STORE = "MLFLOW_TRACKING_URI"
_SERVED_WITH = ("mlflow", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Candidate:
    """A network to register and what is to be known about it.

    Attributes
    ----------
    model : Path
        ONNX file; input float32 (N, 3, S, S), output float32 (N, C), dynamic N.
    sha256 : str
        Hash of the file.
    tags : mapping of str to str
        Of the version, such as method, budget, seed, protocol, data hash, commit.
    metrics : mapping of str to float
        Scores, kept with the version and as tags.
    description : str
        One paragraph for a reader of the registry.
    classes : tuple of str
        Names of the outputs, in order.
    data_hash : str
        Content hash of the data set, at most 36 characters.
    """

    model: Path
    sha256: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    description: str
    classes: tuple[str, ...]
    data_hash: str


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
    HSCCError
        If the store cannot be read.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError  # a damaged file passes through MLflow as this

    try:
        found = _client(uri).search_model_versions(f"name = '{name}' and tags.`{HASH_TAG}` = '{sha256}'")
    except (MlflowException, SQLAlchemyError) as error:
        first_line = str(error).splitlines()[0]
        raise HSCCError(
            f"the MLflow registry {uri} cannot be read ({first_line}); mend MLFLOW_TRACKING_URI or unset it."
        ) from error
    return max((str(entry.version) for entry in found), key=int, default=None)


def set_alias(name: str, alias: str, number: str, uri: str) -> None:
    """Point an alias of a registered model at a version, wherever it pointed before."""
    _client(uri).set_registered_model_alias(name, alias, number)


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
    """
    import mlflow
    import mlflow.onnx

    proto = onnx.load(candidate.model)
    dataset = _dataset(candidate)
    headline = {key: f"{value:.6g}" for key, value in candidate.metrics.items()}
    tags = {**candidate.tags, **headline, HASH_TAG: candidate.sha256}
    with _store(uri), mlflow.start_run(run_id=run_id):
        mlflow.log_input(dataset, context="training, validation and test")
        logged = mlflow.onnx.log_model(
            proto,
            name="model",
            signature=_signature(proto),
            input_example=input_example(proto),
            pip_requirements=[f"{package}=={version(package)}" for package in _SERVED_WITH],
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
            registered_model_name=name,
            metadata={"classes": list(candidate.classes), "input": "grey image, ImageNet-normalised, on 3 channels"},
            tags=tags,
        )
        mlflow.log_metrics(dict(candidate.metrics), model_id=logged.model_id, dataset=dataset)
        number = str(logged.registered_model_version)
        _client(uri).update_model_version(name, number, candidate.description)
    return number


def input_example(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Make a batch that a network accepts: the mean image of the normalisation, and one a deviation brighter.

    Two images, because a batch of one hides that the batch is dynamic; whole numbers, because the example is kept as
    JSON.

    Parameters
    ----------
    proto : onnx.ModelProto
        The network.

    Returns
    -------
    dict of str to ndarray of float32, shape (2, 3, S, S)
        By the name of the network's input.
    """
    (entry,) = proto.graph.input
    images = np.zeros((2, *_shape(entry)[1:]), dtype=np.float32)
    images[1] = 1.0
    return {entry.name: images}


def _signature(proto: onnx.ModelProto) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(entries: Any) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), _shape(entry), entry.name) for entry in entries])

    return ModelSignature(inputs=schema(proto.graph.input), outputs=schema(proto.graph.output))


def _shape(entry: onnx.ValueInfoProto) -> tuple[int, ...]:
    sides = entry.type.tensor_type.shape.dim
    return (-1, *(side.dim_value for side in list(sides)[1:]))


def _dataset(candidate: Candidate) -> Dataset:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    # The images are what data.dvc pins at this commit: that, not a path of one machine, is where they come from.
    source = CodeDatasetSource({"dvc.file": "data.dvc", "dvc.md5": candidate.data_hash, **candidate.tags})
    return MetaDataset(source, name="data", digest=candidate.data_hash)  # type: ignore[abstract]  # no ABC


def _client(uri: str) -> MlflowClient:
    telemetry.switch_off()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextmanager
def _store(uri: str) -> Iterator[None]:
    """Point MLflow's global state at a store, and back: it also sets the environment variable."""
    telemetry.switch_off()
    import mlflow

    before = os.environ.get(_STORE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]
