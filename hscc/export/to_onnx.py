"""A network as an ONNX graph: the form that is timed, evaluated, registered and deployed."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from hscc.errors import ArtifactError
from hscc.export.graph.simplify import simplify
from hscc.files import replacing
from hscc.outputs import Outputs, Selected

INPUT = "image"
OUTPUT = "logits"

_exporting = threading.Lock()
_operators: dict[int, Any] = {}  # torch.onnx's table of them, by version of the operator set


def runtime_onnx(model: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Export the graph that a runtime gets: what a latency budget times is what `hscc.export_onnx` writes.

    Parameters
    ----------
    model : nn.Module
        Takes (N, channels, rows, columns), gives (N, classes). It is not changed; weights become float32.
    input_shape : tuple of int
        Channels, rows, columns of one image.

    Returns
    -------
    onnx.ModelProto
        With a dynamic batch, simplified by `hscc.export.graph.simplify`.
    """
    return simplify(to_onnx(exportable(model), input_shape))


def exportable(model: nn.Module) -> nn.Module:
    """Copy a network in the form that the exporter takes: evaluation mode, CPU, float32, contiguous."""
    ready = copy.deepcopy(model).eval().cpu().float().requires_grad_(False)
    return ready.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def to_onnx(model: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Export with a dynamic batch, in memory.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, on the CPU.
    input_shape : tuple of int
        Channels, rows, columns of one image.
    """
    example = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    with _operators_once(), silenced("torch.onnx", "onnxscript", "onnx_ir"), torch.no_grad():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    _strip_provenance(proto)
    return proto


def write_onnx(
    model: nn.Module,
    path: Path,
    input_shape: tuple[int, ...],
    tolerance: float = 1e-4,
    output: Outputs | None = None,
) -> None:
    """Write the graph as the exporter makes it, and check it against eager execution.

    Parameters
    ----------
    model : nn.Module
        Takes float32 (N, *input_shape), gives one tensor unless `output` is passed. Moved to the CPU and into
        evaluation mode.
    path : Path
        Target file, replaced atomically.
    input_shape : tuple of int
        Of one image: channels, then positions along each axis.
    tolerance : float
        Largest difference to eager, relative to the largest logit.
    output : Outputs, optional
        What counts of the network's answer: all that the graph gives, as one tensor (N, K, *positions).

    Raises
    ------
    ArtifactError
        If ONNX Runtime's result differs from eager's by more than `tolerance`.
    """
    model = model.eval().cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model = model if output is None else Selected(model, output).eval()
    with replacing(path) as partial:
        onnx.save(to_onnx(model, input_shape), partial)
        _check(model, partial, input_shape, tolerance)


def _strip_provenance(proto: onnx.ModelProto) -> None:
    # The exporter notes source files and stack traces of the exporting machine; a deployed model must not.
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    proto.graph.doc_string = ""
    for item in [*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output]:
        del item.metadata_props[:]
        item.doc_string = ""


def _check(model: nn.Module, path: Path, input_shape: tuple[int, ...], tolerance: float) -> None:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = torch.randn(3, *input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        eager = model(images).numpy()
    (exported,) = session.run([OUTPUT], {INPUT: images.numpy()})
    difference = float(np.abs(eager - exported).max() / max(float(np.abs(eager).max()), 1e-12))
    if not difference <= tolerance:
        raise ArtifactError(
            f"{path}: the exported network differs from eager by {difference:.1e} (allowed {tolerance:.0e}); "
            "report the network and its plan as a defect."
        )


@contextlib.contextmanager
def _operators_once() -> Iterator[None]:
    """Let torch.onnx make its table of operators once per process: each export would, in 0.4 s of a small one's 0.65.

    The table is not part of torch's public interface; where another version has it elsewhere, exports take longer.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:
        yield
        return

    ours = threading.get_ident()

    def once(*args: Any, **named: Any) -> Any:
        if threading.get_ident() != ours or args or set(named) != {"opset_version"}:  # another's, who may add to it
            return make(*args, **named)
        version = named["opset_version"]
        if version not in _operators:
            _operators[version] = make(opset_version=version)
        return _operators[version]

    with _exporting:  # read inside: outside it may be what another thread has put there
        made_by, make = ONNXRegistry.__dict__["from_torchlib"], ONNXRegistry.from_torchlib
        ONNXRegistry.from_torchlib = staticmethod(once)  # type: ignore[method-assign]
        try:
            yield
        finally:
            ONNXRegistry.from_torchlib = made_by  # type: ignore[method-assign]


@contextlib.contextmanager
def silenced(*loggers: str) -> Iterator[None]:
    """Suppress what a library prints, and what it logs below an error; an empty name is the root logger."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
