"""Write a network as the engine's one file, and check what was written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from hscc.engine.program import Program
from hscc.engine.program_file import WEIGHT_FORMATS, WeightFormat, read_program, write_program
from hscc.engine.quantisation import Divergence, quantise_program
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
# Of an int8 file, from the reference. Sums of integers are exact, but float32 before a rounding may fall on the other
# side of a tie, and what follows is then a few steps off. Ties are rarer than rounding: half of all outputs differ by
# no more than the first, and all together by no more than this share of what rounding to 8 bits changes.
_INT8_TOLERANCE = 1e-3
_TIES = 0.5
_NOT_OF_AN_ENGINE = ("input", "output", "preprocessing")  # entries of the card of a file that takes pictures

EnginePrecision: TypeAlias = Literal["float32", "int8"]
PRECISIONS: tuple[EnginePrecision, ...] = ("float32", "int8")
_CHECKED = 8  # calibration images that an int8 file is checked on


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
        Largest difference of an output from torch's, relative to the largest output; of an int8 file, from what the
        reference computes with the same integers.
    checked_by : str
        "engine" if the C++ library ran the file, "reference" if torch did because the library is missing.
    divergence : Divergence, optional
        Of an int8 file, from the network in float32 on the images.
    kept_float : tuple of str
        Of an int8 file, the convolutions and linear layers that stayed float32.
    """

    path: Path
    size: int
    operations: dict[str, int]
    difference: float
    checked_by: str
    divergence: Divergence | None = None
    kept_float: tuple[str, ...] = ()


def export_engine(
    network: nn.Module,
    path: Path | str,
    preprocessing: Preprocessing | None = None,
    card: DeploymentCard | None = None,
    *,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    images: torch.Tensor | Iterable[torch.Tensor | Sequence[torch.Tensor]] | None = None,
    weights: WeightFormat = "float32",
    precision: EnginePrecision = "float32",
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
    images : Tensor, or iterable of batches
        Inputs (N, C, ...) to check the file on beside drawn ones, and to calibrate int8 on: some hundreds of what the
        network will see, but no test images. A batch is a tensor, or one for each input of a network with several; a
        single batch of these may be given as it is.
    weights : {"float32", "float16", "bfloat16"}
        Format of the matrices in the file. The arithmetic is float32.
    precision : {"float32", "int8"}
        "int8": convolutions and linear layers run in 8-bit integers, except where the outputs on the images would
        change too much; see `hscc.engine.quantisation`.
    tolerance : float, optional
        Largest difference of an output from torch's, relative to the largest output; by default 1e-4 for float32, 1e-2
        for float16 and 5e-2 for bfloat16. For int8 from the reference's, by default 1e-3 for half of the outputs; the
        others must differ by less than int8 does from float32.

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
    if precision not in PRECISIONS:
        raise ExportError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    shapes = _input_shapes(network, input_shape)
    ready = prepared(network)
    given = _batches(images, len(shapes))
    if precision == "int8" and not given:
        raise ExportError("precision='int8' needs images to calibrate on; pass batches of training images.")
    batches = [_drawn(shapes, count) for count in (1, 3)]
    batches += [[part[:_CHECKED] for part in given[0]]] if precision == "int8" else given
    expected = [_outputs(ready, batch) for batch in batches]
    program, small = trace_prepared(ready, shapes), None
    exact = expected
    if precision == "int8":
        exact = [_by_reference(program, batch) for batch in batches]
        _check(path, exact, expected, _TOLERANCES["float32"])
        small = quantise_program(program, given)
        program = replace(small.program, card=program.card)
    program.card.update(_described(network, preprocessing, card, shapes))
    content = write_program(program, weights)
    with replacing(path, shared=True) as partial:
        partial.write_bytes(content)
        found, checked_by = _run(partial, content, batches)
        if small is None:
            difference = _check(path, found, expected, _TOLERANCES[weights] if tolerance is None else tolerance)
        else:
            stored = read_program(content)
            rounded = [_by_reference(stored, batch) for batch in batches]
            allowed = _INT8_TOLERANCE if tolerance is None else tolerance
            difference = _check_rounded(path, found, rounded, exact, allowed)
    made = (path, len(content), _kinds(program), difference, checked_by)
    return EngineExport(*made) if small is None else EngineExport(*made, small.divergence, small.kept_float)


def _check(
    path: Path, found: Sequence[Sequence[np.ndarray]], expected: Sequence[Sequence[np.ndarray]], allowed: float
) -> float:
    """Return the largest difference, relative to the largest output of its batch; refuse more than is allowed."""
    largest = float(np.max([_relative(*pair).max() for pair in _pairs(found, expected)]))
    if not largest <= allowed:
        raise _differs(path, largest, allowed)
    return largest


def _check_rounded(
    path: Path,
    found: Sequence[Sequence[np.ndarray]],
    rounded: Sequence[Sequence[np.ndarray]],
    exact: Sequence[Sequence[np.ndarray]],
    allowed: float,
) -> float:
    """Return the largest difference from the same integers of the reference; refuse more than ties explain.

    Parameters
    ----------
    path : Path
        For the message.
    found, rounded, exact : sequence of sequence of ndarray
        Outputs of each batch: the file's, the reference's with the same integers, and the reference's in float32.
    allowed : float
        For half of the outputs, relative to the largest of their batch.
    """
    differences = [_relative(*pair) for pair in _pairs(found, rounded)]
    roundings = [_relative(*pair) for pair in _pairs(exact, rounded)]
    largest = float(np.max([part.max() for part in differences]))
    median = float(np.median(np.concatenate([part.reshape(-1) for part in differences])))
    ours, theirs = (
        math.sqrt(sum(float(np.square(part, dtype=np.float64).sum()) for part in parts))
        for parts in (differences, roundings)
    )
    exceeds = any(
        part.max() > max(rounding.max(), allowed) for part, rounding in zip(differences, roundings, strict=True)
    )
    if exceeds or not (median <= allowed and (ours <= _TIES * theirs or largest <= allowed)):
        raise _differs(path, largest, allowed)
    return largest


def _differs(path: Path, largest: float, allowed: float) -> ExportError:
    return ExportError(
        f"{path}: an output differs from the network's by {largest:.1e} of the largest (allowed {allowed:.0e}); report "
        "the network as a defect, and keep the portable ONNX file (hscc.export_onnx)."
    )


def _pairs(
    found: Sequence[Sequence[np.ndarray]], expected: Sequence[Sequence[np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for outputs, wanted in zip(found, expected, strict=True):
        yield from zip(outputs, wanted, strict=True)


def _batches(images: Any, inputs: int) -> list[list[torch.Tensor]]:
    """Return the images as batches of one tensor for each input."""
    if images is None:
        return []
    given = [images] if isinstance(images, torch.Tensor) else list(images)
    if inputs > 1 and all(isinstance(part, torch.Tensor) for part in given):
        given = [given]
    return [[batch] if isinstance(batch, torch.Tensor) else list(batch) for batch in given]


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


def _outputs(network: nn.Module, inputs: Sequence[torch.Tensor]) -> list[np.ndarray]:
    try:
        with torch.no_grad():
            outputs = pytree.tree_leaves(network(*(given.float() for given in inputs)))
    except Exception as error:  # anything: it is the network's own code
        shapes = [tuple(given.shape) for given in inputs]
        raise ExportError(
            f"the network cannot run on inputs of shape {shapes} ({first_line(error)}); pass its input_shape."
        ) from error
    return [output.numpy() for output in outputs if isinstance(output, torch.Tensor)]


def _by_reference(program: Program, inputs: Sequence[torch.Tensor]) -> list[np.ndarray]:
    with torch.no_grad():
        return [output.numpy() for output in run_program(program, [given.float() for given in inputs])]


def _run(path: Path, content: bytes, batches: Sequence[Sequence[torch.Tensor]]) -> tuple[list[list[Any]], str]:
    """Run the file by the C++ library, or by the reference where the library is missing."""
    from hscc.engine.library import available

    if not available():
        program = read_program(content, str(path))
        return [_by_reference(program, batch) for batch in batches], "reference"
    from hscc.engine.engine import Engine

    with Engine(path) as engine:
        outputs = [engine(*(given.float().numpy() for given in batch)) for batch in batches]
    return [list(found) if isinstance(found, tuple) else [found] for found in outputs], "engine"


def _relative(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Differences of the outputs of a batch, relative to its largest expected one; in the shape of those expected."""
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    differences: np.ndarray = np.abs(found.reshape(expected.shape) - expected) / scale
    return differences


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

        preprocessing = Preprocessing.of(shapes[0])
    if preprocessing is not None:
        from hscc.export.card import card_of

        entries = (card or card_of(network, 0)).entries(preprocessing)
        described |= {name: text for name, text in entries.items() if name not in _NOT_OF_AN_ENGINE}
        if card is None:
            del described["classes"]
        described["preprocessing"] = {**asdict(preprocessing), "text": preprocessing.describe()}
    return described
