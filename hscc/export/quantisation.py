"""Post-training quantisation: an ONNX network of floats into one of 8-bit integers, by ONNX Runtime's quantiser.

Weights become int8 with one scale per output channel, activations uint8 with one scale and zero point per tensor, from
the range that calibration images reach (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018). What the defaults were chosen over, with figures: docs/quantisation.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from hscc.errors import ArtifactError, first_line
from hscc.export.rotation import rotate_hidden
from hscc.export.to_onnx import silenced
from hscc.files import replacing
from hscc.timing.sessions import open_session

Floats = npt.NDArray[np.float32]

WEIGHTED = ("Conv", "Gemm", "MatMul")  # operators with weights to quantise
_RANGES = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
_FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}
_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


@dataclass(frozen=True)
class Int8:
    """How a network is quantised.

    Attributes
    ----------
    format : str
        ``qdq``: float operators between quantise and dequantise nodes, which the runtime fuses; ``qoperator``: the
        runtime's own integer operators.
    per_channel : bool
        One scale per output channel of the weights instead of one per tensor.
    activations : str
        ``uint8`` or ``int8``.
    ranges : str
        Which part of what the images reach is kept: ``minmax`` all of it, ``percentile`` all but the outermost values,
        ``entropy`` what loses least information.
    percentile : float
        Per cent kept by ``percentile``.
    reduce_range : bool
        Weights of 7 bits, for x86 processors without VNNI, whose 16-bit sums of 8-bit products saturate.
    only_weighted : bool
        Leave the operators between convolutions and linear layers in floats.
    keep_float : tuple of int
        Positions, among the operators with weights, of those left in floats; negative ones count from the end.
    rotate : bool
        Rotate the hidden channels of factored layers first, see `hscc.export.rotation`.
    """

    format: Literal["qdq", "qoperator"] = "qdq"
    per_channel: bool = True
    activations: Literal["uint8", "int8"] = "uint8"
    ranges: Literal["minmax", "entropy", "percentile"] = "minmax"
    percentile: float = 99.999
    reduce_range: bool = False
    only_weighted: bool = False
    keep_float: tuple[int, ...] = ()
    rotate: bool = True


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Batches of images in the form that ONNX Runtime's calibration reads."""

    def __init__(self, name: str, batches: Iterable[Floats]) -> None:
        self._feeds: Iterator[dict[str, Floats]] = ({name: batch} for batch in batches)

    def get_next(self) -> dict[str, Floats] | None:
        """See `onnxruntime.quantization.CalibrationDataReader`."""
        return next(self._feeds, None)


def quantise(source: Path, target: Path, batches: Iterable[Floats], settings: Int8 | None = None) -> None:
    """Write the int8 variant of an ONNX network.

    Parameters
    ----------
    source : Path
        A network of floats with one input.
    target : Path
        The quantised network, replaced atomically; inputs and outputs keep names, types and shapes.
    batches : iterable of ndarray of float32, shape (N, C, H, W)
        Inputs of the network, in small batches: a few hundred images of the training split.
    settings : Int8, optional
        The defaults suit x86 with VNNI, and ARM.

    Raises
    ------
    ArtifactError
        If the source cannot be read, or the quantiser cannot handle it.
    """
    settings = settings or Int8()
    if not source.is_file():
        raise ArtifactError(f"{source} does not exist; export the network first.")
    name = open_session(source, threads=1).get_inputs()[0].name
    with replacing(target, shared=True) as made, silenced(""):
        prepared = made.with_name(f"prepared-{made.name}")
        try:
            _prepare(source, prepared, settings.rotate)
            _quantise(prepared, made, _Batches(name, batches), settings)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"{source} cannot be quantised ({first_line(error)}); check it, or go without int8."
            ) from error


def _prepare(source: Path, target: Path, rotate: bool) -> None:
    # Constants are folded and shapes inferred: a tensor of unknown shape would stay in floats.
    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    if rotate:
        network = onnx.load(target)
        if rotate_hidden(network):
            onnx.save(network, target)


def _quantise(source: Path, target: Path, batches: _Batches, settings: Int8) -> None:
    network = onnx.load(source)
    weighted = [node.name for node in network.graph.node if node.op_type in WEIGHTED]
    quantize_static(
        str(source),
        str(target),
        batches,
        quant_format=_FORMATS[settings.format],
        op_types_to_quantize=list(WEIGHTED) if settings.only_weighted else None,
        per_channel=settings.per_channel,
        reduce_range=settings.reduce_range,
        activation_type=_TYPES[settings.activations],
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[weighted[place] for place in settings.keep_float],
        calibrate_method=_RANGES[settings.ranges],
        extra_options={"CalibPercentile": settings.percentile} if settings.ranges == "percentile" else {},
    )
