"""The deployed ONNX file in ONNX Runtime.

There are two forms, and only this module distinguishes them:

- *whole*: preprocessing inside; uint8 (N, rows, columns, channels) of any size in, probabilities out;
- *bare*: float32 (N, 3, S, S) in, logits out; the preprocessing of `hscc.pipeline.data.images` is done here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from PIL import Image
from scipy.special import softmax

from hscc.errors import ArtifactError
from hscc.files import file_sha256
from hscc.pipeline.serving.reading import Grey
from hscc.pipeline.statistics.predictions import as_input, run_session
from hscc.timing.sessions import open_session

_WHOLE_INPUT = "tensor(uint8)"

Probabilities = npt.NDArray[np.float64]


class Network:
    """A network that gives probabilities.

    Parameters
    ----------
    path : Path
        The ONNX file.
    classes : sequence of str
        Names of the outputs, in order.
    sha256 : str, optional
        Hash that the file must have.
    threads : int
        Threads per operator.

    Raises
    ------
    ArtifactError
        If the file is missing, is not the one that was registered, points at other files, or is not such a network.
    """

    def __init__(self, path: Path, classes: Sequence[str], sha256: str | None = None, threads: int = 2) -> None:
        if not path.is_file():
            raise ArtifactError(f"{path} does not exist; run `hscc register` again, or `dvc pull`.")
        if sha256 is not None and file_sha256(path) != sha256:
            raise ArtifactError(
                f"{path} is damaged or is not the file that was registered; delete it and run `hscc register` again."
            )
        refuse_external_data(path)
        self.classes = tuple(classes)
        self._session = open_session(path, threads)
        entry = self._session.get_inputs()[0]
        self._whole = entry.type == _WHOLE_INPUT
        self._side = entry.shape[-1]

    def probabilities(self, images: Sequence[Grey]) -> Probabilities:
        """Classify grey images.

        Parameters
        ----------
        images : sequence of ndarray of uint8, shape (H, W)
            Each of its own size.

        Returns
        -------
        ndarray of float64, shape (N, C)
            In the order of `classes`; each row sums to 1.
        """
        if not self._whole:
            return self._bare_images(images)
        # Images of one size are one batch: `occlusion` passes hundreds of them.
        if len({image.shape for image in images}) == 1:
            return self._whole_images(np.stack(images))
        return np.concatenate([self._whole_images(image[None]) for image in images])

    def _whole_images(self, images: Grey) -> Probabilities:
        (found,) = self._session.run(None, {self._session.get_inputs()[0].name: images[..., None]})
        return np.asarray(found, dtype=np.float64)

    def _bare_images(self, images: Sequence[Grey]) -> Probabilities:
        size = (self._side, self._side)
        resized = [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in images]
        logits = run_session(self._session, as_input(np.stack(resized)))
        found: Probabilities = softmax(logits.astype(np.float64), axis=1)
        return found


def refuse_external_data(path: Path) -> None:
    """Refuse an ONNX file whose weights are in other files: their paths could lead anywhere.

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
