"""The deployed file in its runtime.

There are three forms, and only this module distinguishes them:

- *whole*, ONNX: preprocessing inside; uint8 (N, rows, columns, channels) of any size, or volumes (N, slices, rows,
  columns) of one size in, probabilities out;
- *bare*, ONNX: float32 (N, 3, S, S) in, logits of classes out; of grey images, as early versions were: their
  preprocessing is done here;
- *engine*: float32 in, logits or values out; the preprocessing that its card describes is done here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from PIL import Image
from scipy.special import expit, softmax

from hscc.errors import ArtifactError, CompressionError, DataError, ExportError
from hscc.export.preprocessing import Preprocessing
from hscc.files import file_sha256
from hscc.outputs import Kind, Outputs
from hscc.pipeline.data.formats.levels import Window, resize_volume
from hscc.pipeline.data_spec import Plausible
from hscc.pipeline.serving.plausibility import refuse_implausible
from hscc.pipeline.serving.reading import Levels, Picture
from hscc.pipeline.statistics.predictions import as_input
from hscc.structures.base import as_tuples
from hscc.timing.runtimes import ENGINE, ONNXRUNTIME, EngineSession, Session, find_runtime, runtime_of

Probabilities = npt.NDArray[np.float64]
Classify = Callable[[Sequence[Levels]], Probabilities]


class Network:
    """A network that gives probabilities.

    Parameters
    ----------
    path : Path
        An ONNX file, or one of the engine (``.hscc``).
    classes : sequence of str, optional
        Names of the outputs, in order, where the file does not name them.
    sha256 : str, optional
        Hash that the file must have.
    threads : int
        Threads per operator.
    runtime : str
        For an ONNX file: ``onnxruntime`` or ``openvino``.

    Attributes
    ----------
    classes : tuple of str
        Names of the outputs, in order.
    class_names : dict of str to str
        Names of classes for a reader, where they differ.
    subject : str
        What one of its images is, such as "brain MRI slice"; "" where the file does not say.
    limits : Plausible or None
        What a picture must be like; None where the file does not say.
    sides : tuple of int or None
        Slices, rows and columns of the volumes that it takes, to which others are resized; None for pictures.
    kind : {"classes", "independent", "values"}
        What it gives: probabilities of classes, of labels that are each there or not, or values.
    window : (float, float) or None
        Values that become black and white; None where a picture's own file decides.

    Raises
    ------
    ArtifactError
        If the file is missing, is not the one that was registered, points at other files, or is not such a network.
    ParamsError
        If what a runtime needs is missing.
    """

    def __init__(
        self,
        path: Path,
        classes: Sequence[str] | None = None,
        sha256: str | None = None,
        threads: int = 2,
        runtime: str = ONNXRUNTIME,
    ) -> None:
        if not path.is_file():
            raise ArtifactError(f"{path} does not exist; run `hscc register` again, or `dvc pull`.")
        if sha256 is not None and file_sha256(path) != sha256:
            raise ArtifactError(
                f"{path} is damaged or is not the file that was registered; delete it and run `hscc register` again."
            )
        self._classify: Classify
        self.sides: tuple[int, ...] | None = None
        if runtime_of(path) == ENGINE:
            self._classify, card = _open_engine_file(path, threads)
        else:
            self._classify, card, self.sides = _open_onnx_file(path, threads, runtime)
        try:
            self.classes = tuple(json.loads(card.get("classes", "[]"))) or tuple(classes or ())
            self.class_names: Mapping[str, str] = dict(json.loads(card.get("class_names", "{}")))
            self.subject = str(card.get("subject", ""))
            self.kind: Kind = Outputs(card.get("output_kind", "classes")).kind  # type: ignore[arg-type]  # checked there
            self.window: Window | None = tuple(json.loads(card["window"])) if "window" in card else None
            self.limits = Plausible.model_validate_json(card["plausible"]) if "plausible" in card else None
        except (TypeError, ValueError, CompressionError) as error:
            raise ArtifactError(f"{path} has a damaged card ({error}); export it again with `hscc export`.") from error
        if not self.classes:
            raise ArtifactError(f"{path} does not name its classes; export it with `hscc export`.")

    def class_name(self, label: str) -> str:
        """Name of a class for a reader."""
        return self.class_names.get(label, label.replace("_", " "))

    def refuse_implausible(self, picture: Picture) -> None:
        """Refuse what is plainly not one of the images that the network was made for.

        Raises
        ------
        DataError
            In one sentence, with what is wrong.
        """
        refuse_implausible(picture, self.limits, self.subject or "picture for this network")
        if picture.is_volume != (self.sides is not None):
            wanted = "a picture" if self.sides is None else "a volume"
            raise DataError(f"{picture.name} is no {wanted[2:]}, and the network takes {wanted}; use one.")

    def probabilities(self, images: Sequence[Levels]) -> Probabilities:
        """Classify images.

        Parameters
        ----------
        images : sequence of ndarray of uint8, shape (H, W), (H, W, 3) or (D, H, W)
            Grey; red, green and blue; or grey volumes; each of its own size.

        Returns
        -------
        ndarray of float64, shape (N, C)
            In the order of `classes`; of classes each row sums to 1. Of values these.
        """
        return self._classify(images)


def _open_onnx_file(
    path: Path, threads: int, runtime: str
) -> tuple[Classify, Mapping[str, str], tuple[int, ...] | None]:
    proto = refuse_external_data(path)
    (entry, *_), card = proto.graph.input, {found.key: found.value for found in proto.metadata_props}
    session = find_runtime(runtime).open_file(path, threads)
    _, *sizes = (side.dim_value for side in entry.type.tensor_type.shape.dim)
    if entry.type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        if len(sizes) != 3:
            raise ArtifactError(f"{path} takes volumes as a bare network; export it with `hscc export`.")
        return partial(_bare, session, sizes[-1]), card, None
    if all(sizes):
        return partial(_volumes, session, tuple(sizes)), card, tuple(sizes)
    return partial(_whole, session), card, None


def _open_engine_file(path: Path, threads: int) -> tuple[Classify, Mapping[str, str]]:
    session = find_runtime(ENGINE).open_file(path, threads)
    assert isinstance(session, EngineSession)
    card = session.engine.card
    try:
        numbers = {key: as_tuples(value) for key, value in card["preprocessing"].items() if key != "text"}
        preprocessing = Preprocessing(**numbers)
    except (KeyError, TypeError, ValueError, AttributeError, ExportError) as error:
        raise ArtifactError(
            f"{path} does not say how pictures become its input; export it with `hscc export`, or with a preprocessing."
        ) from error
    return partial(_in_engine, session, preprocessing, card.get("output_kind", "classes")), card


def _whole(session: Session, images: Sequence[Levels]) -> Probabilities:
    # Images of one size are one batch: `occlusion` passes hundreds of them.
    if len({image.shape for image in images}) == 1:
        stacked = np.stack(images)
        return np.asarray(session(stacked if stacked.ndim == 4 else stacked[..., None]), dtype=np.float64)
    return np.concatenate([_whole(session, [image]) for image in images])


def _volumes(session: Session, sides: tuple[int, ...], images: Sequence[Levels]) -> Probabilities:
    return np.asarray(session(np.stack([resize_volume(image, sides) for image in images])), dtype=np.float64)


def _bare(session: Session, side: int, images: Sequence[Levels]) -> Probabilities:
    size = (side, side)
    resized = [
        np.asarray(Image.fromarray(image).convert("L").resize(size, Image.Resampling.BILINEAR)) for image in images
    ]
    return _shares(session(as_input(np.stack(resized))))


def _in_engine(session: Session, preprocessing: Preprocessing, kind: str, images: Sequence[Levels]) -> Probabilities:
    return _shares(session(np.concatenate([preprocessing.prepare(image).numpy() for image in images])), kind)


def _shares(outputs: npt.NDArray[np.float32], kind: str = "classes") -> Probabilities:
    numbers: Probabilities = outputs.astype(np.float64)
    if kind == "values":
        return numbers
    found: Probabilities = expit(numbers) if kind == "independent" else softmax(numbers, axis=1)
    return found


def refuse_external_data(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; refuse one whose weights are in other files: their paths could lead anywhere.

    Raises
    ------
    ArtifactError
        If it is no ONNX file, or names other files.
    """
    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ArtifactError(
            f"{path} is not an ONNX file, or is cut short; run `dvc repro` to write it again."
        ) from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(proto.graph)):
        raise ArtifactError(f"{path} takes weights from other files, which could be any; export it as a single file.")
    return proto


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    found = list(graph.initializer)
    for sparse in graph.sparse_initializer:
        found += [sparse.values, sparse.indices]
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                found += _tensors(inner)
    return found
