"""Make what the exporter leaves cost nothing: the same function of the same inputs by a cheaper ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
from onnx_ir.passes.common import DeduplicateInitializersPass, IdentityEliminationPass, RemoveUnusedNodesPass

from hscc.errors import ArtifactError, first_line
from hscc.export.graph.permutations import fold_orders
from hscc.export.graph.products import merge_pairs
from hscc.export.graph.tiles import merge_windows, push_activations, sink_pads
from hscc.files import replacing

Inputs = Mapping[str, npt.NDArray[Any]]
_REWRITES = (fold_orders, sink_pads, merge_windows, push_activations, merge_pairs)
_TOLERANCE = 1e-4  # relative to the largest output
_BATCH, _SIDE = 2, 64  # what stands for a dynamic batch and for any other dynamic axis in a trial run


def simplify(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a network until nothing is left to make cheaper.

    Orders of channels move into weights (`permutations`), zeros into convolutions and activations into regions
    (`tiles`), pairs of linear layers into their product (`products`); constants with the same content are stored once.

    Parameters
    ----------
    proto : onnx.ModelProto
        With the shapes of its values, as `torch.onnx.export` writes them. Stays as it is.

    Returns
    -------
    onnx.ModelProto
        The same inputs, outputs, metadata and results up to rounding.
    """
    model = ir.from_proto(proto)
    IdentityEliminationPass()(model)
    while any([rewrite(model.graph) for rewrite in _REWRITES]):  # a list: each of them gets its turn in a round
        RemoveUnusedNodesPass()(model)
    largest = max(
        (value.const_value.size for value in model.graph.initializers.values() if value.const_value), default=0
    )
    DeduplicateInitializersPass(size_limit=largest)(model)
    RemoveUnusedNodesPass()(model)
    return ir.to_proto(model)


def simplify_file(path: Path, inputs: Inputs | None = None) -> None:
    """Simplify an ONNX file in place, atomically, if the result computes the same.

    Parameters
    ----------
    path : Path
        The file; it stays as it is if anything fails.
    inputs : mapping of str to ndarray, optional
        What to compare both networks on; by default random numbers, a batch of 2, 64 for other dynamic axes.

    Raises
    ------
    ArtifactError
        If the file is no valid ONNX network, or the simplified one is not or differs by more than 1e-4 of its largest
        output.
    """
    try:
        onnx.checker.check_model(path, full_check=True)
        before = onnx.load(path)
        after = simplify(before)
        onnx.checker.check_model(after, full_check=True)
    except (OSError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(
            f"{path} cannot be simplified ({first_line(error)}); export the network again or deploy it as it is."
        ) from error
    difference = _difference(before, after, inputs)
    if not difference <= _TOLERANCE:
        raise ArtifactError(
            f"{path}: the simplified network differs by {difference:.1e} (allowed {_TOLERANCE:.0e}); deploy the file "
            "as it is and report the network and its plan as a defect."
        )
    with replacing(path) as new:
        onnx.save(after, new)


def _difference(before: onnx.ModelProto, after: onnx.ModelProto, inputs: Inputs | None) -> float:
    """Largest difference of two networks' outputs, relative to the largest output."""
    results = []
    for proto in (before, after):
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        inputs = inputs or {entry.name: _draw(entry) for entry in session.get_inputs()}
        results.append(session.run(None, dict(inputs)))
    return max(
        float(np.abs(a.astype(np.float64) - b).max() / max(float(np.abs(a).max()), 1e-12))
        for a, b in zip(*results, strict=True)
    )


def _draw(entry: onnxruntime.NodeArg) -> npt.NDArray[Any]:
    shape = [
        size if isinstance(size, int) else (_BATCH if axis == 0 else _SIDE) for axis, size in enumerate(entry.shape)
    ]
    generator = np.random.default_rng(0)
    if "float" in entry.type:
        return generator.standard_normal(shape, dtype=np.float32)
    return generator.integers(0, 256, shape, dtype=np.uint8)
