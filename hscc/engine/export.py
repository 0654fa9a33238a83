"""Write a network as the engine's one file, and check what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from hscc.engine.program import Program
from hscc.engine.program_file import WEIGHT_FORMATS, WeightFormat, read_program, write_program
from hscc.engine.reference import run_program
from hscc.engine.trace import prepared, trace_prepared
from hscc.errors import ExportError, first_line
from hscc.files import replacing
from hscc.plans import Plan

if TYPE_CHECKING:
    from hscc.export.card import DeploymentCard
    from hscc.export.preprocessing import Preprocessing

# Largest difference from torch, relative to the largest output: rounding of the arithmetic, and of narrow weights.
_TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
_NOT_OF_AN_ENGINE = ("input", "output", "preprocessing")  # entries of the card of a file that takes pictures


@dataclass(frozen=True)
class EngineExport:
    """What `export_engine` wrote.

    Attributes
    ----------
    path : Path
        The file.
    size : int
        Its bytes.
    operations : dict of str to int
        How many of each kind.
    difference : float
        Largest difference of an output from torch's, relative to the largest output.
    checked_by : str
        "engine" if the C++ library ran the file, "reference" if torch did because the library is missing.
    """

    path: Path
    size: int
    operations: dict[str, int]
    difference: float
    checked_by: str


def export_engine(
    network: nn.Module,
    path: Path | str,
    preprocessing: Preprocessing | None = None,
    card: DeploymentCard | None = None,
    *,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    images: torch.Tensor | Sequence[torch.Tensor] | None = None,
    weights: WeightFormat = "float32",
    tolerance: float | None = None,
) -> EngineExport:
    """Write a network as one file that `hscc.Engine`, or a C program, runs without torch.

    Parameters
    ----------
    network : nn.Module
        Any number of inputs and outputs; it is not changed.
    path : Path
        Target file, replaced atomically; by custom it ends in ``.hscc``.
    preprocessing : Preprocessing, optional
        What the network was trained behind. It is written down in the card: the engine takes what comes out of it.
    card : DeploymentCard, optional
        Written into the file; by default what a compressed network's plan says.
    input_shape : sequence of int, or one such sequence for each input
        Without the batch: (C,), (C, L), (C, H, W) or (C, D, H, W). By default that of the calibration of a compressed
        network.
    images : Tensor, or one for each input
        Inputs (N, C, ...) to check the file on beside drawn ones.
    weights : {"float32", "float16", "bfloat16"}
        Format of the matrices in the file. The arithmetic is float32.
    tolerance : float, optional
        Largest difference of an output from torch's, relative to the largest output; by default 1e-4 for float32, 1e-2
        for float16 and 5e-2 for bfloat16.

    Returns
    -------
    EngineExport
        With the difference that was found.

    Raises
    ------
    ExportError
        If the network needs what the engine does not have, which is named, or the file computes something else.
    """
    path = Path(path)
    if weights not in WEIGHT_FORMATS:
        raise ExportError(f"weights is {weights!r}; choose one of {', '.join(WEIGHT_FORMATS)}.")
    shapes = _input_shapes(network, input_shape)
    ready = prepared(network)
    batches = [_drawn(shapes, count) for count in (1, 3)]
    if images is not None:
        batches.append([images] if isinstance(images, torch.Tensor) else list(images))
    expected = [_outputs(ready, batch) for batch in batches]
    program = trace_prepared(ready, shapes)
    program.card.update(_described(network, preprocessing, card, shapes))
    content = write_program(program, weights)
    with replacing(path, shared=True) as partial:
        partial.write_bytes(content)
        found, checked_by = _run(partial, content, batches)
        difference = max(
            _difference(a, b) for outputs, wanted in zip(found, expected, strict=True)
            for a, b in zip(outputs, wanted, strict=True)
        )  # fmt: skip
        allowed = _TOLERANCES[weights] if tolerance is None else tolerance
        if not difference <= allowed:
            raise ExportError(
                f"{path}: an output differs from the network's by {difference:.1e} of the largest (allowed "
                f"{allowed:.0e}); report the network as a defect, and keep the portable ONNX file (hscc.export_onnx)."
            )
    return EngineExport(path, len(content), _kinds(program), difference, checked_by)


def _input_shapes(network: nn.Module, given: Any) -> list[tuple[int, ...]]:
    if given is None:
        plan = getattr(network, "hscc_plan", None)
        if not isinstance(plan, Plan):
            raise ExportError("input_shape is missing; pass that of one image, such as input_shape=(3, 224, 224).")
        given = plan.input_shape
    shapes = [given] if all(isinstance(size, int) for size in given) else list(given)
    if not shapes or any(not 1 <= len(shape) <= 4 or min(shape) < 1 for shape in shapes):
        raise ExportError(f"input_shape is {given}; pass channels and up to three sizes, without the batch.")
    return [tuple(int(size) for size in shape) for shape in shapes]


def _drawn(shapes: Sequence[tuple[int, ...]], count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(count, *shape, generator=generator) for shape in shapes]


def _outputs(network: nn.Module, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    try:
        with torch.no_grad():
            outputs = pytree.tree_leaves(network(*(given.float() for given in inputs)))
    except Exception as error:  # anything: it is the network's own code
        shapes = [tuple(given.shape) for given in inputs]
        raise ExportError(
            f"the network cannot run on inputs of shape {shapes} ({first_line(error)}); pass its input_shape."
        ) from error
    return [output for output in outputs if isinstance(output, torch.Tensor)]


def _run(path: Path, content: bytes, batches: Sequence[Sequence[torch.Tensor]]) -> tuple[list[list[Any]], str]:
    """Run the file by the C++ library, or by the reference where the library is missing."""
    from hscc.engine.library import available

    if not available():
        program = read_program(content, str(path))
        with torch.no_grad():
            return [
                [o.numpy() for o in run_program(program, [x.float() for x in batch])] for batch in batches
            ], "reference"
    from hscc.engine.engine import Engine

    with Engine(path) as engine:
        outputs = [engine(*(given.float().numpy() for given in batch)) for batch in batches]
    return [list(found) if isinstance(found, tuple) else [found] for found in outputs], "engine"


def _difference(found: np.ndarray, wanted: torch.Tensor) -> float:
    expected = wanted.numpy()
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(found.reshape(expected.shape) - expected).max()) / scale


def _kinds(program: Program) -> dict[str, int]:
    return dict(Counter(type(operation).__name__ for operation in program.operations))


def _described(
    network: nn.Module, preprocessing: Preprocessing | None, card: DeploymentCard | None,
    shapes: Sequence[tuple[int, ...]],
) -> dict[str, object]:  # fmt: skip
    described: dict[str, object] = {"backbone": type(network).__name__}
    plan = getattr(network, "hscc_plan", None)
    if isinstance(plan, Plan):
        described |= {"method": plan.method, "budget": str(plan.budget), "plan": str(plan)}
    if card is not None and preprocessing is None:
        from hscc.export.preprocessing import Preprocessing

        preprocessing = Preprocessing.of(shapes[0])  # type: ignore[arg-type]
    if preprocessing is not None:
        from hscc.export.card import card_of

        entries = (card or card_of(network, 0)).entries(preprocessing)
        described |= {name: text for name, text in entries.items() if name not in _NOT_OF_AN_ENGINE}
        if card is None:
            del described["classes"]
        described["preprocessing"] = {**asdict(preprocessing), "text": preprocessing.describe()}
    return described
