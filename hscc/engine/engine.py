"""A network in the engine's one file, ready to run."""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hscc.engine.library import load_library
from hscc.errors import ArtifactError, EngineError

if TYPE_CHECKING:
    import torch

Array: TypeAlias = npt.NDArray[np.float32]
Images: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
Shapes: TypeAlias = tuple[tuple[int, ...], ...]

_ERROR_BYTES = 1000


@dataclass(frozen=True)
class OperationTime:
    """Time of one operation.

    Attributes
    ----------
    operation : str
        Its name; "input" and "output" are the changes of layout at the borders.
    shape : tuple of int
        Channels and positions of its output.
    milliseconds : float
        Mean per call.
    share : float
        Of the time of all operations, 0 to 1.
    """

    operation: str
    shape: tuple[int, ...]
    milliseconds: float
    share: float


class Engine:
    """A compressed network run by the package's own C++ library.

    It may be used from several threads: a call waits for the one before. The same images, batch and number of threads
    give the same bits.

    Parameters
    ----------
    network : str, path or bytes
        A file that `hscc.export_engine` wrote, or its content.
    threads : int, optional
        Threads that work on a call; by default as many as torch uses, where it is imported, and the process may use.

    Raises
    ------
    ArtifactError
        If the file is missing, damaged or not for this version.
    EngineError
        If the C++ library is missing; the message says how to build it.

    Examples
    --------
    >>> engine = hscc.Engine("small.hscc")  # doctest: +SKIP
    >>> logits = engine(images)  # doctest: +SKIP
    """

    def __init__(self, network: str | os.PathLike[str] | bytes, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise EngineError(f"threads is {threads}; give at least 1, or None.")
        self._library = load_library()
        self.threads = _usable_threads() if threads is None else threads
        self._handle: int | None = _open(self._library, network, self.threads)
        self._close = weakref.finalize(self, self._library.hscc_close, self._handle)
        self._close.atexit = False  # a daemon thread may be in a call then, and the system frees it all anyway
        self._lock = threading.Lock()  # close() must not free what a call uses
        self.input_shapes = self._shapes("input")
        self.output_shapes = self._shapes("output")
        self.card = _card(self._library.hscc_card(self._handle))
        self.input_shapes = _as_described(self.card.get("inputs"), self.input_shapes)
        self.output_shapes = _as_described(self.card.get("outputs"), self.output_shapes)

    def __call__(self, *images: Images) -> Array | tuple[Array, ...]:
        """Run the network.

        Parameters
        ----------
        *images : ndarray or CPU tensor of floats, shape (N, *input_shapes[i])
            One per input of the network, all of one N.

        Returns
        -------
        ndarray of float32, shape (N, *output_shapes[0]), or tuple of ndarray
            A tuple if the network has several outputs.

        Raises
        ------
        EngineError
            If an input has another shape or type, or the engine is closed.
        """
        inputs = self._checked(images)
        batch = len(inputs[0])
        outputs = tuple(np.empty((batch, *shape), np.float32) for shape in self.output_shapes)
        with self._lock:
            handle = self._open_handle()
            if self._library.hscc_run(handle, batch, _addresses(inputs), _addresses(outputs)):
                raise EngineError(self._library.hscc_error(handle).decode())
        return outputs if len(outputs) > 1 else outputs[0]

    def profile(self, *images: Images, calls: int = 10) -> list[OperationTime]:
        """Measure the time of each operation.

        Parameters
        ----------
        *images : ndarray or CPU tensor
            As in a call; by default one image of zeros per input.
        calls : int
            How often they are run, after one call that is not counted.

        Returns
        -------
        list of OperationTime
            In the order of execution.
        """
        given: Sequence[Images] = images or [np.zeros((1, *shape), np.float32) for shape in self.input_shapes]
        self(*given)
        with self._lock:
            self._library.hscc_profile(self._open_handle(), 1)
        for _ in range(max(calls, 1)):
            self(*given)
        with self._lock:
            handle = self._open_handle()
            lines = self._library.hscc_profile_text(handle).decode().splitlines()
            self._library.hscc_profile(handle, 0)
        rows = [line.split("\t") for line in lines]
        total = math.fsum(float(time) for _, _, time in rows) or 1.0
        return [
            OperationTime(name, tuple(map(int, shape.split("x"))), float(time), float(time) / total)
            for name, shape, time in rows
        ]

    def memory(self, batch: int = 1) -> int:
        """Bytes of working memory, besides the weights, that a call with so many images takes."""
        with self._lock:
            return int(self._library.hscc_memory(self._open_handle(), batch))

    def limit_memory(self, size: int) -> None:
        """Bound the working memory to so many bytes: a larger batch runs in parts, one image at least.

        128 MiB at first.
        """
        with self._lock:
            self._library.hscc_limit_memory(self._open_handle(), max(size, 0))

    def close(self) -> None:
        """Free the network; afterwards it cannot be called."""
        with self._lock:
            self._handle = None
            self._close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_handle(self) -> int:
        if self._handle is None:
            raise EngineError("this engine is closed; make a new one with hscc.Engine.")
        return self._handle

    def _shapes(self, side: str) -> Shapes:
        count = getattr(self._library, f"hscc_{side}_count")(self._handle)
        sizes = (ctypes.c_int64 * 5)()
        shapes = []
        for index in range(count):
            rank = getattr(self._library, f"hscc_{side}_shape")(self._handle, index, sizes)
            shapes.append(tuple(sizes[1:rank]))
        return tuple(shapes)

    def _checked(self, images: Sequence[Images]) -> list[Array]:
        if len(images) != len(self.input_shapes):
            raise EngineError(f"the network takes {len(self.input_shapes)} inputs and got {len(images)}.")
        arrays = []
        for number, (given, shape) in enumerate(zip(images, self.input_shapes, strict=True)):
            array = _as_array(given)
            name = f"input {number}" if len(images) > 1 else "the input"
            wanted = f"(N, {', '.join(map(str, shape))})"
            if array.ndim < 2 or plain_shape(array.shape[1:]) != plain_shape(shape):
                raise EngineError(f"{name} has the shape {array.shape}; the network takes {wanted}.")
            if array.dtype.kind != "f":
                raise EngineError(f"{name} is of type {array.dtype}; give preprocessed images as float32.")
            arrays.append(np.ascontiguousarray(array, np.float32))
        if len({len(array) for array in arrays}) > 1:
            raise EngineError(f"the inputs have different numbers of images: {[len(array) for array in arrays]}.")
        return arrays


def _card(text: bytes) -> dict[str, Any]:
    try:
        card = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise ArtifactError("the engine file's card is not JSON; export the network again.") from error
    if not isinstance(card, dict):
        raise ArtifactError("the engine file's card is no JSON object; export the network again.")
    return card


def plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the ones between the channels and the first longer axis, which the file does not tell apart."""
    channels, *positions = shape
    while positions and positions[0] == 1:
        positions.pop(0)
    return (channels, *positions)


def _as_described(described: Any, shapes: Shapes) -> Shapes:
    """Shapes as the card has them: it also knows dimensions of size 1, where the file has channels and three sizes."""
    try:
        named = tuple(tuple(map(int, entry["shape"])) for entry in described)
    except (KeyError, OverflowError, TypeError, ValueError):
        return shapes
    same = [math.prod(shape) for shape in named] == [math.prod(shape) for shape in shapes]
    return named if same and all(shape and min(shape) > 0 for shape in named) else shapes


def _as_array(images: Images) -> npt.NDArray[Any]:
    if "torch" in sys.modules:
        import torch

        if isinstance(images, torch.Tensor):
            if images.device.type != "cpu":
                raise EngineError(f"the images are on {images.device}; move them with .cpu().")
            return (images.float() if images.dtype == torch.bfloat16 else images).detach().numpy()
    return np.asarray(images)


def _addresses(arrays: Sequence[Array]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _usable_threads() -> int:
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        usable = os.cpu_count() or 1
    if "torch" in sys.modules:
        import torch

        usable = min(usable, torch.get_num_threads())
    return usable


def _open(library: ctypes.CDLL, network: str | os.PathLike[str] | bytes, threads: int) -> int:
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    handle: int | None
    if isinstance(network, bytes):
        handle = library.hscc_open_memory(network, len(network), threads, error, len(error))
    else:
        path = Path(network)
        if not path.is_file():
            raise ArtifactError(f"{path} does not exist; write it with hscc.export_engine.")
        handle = library.hscc_open(os.fsencode(path), threads, error, len(error))
    if handle is None:
        raise ArtifactError(f"{error.value.decode(errors='replace')}; export the network again.")
    return handle
