"""Fewer, larger operations: what stands around a convolution or linear layer moves into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from hscc.engine.program import (
    NO_ACTIVATION,
    Affine,
    Array,
    Binary,
    Concat,
    Convolution,
    Linear,
    Operation,
    Pad,
    Program,
    RegionWeights,
    Reshape,
    Select,
    Triple,
)

_ONE, _NONE = (1, 1, 1), (0, 0, 0)


def simplify_program(program: Program) -> Program:
    """Merge operations, and drop values and operations that nothing reads.

    A forward sweep: each operation tries to merge with those that wrote its inputs, which are merged themselves by
    then. An operation goes into another only where nothing else reads the value between them.
    """
    return _Sweep(_without_unread(program)).run()


class _Sweep:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.readers = Counter(value for operation in program.operations for value in operation.inputs)
        self.readers.update(program.outputs)
        self.operations: dict[int, Operation] = {}  # by the value they write, in the order of execution
        self.renamed: dict[int, int] = {}

    def run(self) -> Program:
        for operation in self.program.operations:
            inputs = tuple(self.renamed.get(value, value) for value in operation.inputs)
            self._take(replace(operation, inputs=inputs))
        outputs = [self.renamed.get(value, value) for value in self.program.outputs]
        merged = replace(self.program, outputs=outputs, operations=list(self.operations.values()))
        return _without_unread(merged)

    def _take(self, operation: Operation) -> None:
        changed: Operation | None = operation
        while changed is not None:
            operation, changed = changed, self._merged(changed)
        if _does_nothing(operation) and operation.output not in self.program.outputs:
            self.renamed[operation.output] = operation.inputs[0]
            self.readers[operation.inputs[0]] += self.readers[operation.output] - 1
            return
        self.operations[operation.output] = operation

    def _merged(self, operation: Operation) -> Operation | None:
        """Merge an operation with one of those it reads from, which then is no longer there; None if it cannot."""
        for place, value in enumerate(operation.inputs):
            writer = self.operations.get(value)
            if writer is None or self.readers[value] != 1:
                continue
            for merge in _MERGES:
                merged = merge(self.program, writer, operation, place)
                if merged is not None:
                    del self.operations[value]
                    return merged
        return None


def _does_nothing(operation: Operation) -> bool:
    if isinstance(operation, Affine):
        return operation.scale is operation.shift is None and operation.activation.name == "none"
    return isinstance(operation, Concat) and len(operation.inputs) == 1


# --- Merges: of a writer and the only operation that reads its value, at the given place among the inputs -------------


def _affine_into_writer(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    if not isinstance(operation, Affine) or getattr(writer, "activation", None) != NO_ACTIVATION:
        return None
    plain = operation.scale is operation.shift is None
    moved: dict[str, Any] = {"output": operation.output, "activation": operation.activation}
    if plain:
        return replace(writer, **moved)
    scale, shift = operation.scale, operation.shift
    if isinstance(writer, Affine):
        scaled = _product(writer.scale, scale)
        shifted = _sum(_product(writer.shift, scale) if writer.shift is not None else None, shift)
        return replace(writer, scale=scaled, shift=shifted, **moved)
    if len(writer.inputs) == 2 or not isinstance(writer, Convolution | Linear):
        return None
    if isinstance(writer, Linear):
        return replace(
            writer, weight=_rows(writer.weight, scale), bias=_shifted(writer.bias, scale, shift), **moved
        )  # fmt: skip
    regions = []
    for region in writer.regions:
        core, decoder = region.core, region.decoder
        if decoder is not None:
            decoder = _rows(decoder, scale)
        elif core is not None:
            core = _rows(core, scale)
        regions.append(RegionWeights(core, decoder, _shifted(region.bias, scale, shift)))
    return replace(writer, regions=tuple(regions), **moved)


def _residual_into_writer(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    if not isinstance(operation, Binary) or operation.which != "add" or not isinstance(writer, Convolution | Linear):
        return None
    other = operation.inputs[1 - place]
    same = program.values[other] == program.values[operation.output] == program.values[writer.output]
    if not same or len(writer.inputs) == 2 or writer.activation != NO_ACTIVATION or other == writer.output:
        return None
    return replace(
        writer, inputs=(writer.inputs[0], other), output=operation.output, activation=operation.activation
    )  # fmt: skip


def _pad_into_convolution(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    if not isinstance(writer, Pad) or not isinstance(operation, Convolution) or place:
        return None
    if writer.value or min(*writer.before, *writer.after) < 0:
        return None
    pad = _triple(a + b for a, b in zip(operation.pad, writer.before, strict=True))
    return replace(operation, inputs=(writer.inputs[0], *operation.inputs[1:]), pad=pad)


def _select_into_convolution(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    """A reordering of all channels costs nothing in the weights; groups need it as a permutation."""
    if not isinstance(writer, Select) or not isinstance(operation, Convolution) or place:
        return None
    channels = program.values[writer.inputs[0]].channels
    order = writer.channels
    if sorted(order.tolist()) != list(range(channels)):
        return None
    moved = (writer.inputs[0], *operation.inputs[1:])
    if operation.permutation is not None:
        return replace(operation, inputs=moved, permutation=order[operation.permutation])
    back = np.argsort(order)
    if operation.projection is not None:
        return replace(operation, inputs=moved, projection=np.ascontiguousarray(operation.projection[:, back]))
    if operation.groups > 1:
        return replace(operation, inputs=moved, permutation=order.astype(np.int32))
    regions = tuple(
        region if region.core is None else replace(region, core=np.ascontiguousarray(region.core[..., back]))
        for region in operation.regions
    )
    return replace(operation, inputs=moved, regions=regions)


def _select_into_writer(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    """Channels taken of a convolution's output are rows of its weights."""
    if isinstance(writer, Select) and isinstance(operation, Select):
        return replace(operation, inputs=writer.inputs, channels=writer.channels[operation.channels])
    if not isinstance(writer, Convolution | Linear) or not isinstance(operation, Select) or len(writer.inputs) == 2:
        return None
    rows = operation.channels
    if len(rows) > program.values[writer.output].channels:
        return None
    if isinstance(writer, Linear):
        return replace(writer, weight=writer.weight[rows], bias=writer.bias[rows], output=operation.output)
    if writer.groups > 1 and any(region.hidden == 0 for region in writer.regions):
        return None
    regions = []
    for region in writer.regions:
        core = region.core[rows] if region.core is not None and region.decoder is None else region.core
        decoder = None if region.decoder is None else region.decoder[rows]
        regions.append(RegionWeights(core, decoder, region.bias[rows]))
    return replace(writer, regions=tuple(regions), output=operation.output)


def _affine_into_reader(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    """A scale of the input channels; a shift only where no zeros from outside the image are read."""
    if not isinstance(writer, Affine) or not isinstance(operation, Convolution) or place:
        return None
    if writer.activation != NO_ACTIVATION or operation.permutation is not None:
        return None
    if writer.shift is not None and (_reads_outside(program, operation) or operation.projection is not None):
        return None
    if operation.groups > 1 and operation.projection is None:
        return None
    moved = (writer.inputs[0], *operation.inputs[1:])
    scale, shift = writer.scale, writer.shift
    if operation.projection is not None:
        return replace(operation, inputs=moved, projection=_columns(operation.projection, scale))
    regions = []
    for region in operation.regions:
        core, bias = region.core, region.bias
        if core is not None:
            if shift is not None:
                added = core.sum((1, 2, 3)) @ shift
                bias = bias + (added if region.decoder is None else region.decoder @ added)
            core = _columns(core, scale)
        regions.append(RegionWeights(core, region.decoder, _float32(bias)))
    return replace(operation, inputs=moved, regions=tuple(regions))


def _projection_into_reader(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    """A 1 x 1 convolution without a bias before a core is its projection."""
    if not isinstance(operation, Convolution) or place or not _is_pointwise(writer) or _is_depthwise(operation):
        return None
    assert isinstance(writer, Convolution)
    core = writer.regions[0].core
    assert core is not None
    if operation.projection is not None or operation.permutation is not None or len(writer.inputs) == 2:
        return None
    if writer.activation != NO_ACTIVATION or writer.regions[0].bias.any():
        return None
    if operation.kernel == _ONE and all(region.decoder is None for region in operation.regions):
        return None  # better as a core with the other as its decoder
    projection = np.ascontiguousarray(core.reshape(len(core), -1))
    return replace(operation, inputs=(writer.inputs[0], *operation.inputs[1:]), projection=projection)


def _decoder_into_writer(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    """A 1 x 1 convolution behind a core is its decoder."""
    if not _is_pointwise(operation) or place or not isinstance(writer, Convolution) or _is_depthwise(writer):
        return None
    assert isinstance(operation, Convolution)
    if writer.activation != NO_ACTIVATION or len(writer.inputs) == 2:
        return None
    if any(region.decoder is not None for region in writer.regions):
        split = _as_projection_and_core(writer)
        if split is None:
            return None
        writer = split
    last = operation.regions[0]
    assert last.core is not None
    decoder = np.ascontiguousarray(last.core.reshape(len(last.core), -1))
    regions = tuple(
        RegionWeights(
            region.core, None if region.core is None else decoder, _float32(decoder @ region.bias + last.bias)
        )
        for region in writer.regions
    )
    return replace(
        writer, regions=regions, inputs=(*writer.inputs, *operation.inputs[1:]), output=operation.output,
        activation=operation.activation,
    )  # fmt: skip


def _as_projection_and_core(operation: Convolution) -> Convolution | None:
    """Write a dense 1 x 1 core and its decoder as a projection and a core, so that a decoder can follow."""
    (first, *others) = operation.regions
    if others or first.core is None or first.decoder is None:
        return None
    if not _is_pointwise(replace(operation, regions=(replace(first, decoder=None),))):
        return None
    projection = first.core.reshape(len(first.core), -1)
    core = np.ascontiguousarray(first.decoder[:, None, None, None, :])
    return replace(operation, projection=projection, regions=(RegionWeights(core, None, first.bias),))


def _encoder_into_reader(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    """Two linear layers without an activation between them are one of low rank."""
    if not isinstance(writer, Linear) or not isinstance(operation, Linear) or place or len(writer.inputs) == 2:
        return None
    if writer.activation != NO_ACTIVATION or writer.encoder is not None or operation.encoder is not None:
        return None
    bias = _float32(operation.weight @ writer.bias + operation.bias)
    return replace(
        operation, inputs=(writer.inputs[0], *operation.inputs[1:]), encoder=writer.weight, bias=bias
    )  # fmt: skip


def _reshape_into_linear(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    if not isinstance(writer, Reshape) or not isinstance(operation, Linear) or place:
        return None
    before, after = program.values[writer.inputs[0]], program.values[writer.output]

    def reordered(matrix: Array) -> Array:
        in_order = matrix.reshape(len(matrix), after.positions, after.channels).transpose(0, 2, 1)
        mapped = in_order.reshape(len(matrix), before.channels, before.positions).transpose(0, 2, 1)
        return np.ascontiguousarray(mapped).reshape(len(matrix), -1)

    moved = (writer.inputs[0], *operation.inputs[1:])
    if operation.encoder is not None:
        return replace(operation, inputs=moved, encoder=reordered(operation.encoder))
    return replace(operation, inputs=moved, weight=reordered(operation.weight))


def _reshape_of_reshape(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    if isinstance(writer, Reshape) and isinstance(operation, Reshape):
        return replace(operation, inputs=writer.inputs)
    return None


def _concat_of_concat(program: Program, writer: Operation, operation: Operation, place: int) -> Operation | None:
    if not isinstance(writer, Concat) or not isinstance(operation, Concat):
        return None
    inputs = (*operation.inputs[:place], *writer.inputs, *operation.inputs[place + 1 :])
    return replace(operation, inputs=inputs)


_Merge = Callable[[Program, Operation, Operation, int], "Operation | None"]
_MERGES: tuple[_Merge, ...] = (
    _affine_into_writer, _residual_into_writer, _pad_into_convolution, _select_into_writer, _select_into_convolution,
    _affine_into_reader, _projection_into_reader, _decoder_into_writer, _encoder_into_reader, _reshape_into_linear,
    _reshape_of_reshape, _concat_of_concat,
)  # fmt: skip


def _is_pointwise(operation: Operation) -> bool:
    """Whether an operation is a dense 1 x 1 convolution and nothing more but a residual and an activation."""
    if not isinstance(operation, Convolution) or len(operation.regions) > 1 or operation.regions[0].core is None:
        return False
    plain = operation.kernel == operation.stride == operation.up == _ONE and operation.pad == _NONE
    bare = operation.groups == 1 and operation.projection is None and operation.permutation is None
    return plain and bare and operation.regions[0].decoder is None


def _is_depthwise(operation: Convolution) -> bool:
    cores = [region.core for region in operation.regions if region.core is not None]
    return operation.groups > 1 and any(core.shape[-1] == 1 for core in cores)


def _reads_outside(program: Program, operation: Convolution) -> bool:
    given, output = program.values[operation.inputs[0]].grid, program.values[operation.output].grid
    for axis in range(3):
        last = (output[axis] - 1) // operation.up[axis] * operation.stride[axis] - operation.pad[axis]
        if operation.pad[axis] > 0 or last + (operation.kernel[axis] - 1) * operation.dilation[axis] >= given[axis]:
            return True
    return False


# --- The rest --------------------------------------------------------------------------------------------------------


def _without_unread(program: Program) -> Program:
    """Drop operations and values that no output depends on, and number the values anew."""
    needed = set(program.outputs)
    kept: list[Operation] = []
    for operation in reversed(program.operations):
        if operation.output in needed:
            needed.update(operation.inputs)
            kept.append(operation)
    numbers: dict[int, int] = {}
    for value in (*program.inputs, *(operation.output for operation in reversed(kept))):
        numbers[value] = len(numbers)
    operations = [
        replace(operation, inputs=tuple(numbers[v] for v in operation.inputs), output=numbers[operation.output])
        for operation in reversed(kept)
    ]
    return Program(
        [program.values[value] for value in numbers], [numbers[v] for v in program.inputs],
        [numbers[v] for v in program.outputs], operations, program.card,
    )  # fmt: skip


def _product(a: Array | None, b: Array | None) -> Array | None:
    return a if b is None else b if a is None else _float32(a * b)


def _sum(a: Array | None, b: Array | None) -> Array | None:
    return a if b is None else b if a is None else _float32(a + b)


def _rows(weights: Array, scale: Array | None) -> Array:
    if scale is None:
        return weights
    return _float32(weights * scale.reshape(-1, *[1] * (weights.ndim - 1)))


def _columns(weights: Array, scale: Array | None) -> Array:
    return weights if scale is None else _float32(weights * scale)


def _shifted(bias: Array, scale: Array | None, shift: Array | None) -> Array:
    scaled = bias if scale is None else bias * scale
    return _float32(scaled if shift is None else scaled + shift)


def _float32(numbers: Array) -> Array:
    return np.ascontiguousarray(numbers, np.float32)


def _triple(numbers: Iterable[int]) -> Triple:
    depth, rows, columns = numbers
    return (depth, rows, columns)
