"""Convolutions and linear layers of a program in 8-bit integers, those left out that would cost too much.

Weights get one scale per output row, what a matrix reads gets one scale and zero point (Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018), each the one with the
least squared error among several. Nothing non-linear stands between the matrices of a factored layer, so their hidden
channels are first brought to one range, which changes no result (as Nagel et al., "Data-Free Quantization Through
Weight Equalization and Bias Correction", ICCV 2019, do across layers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf, log, prod, sqrt
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from hscc.engine.program import (
    Array,
    Convolution,
    Linear,
    Matrix,
    Operation,
    Program,
    Quantisation,
    QuantisedConvolution,
    QuantisedLinear,
    QuantisedRegion,
    RegionWeights,
    Softmax,
)
from hscc.engine.reference import run_program

Batch: TypeAlias = Sequence[torch.Tensor]  # one tensor for each input
Stage: TypeAlias = tuple[int, str, int]  # place of the operation; "input", "projected" or "hidden"; region

MOST_KL = 1e-3
MOST_DIFFERENCE = 0.05

_LEAST_SCALE = float(np.finfo(np.float32).tiny)  # with an inverse in float32
_SHARES = np.linspace(1.0, 0.3, 15)  # of a range, tried as its end
_NEW_VALUES = 1e6  # of a channel, that a range shall hold
_DEVIATIONS = 3.0  # from zero, that a channel is expected to reach
_SAMPLE = 1 << 17  # numbers kept per stage
_MOST_INPUTS = 65793  # of a sum: that many products of 255 and 128 fit into 32 bits, see native/src/quantised.cpp
_LEAST_GROUP = 3  # inputs: integer products take them in fours, so depthwise layers gain nothing
_Layer = TypeVar("_Layer", bound=Operation)


@dataclass(frozen=True)
class Divergence:
    """How far outputs on images are from those of the network in floats; the largest over the outputs.

    Attributes
    ----------
    largest : float
        Largest difference, relative to the largest output.
    mean : float
        Mean difference, relative to the mean size of an output.
    kl : float or None
        Mean Kullback-Leibler divergence of the class probabilities, in nats; None where no output has classes.
    """

    largest: float
    mean: float
    kl: float | None

    def within(self, most_kl: float, most_difference: float) -> bool:
        """Whether it is small enough: the mean difference, and the KL where there are classes."""
        return self.mean <= most_difference and (self.kl is None or self.kl <= most_kl)


@dataclass(frozen=True)
class QuantisedProgram:
    """What `quantise_program` made.

    Attributes
    ----------
    program : Program
    divergence : Divergence
        On the images.
    kept_float : tuple of str
        Convolutions and linear layers that stayed float32: place, kind, and sizes of input and output.
    """

    program: Program
    divergence: Divergence
    kept_float: tuple[str, ...]


def quantise_program(
    program: Program, batches: Sequence[Batch], most_kl: float = MOST_KL, most_difference: float = MOST_DIFFERENCE
) -> QuantisedProgram:
    """Quantise a program's convolutions and linear layers, but for those that make its outputs differ too much.

    All are quantised at first. While the outputs on the images differ by more than is allowed, the layer that causes
    most of it for its MACs becomes float32 again.

    Parameters
    ----------
    program : Program
        In float32; left as it was.
    batches : sequence of sequence of Tensor, shape (N, C, ...)
        Images such as the network will see, some hundreds for a good result.
    most_kl : float
        Allowed mean KL divergence of the class probabilities. Of images that the network was trained on, and is sure
        about, it is smaller than of others, so `most_difference` counts too.
    most_difference : float
        Allowed mean difference of an output, relative to the mean size of an output.
    """
    observed, expected = _observe(program, batches)
    small = {
        place: _quantised(place, operation, observed)
        for place, operation in enumerate(program.operations)
        if _gains(operation) and (place, "input", 0) in observed
    }

    def measure(places: Sequence[int], batches: Sequence[Batch] = batches) -> Divergence:
        return _divergence(program, _run(_with(program, small, places), batches), expected)

    chosen = list(small)
    found = measure(chosen)
    if not found.within(most_kl, most_difference):
        costs = {place: measure([place], batches[:1]).mean / _macs(program, place) for place in small}
        for place in sorted(costs, key=lambda place: costs[place], reverse=True):
            chosen.remove(place)
            found = measure(chosen)
            if found.within(most_kl, most_difference):
                break
    kept = [
        _name(program, place) for place, operation in enumerate(program.operations)
        if isinstance(operation, Convolution | Linear) and place not in chosen
    ]  # fmt: skip
    return QuantisedProgram(_with(program, small, chosen), found, tuple(kept))


@dataclass
class _Observed:
    """What a matrix reads: the range of each channel, and a sample of positions, with the values of their channels."""

    low: Array
    high: Array
    count: int = 0  # of values per channel
    samples: list[Array] = field(default_factory=list)

    def sample(self) -> Array:
        return np.concatenate(self.samples, 1)


def _observe(program: Program, batches: Sequence[Batch]) -> tuple[dict[Stage, _Observed], list[list[torch.Tensor]]]:
    """Run the program; return what its matrices read, and its outputs."""
    observed: dict[Stage, _Observed] = {}

    def watch(place: int, stage: str, region: int, values: torch.Tensor) -> None:
        if not _gains(program.operations[place]):
            return
        # An input has one scale, so its channels need not be told apart; those of the others are equalised.
        rows = values.reshape(1, -1) if stage == "input" else values
        if stage == "projected":
            rows = values.transpose(0, 1).flatten(1)
        if not rows.shape[1]:
            return
        low, high = rows.amin(1).numpy(), rows.amax(1).numpy()
        known = observed.setdefault((place, stage, region), _Observed(low, high))
        known.count += rows.shape[1]
        known.low, known.high = np.minimum(known.low, low), np.maximum(known.high, high)
        most = max(_SAMPLE // (len(rows) * len(batches)), 1)
        step = -(-rows.shape[1] // most) | 1  # odd, so as not to meet the same column of every row
        known.samples.append(rows[:, ::step].numpy().copy())

    return observed, _run(program, batches, watch)


def _run(
    program: Program, batches: Sequence[Batch], watch: Callable[[int, str, int, torch.Tensor], None] | None = None
) -> list[list[torch.Tensor]]:
    with torch.inference_mode():
        return [run_program(program, [given.float() for given in batch], watch) for batch in batches]


def _quantised(place: int, operation: Operation, observed: dict[Stage, _Observed]) -> Operation:
    if isinstance(operation, Linear):
        return _quantised_linear(place, operation, observed)
    assert isinstance(operation, Convolution)
    return _quantised_convolution(place, operation, observed)


def _quantised_linear(place: int, operation: Linear, observed: dict[Stage, _Observed]) -> QuantisedLinear:
    encoder, weight, hidden = operation.encoder, operation.weight, None
    if encoder is not None:
        encoder, weight, hidden = _equalised(encoder, weight, observed[place, "hidden", 0])
    made, scale = quantise_rows(weight)
    before = (None, None) if encoder is None else quantise_rows(encoder)
    return QuantisedLinear(
        operation.inputs, operation.output, made, operation.bias, before[0], operation.activation, scale, before[1],
        _values(observed[place, "input", 0]), hidden,
    )  # fmt: skip


def _quantised_convolution(place: int, operation: Convolution, observed: dict[Stage, _Observed]) -> Operation:
    projection, regions, projected = operation.projection, operation.regions, None
    if projection is not None:
        seen = observed[place, "projected", 0]
        sizes = _sizes(seen)
        projection, projected = (projection / sizes[:, None]).astype(np.float32), _values(seen, sizes)
        regions = tuple(replace(r, core=_scaled_inputs(r.core, sizes, operation.groups)) for r in regions)
    before = (None, None) if projection is None else quantise_rows(projection)
    return QuantisedConvolution(
        operation.inputs, operation.output, operation.kernel, operation.stride, operation.pad, operation.dilation,
        tuple(_quantised_region(r, observed.get((place, "hidden", number))) for number, r in enumerate(regions)),
        operation.up, operation.groups, before[0], operation.permutation, operation.region_index,
        operation.activation, before[1], _values(observed[place, "input", 0]), projected,
    )  # fmt: skip


def _quantised_region(region: RegionWeights, hidden: _Observed | None) -> QuantisedRegion:
    if region.core is None:
        return QuantisedRegion(None, None, region.bias)
    core, decoder, values = region.core, region.decoder, None
    decoded: tuple[npt.NDArray[np.int8] | None, Array | None] = (None, None)
    if decoder is not None:
        if hidden is None:  # the region has no position
            values = Quantisation(1.0, 0)
        else:
            core, decoder, values = _equalised(core, decoder, hidden)
        decoded = quantise_rows(decoder)
    made, scale = quantise_rows(core)
    return QuantisedRegion(made, decoded[0], region.bias, scale, decoded[1], values)


def _equalised(first: Array, second: Array, hidden: _Observed) -> tuple[Array, Array, Quantisation]:
    """Give the channels between two matrices the range 1; their product stays."""
    sizes = _sizes(hidden)
    rows = sizes.reshape(-1, *[1] * (first.ndim - 1))
    return (first / rows).astype(np.float32), (second * sizes).astype(np.float32), _values(hidden, sizes)


def _scaled_inputs(core: Array | None, sizes: Array, groups: int) -> Array | None:
    """Multiply what a core's weights read by one factor per channel."""
    if core is None:
        return None
    outputs, *kernel, each = core.shape
    split = core.reshape(groups, outputs // groups, -1, each) * sizes.reshape(groups, 1, 1, each)
    return np.ascontiguousarray(split.reshape(outputs, *kernel, each), np.float32)


def _sizes(seen: _Observed) -> Array:
    """Size of each channel that others are brought to: of the largest value, which few values do not tell well."""
    deviation = np.sqrt(np.square(seen.sample()).mean(1))
    sizes = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), _DEVIATIONS * deviation)
    return np.where(sizes > np.finfo(np.float32).tiny, sizes, 1).astype(np.float32)


def _values(seen: _Observed, sizes: Array | None = None) -> Quantisation:
    by = np.ones((1, 1), np.float32) if sizes is None else sizes[:, None]
    low, high = (seen.low / by[:, 0]).min(), (seen.high / by[:, 0]).max()
    chosen = choose_quantisation(seen.sample() / by, float(low), float(high))
    # The largest of n numbers of a normal distribution grows as the root of log n: leave room for those of new images.
    room = max(sqrt(log(_NEW_VALUES) / log(max(seen.count, 2))), 1.0)
    scale = chosen.scale * room
    return _quantisation(-chosen.zero * scale, (255 - chosen.zero) * scale)


def choose_quantisation(sample: Array, low: float, high: float) -> Quantisation:
    """Find the scale and zero point of least squared error for numbers in a range.

    Parameters
    ----------
    sample : ndarray of float32
        Of the numbers.
    low, high : float
        Range of all of them. Parts of it are tried, first at the upper end, then at the lower; 0 is always inside.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    best, least = _quantisation(low, high), inf
    kept = 1.0
    for share in _SHARES:
        tried = _quantisation(low, high * share)
        if (error := _squared_error(sample, tried)) < least:
            best, least, kept = tried, error, float(share)
    for share in _SHARES if low < 0 else ():
        tried = _quantisation(low * share, high * kept)
        if (error := _squared_error(sample, tried)) < least:
            best, least = tried, error
    return best


def _quantisation(low: float, high: float) -> Quantisation:
    scale = float(np.float32((high - low) / 255))
    scale = max(scale, _LEAST_SCALE) if scale else 1.0
    return Quantisation(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


def _squared_error(sample: Array, values: Quantisation) -> float:
    integers = np.clip(np.rint(sample * np.float32(1 / values.scale)), -values.zero, 255 - values.zero)
    return float(np.square(integers * np.float32(values.scale) - sample).mean())


def quantise_rows(weight: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """Quantise a matrix, one scale per row, each of least squared error.

    Parameters
    ----------
    weight : ndarray of float32, shape (rows, ...)

    Returns
    -------
    ndarray of int8, same shape
        -127 to 127.
    ndarray of float32, shape (rows,)
        ``weight`` is about ``integers * scale`` row by row.
    """
    rows = weight.reshape(len(weight), -1)
    largest = np.abs(rows).max(1).astype(np.float32)
    whole = np.where(largest > np.finfo(np.float32).tiny * 127, largest / 127, 1).astype(np.float32)
    best, least = whole, np.full(len(rows), np.inf)
    for share in _SHARES:
        scale = (whole * np.float32(share)).astype(np.float32)
        error = np.square(_integers(rows, scale) * scale[:, None] - rows).sum(1)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return _integers(rows, best).astype(np.int8).reshape(weight.shape), best


def _integers(rows: Array, scale: Array) -> Array:
    integers: Array = np.clip(np.rint(rows / scale[:, None]), -127, 127)
    return integers


def _gains(operation: Operation) -> bool:
    """Whether integer products may be faster, and their sums fit."""
    if isinstance(operation, Linear):
        return _sums_fit(operation.encoder, operation.weight)
    if not isinstance(operation, Convolution) or all(region.core is None for region in operation.regions):
        return False
    if not _sums_fit(operation.projection, *(part for each in operation.regions for part in (each.core, each.decoder))):
        return False
    cores = [region.core for region in operation.regions if region.core is not None]
    return operation.groups == 1 or all(core.shape[-1] >= _LEAST_GROUP for core in cores)


def _sums_fit(*matrices: Matrix | None) -> bool:
    return all(matrix is None or matrix[0].size <= _MOST_INPUTS for matrix in matrices)


def _with(program: Program, small: dict[int, Operation], places: Sequence[int]) -> Program:
    chosen = set(places)
    operations = [small[place] if place in chosen else op for place, op in enumerate(program.operations)]
    return replace(program, operations=operations)


def _macs(program: Program, place: int) -> float:
    operation = program.operations[place]
    if isinstance(operation, Linear):
        return float(operation.weight.size + (0 if operation.encoder is None else operation.encoder.size))
    assert isinstance(operation, Convolution)
    grid = program.values[operation.output].grid
    shares = [1.0]
    if operation.region_index is not None:
        shares = [float((operation.region_index == number).mean()) for number in range(len(operation.regions))]
    weights = sum(
        share * sum(matrix.size for matrix in (region.core, region.decoder) if matrix is not None)
        for share, region in zip(shares, operation.regions, strict=True)
    )
    projection = 0 if operation.projection is None else operation.projection.size
    positions = program.values[operation.inputs[0]].positions
    return weights * prod(grid) / prod(operation.up) + projection * positions


def _divergence(program: Program, found: list[list[torch.Tensor]], expected: list[list[torch.Tensor]]) -> Divergence:
    parts = []
    for number, value in enumerate(program.outputs):
        new, old = (torch.cat([outputs[number] for outputs in runs[: len(found)]]) for runs in (found, expected))
        difference, size = (new - old).abs(), old.abs()
        parts.append(
            Divergence(
                float(difference.max() / size.max().clamp(min=1e-30)),
                float(difference.mean() / size.mean().clamp(min=1e-30)),
                _kl(program, value, old, new),
            )
        )
    kls = [part.kl for part in parts if part.kl is not None]
    return Divergence(
        max(part.largest for part in parts), max(part.mean for part in parts), max(kls) if kls else None
    )  # fmt: skip


def _kl(program: Program, value: int, old: torch.Tensor, new: torch.Tensor) -> float | None:
    """Mean divergence of the probabilities of classes; an output of one position is taken for their logits."""
    shape = program.values[value]
    if shape.positions > 1 or shape.channels < 2:
        return None
    probabilities = any(isinstance(op, Softmax) and op.output == value for op in program.operations)
    old, new = (x.flatten(1).double() for x in (old, new))
    old, new = (x.clamp(min=1e-12).log() if probabilities else x.log_softmax(1) for x in (old, new))
    return max(float((old.exp() * (old - new)).sum(1).mean()), 0.0)


def _name(program: Program, place: int) -> str:
    operation = program.operations[place]
    given, made = (program.values[value] for value in (operation.inputs[0], operation.output))
    sizes = ["x".join(map(str, (shape.channels, *shape.grid))) for shape in (given, made)]
    return f"{place} {type(operation).__name__} {sizes[0]} -> {sizes[1]}"
