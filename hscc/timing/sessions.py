"""ONNX files opened for running and for timing on the CPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from hscc.errors import ArtifactError
from hscc.timing.alternation import Call

Array = npt.NDArray[np.generic]

_UNUSABLE = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NoSuchFile,
    runtime.NotImplemented,
    runtime.RuntimeException,
)
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open an ONNX file on the CPU.

    Parameters
    ----------
    path : Path
        The file.
    threads : int
        Threads inside an operator.

    Returns
    -------
    onnxruntime.InferenceSession
        Its threads sleep between calls, so that two sessions in one process do not take each other's cores.

    Raises
    ------
    ArtifactError
        If ONNX Runtime cannot read the file.
    """
    try:
        return _session(str(path), threads)
    except _UNUSABLE as error:
        raise ArtifactError(
            f"{path} is not an ONNX network that ONNX Runtime can open; delete it and make it again, in the pipeline "
            "with `dvc repro`."
        ) from error


def open_graph(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    """Open a graph that was just made; otherwise as `open_session`."""
    return _session(model.SerializeToString(), threads)


def _session(model: str | bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors only: warnings about folded constants tell a user nothing
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def example_input(session: onnxruntime.InferenceSession, path: Path, batch: int, side: int) -> dict[str, Array]:
    """Draw an input for a session, whatever its network takes.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        The open network.
    path : Path
        Its file, to name in errors.
    batch : int
        Size of the first dimension.
    side : int
        Size of every other dimension that the network leaves open.

    Returns
    -------
    dict of str to ndarray
        An array an input of the session: normal numbers for floats, 0 to 255 for uint8; the same at every call.

    Raises
    ------
    ArtifactError
        If an input is of another type, or of a fixed batch size other than `batch`.
    """
    generator = np.random.default_rng(0)
    inputs: dict[str, Array] = {}
    for entry in session.get_inputs():
        first, *others = entry.shape or [batch]
        if isinstance(first, int) and first != batch:
            raise ArtifactError(f"{path} takes batches of {first} only, not of {batch}; time it at that size.")
        shape = (batch, *(size if isinstance(size, int) else side for size in others))
        if entry.type in _FLOATS:
            inputs[entry.name] = generator.standard_normal(shape, np.float32).astype(_FLOATS[entry.type])
        elif entry.type == "tensor(uint8)":
            inputs[entry.name] = generator.integers(0, 256, shape, np.uint8)
        else:
            raise ArtifactError(f"{path}: input {entry.name} is a {entry.type}; only floats and uint8 can be timed.")
    return inputs


def bind_session(session: onnxruntime.InferenceSession, path: Path, batch: int, side: int) -> Call:
    """Make the call that is timed: one run of a session on one drawn input, of `example_input`."""
    return partial(session.run, None, example_input(session, path, batch, side))
