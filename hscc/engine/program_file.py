r"""The one file of a program: header with a checksum, card, program, weights. No pickle, nothing to unpack.

All numbers are little-endian.

========================  ========================================================================================
bytes                     content
========================  ========================================================================================
8                         ``HSCCENG\0``
u32                       version of the format, 1
u32                       CRC-32 of everything behind this number
u64, u64, u64             bytes of the card, of the program, of the weights
card                      JSON in UTF-8
program                   values, inputs, outputs, operations; see `_ProgramWriter`
zeros                     up to a multiple of 64 from the start of the file
weights                   tensors, each at a multiple of 64
========================  ========================================================================================
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hscc.engine.program import (
    ACTIVATIONS,
    BINARY,
    Activation,
    AdaptivePool,
    Affine,
    Binary,
    Concat,
    Convolution,
    Linear,
    Norm,
    Operation,
    Pad,
    Pool,
    Program,
    Quantisation,
    QuantisedConvolution,
    QuantisedLinear,
    QuantisedRegion,
    RegionWeights,
    Reshape,
    Resize,
    Select,
    Shape,
    Softmax,
    Triple,
)
from hscc.errors import ArtifactError, ExportError
from hscc.files import replace_bytes

MAGIC = b"HSCCENG\0"
VERSION = 1
WeightFormat: TypeAlias = Literal["float32", "float16", "bfloat16"]
WEIGHT_FORMATS: tuple[WeightFormat, ...] = ("float32", "float16", "bfloat16")

_FLOAT32, _FLOAT16, _BFLOAT16, _INT8, _INT32, _UINT8 = 0, 1, 2, 3, 4, 5
_FORMAT_CODES = {"float32": _FLOAT32, "float16": _FLOAT16, "bfloat16": _BFLOAT16}
_STORED: dict[int, str] = {
    _FLOAT32: "<f4", _FLOAT16: "<f2", _BFLOAT16: "<u2", _INT8: "i1", _INT32: "<i4", _UINT8: "u1",
}  # fmt: skip
_ALIGNMENT = 64
_HEADER = struct.Struct("<8sII3Q")
_UNCHECKED = 16  # bytes before the part that the checksum covers
_POOLS = ("max", "average")
_RESIZES = ("nearest", "linear")
_MOST_REGIONS = 256
_LONGEST = 1 << 31

_Number = npt.NDArray[Any]


def write_program(program: Program, weights: WeightFormat = "float32") -> bytes:
    """Make the content of a program's file.

    Parameters
    ----------
    program : Program
        Its card must be JSON.
    weights : {"float32", "float16", "bfloat16"}
        Format of the matrices of convolutions and linear layers; all other numbers are float32.

    Raises
    ------
    ExportError
        If the program is not consistent, or a weight does not fit the format.
    """
    if weights not in WEIGHT_FORMATS:
        raise ExportError(f"weights is {weights!r}; choose one of {', '.join(WEIGHT_FORMATS)}.")
    try:
        check_program(program)
        card = json.dumps(program.card, ensure_ascii=False, sort_keys=True, allow_nan=False).encode()
        writer = _ProgramWriter(_FORMAT_CODES[weights])
        body = writer.program(program)
    except (TypeError, ValueError) as error:
        raise ExportError(f"the program cannot be written, {error}; report it as a defect.") from error
    before = _HEADER.size + len(card) + len(body)
    content = b"".join([card, body, bytes(-before % _ALIGNMENT), *writer.chunks])
    sizes = struct.pack("<3Q", len(card), len(body), writer.size)
    return struct.pack("<8sII", MAGIC, VERSION, zlib.crc32(content, zlib.crc32(sizes))) + sizes + content


def read_program(content: bytes, name: str = "the program") -> Program:
    """Read what `write_program` made; narrow weights are widened to float32.

    Parameters
    ----------
    content : bytes
        The whole file.
    name : str
        Of the file, for messages.

    Raises
    ------
    ArtifactError
        If it is damaged, of another version or no such file.
    """
    if content[:8] != MAGIC:
        raise ArtifactError(f"{name} is not an engine file; write one with hscc.export_engine.")
    if len(content) < _HEADER.size:
        raise ArtifactError(f"{name} ends within its header; copy or export it again.")
    _, version, checksum, card_size, program_size, weights_size = _HEADER.unpack_from(content)
    if version != VERSION:
        raise ArtifactError(f"{name} has version {version} and this library reads {VERSION}; export it again.")
    weights_start = -(-(_HEADER.size + card_size + program_size) // _ALIGNMENT) * _ALIGNMENT
    if len(content) != weights_start + weights_size:
        raise ArtifactError(
            f"{name} has {len(content)} bytes in place of {weights_start + weights_size}; copy or export it again."
        )
    if zlib.crc32(content[_UNCHECKED:]) != checksum:
        raise ArtifactError(f"{name} is damaged, its checksum does not match; copy or export it again.")
    card_end = _HEADER.size + card_size
    try:
        card = json.loads(content[_HEADER.size : card_end].decode())
        if not isinstance(card, dict):
            raise ValueError("its card is no JSON object")
        reader = _ProgramReader(memoryview(content)[card_end : card_end + program_size], content, weights_start)
        program = reader.program(card)
        check_program(program)
    except (ValueError, struct.error, OverflowError, MemoryError, RecursionError) as error:
        raise ArtifactError(f"{name} is not consistent, {error}; export it again.") from error
    return program


def save_program(program: Program, path: Path, weights: WeightFormat = "float32") -> None:
    """Write a program's file, replaced whole or not at all; see `write_program`."""
    replace_bytes(path, write_program(program, weights), shared=True)


def load_program(path: Path) -> Program:
    """Read a program's file; see `read_program`."""
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; write it with hscc.export_engine.")
    return read_program(path.read_bytes(), str(path))


@dataclass
class _Record:
    """An operation as the file has it."""

    ints: list[int] = field(default_factory=list)
    floats: list[float] = field(default_factory=list)
    tensors: list[tuple[int, _Number | None]] = field(default_factory=list)


class _ProgramWriter:
    """Program section, and the chunks of the weights section.

    The section: number of values, four sizes of each; number of inputs, their values; the same of the outputs; number
    of operations, and of each its kind, its inputs (number, values), its output, its integers, its floats and its
    tensors (a number before each list); a tensor is a type, an offset into the weights and a count.
    """

    def __init__(self, weights: int) -> None:
        self.weights = weights
        self.chunks: list[bytes] = []
        self.size = 0
        self._offsets: dict[tuple[int, int], int] = {}

    def program(self, program: Program) -> bytes:
        parts = [struct.pack("<I", len(program.values))]
        parts += [struct.pack("<4i", value.channels, *value.grid) for value in program.values]
        for numbers in (program.inputs, program.outputs):
            parts.append(struct.pack(f"<I{len(numbers)}i", len(numbers), *numbers))
        parts.append(struct.pack("<I", len(program.operations)))
        parts += [self._operation(operation) for operation in program.operations]
        return b"".join(parts)

    def _operation(self, operation: Operation) -> bytes:
        record = self._record(operation)
        inputs = operation.inputs
        parts = [struct.pack(f"<II{len(inputs)}ii", operation.code, len(inputs), *inputs, operation.output)]
        parts.append(struct.pack(f"<I{len(record.ints)}i", len(record.ints), *record.ints))
        parts.append(struct.pack(f"<I{len(record.floats)}f", len(record.floats), *record.floats))
        parts.append(struct.pack("<I", len(record.tensors)))
        parts += [self._tensor(code, numbers) for code, numbers in record.tensors]
        return b"".join(parts)

    def _record(self, operation: Operation) -> _Record:
        record = _Record()
        if isinstance(operation, Convolution):
            record.ints = [
                *operation.kernel, *operation.stride, *operation.pad, *operation.dilation, *operation.up,
                0 if operation.projection is None else len(operation.projection),
                operation.groups, len(operation.regions), _code(operation.activation),
                *(region.hidden for region in operation.regions),
            ]  # fmt: skip
            if isinstance(operation, QuantisedConvolution):
                self._quantised_convolution(operation, record)
            else:
                record.tensors = [
                    (self.weights, operation.projection), (_INT32, operation.permutation),
                    (_UINT8, operation.region_index),
                ]  # fmt: skip
                for region in operation.regions:
                    record.tensors += [
                        (self.weights, region.core), (self.weights, region.decoder), (_FLOAT32, region.bias),
                    ]  # fmt: skip
        elif isinstance(operation, Linear):
            record.ints = [0 if operation.encoder is None else len(operation.encoder), _code(operation.activation)]
            if isinstance(operation, QuantisedLinear):
                record.floats = [*_pair(operation.input_values), *_pair(operation.hidden_values)]
                record.tensors = [
                    (_INT8, operation.encoder), (_FLOAT32, operation.encoder_scale),
                    (_INT8, operation.weight), (_FLOAT32, operation.weight_scale), (_FLOAT32, operation.bias),
                ]  # fmt: skip
            else:
                record.tensors = [
                    (self.weights, operation.encoder), (self.weights, operation.weight), (_FLOAT32, operation.bias),
                ]  # fmt: skip
        elif isinstance(operation, Pool):
            record.ints = [
                _POOLS.index(operation.mode), *operation.kernel, *operation.stride, *operation.pad,
                *operation.dilation, int(operation.count_include_pad), *operation.pad_after,
                _code(operation.activation),
            ]  # fmt: skip
        elif isinstance(operation, AdaptivePool):
            record.ints = [_POOLS.index(operation.mode), _code(operation.activation)]
        elif isinstance(operation, Binary):
            record.ints = [BINARY.index(operation.which), _code(operation.activation)]
        elif isinstance(operation, Affine):
            record.ints = [_code(operation.activation)]
            record.tensors = [(_FLOAT32, operation.scale), (_FLOAT32, operation.shift)]
        elif isinstance(operation, Resize):
            record.ints = [_RESIZES.index(operation.mode), int(operation.align_corners)]
            record.floats = list(operation.scale)
        elif isinstance(operation, Select):
            record.tensors = [(_INT32, operation.channels)]
        elif isinstance(operation, Pad):
            record.ints, record.floats = [*operation.before, *operation.after], [operation.value]
        elif isinstance(operation, Norm):
            record.ints, record.floats = [operation.groups, _code(operation.activation)], [operation.eps]
            record.tensors = [(_FLOAT32, operation.weight), (_FLOAT32, operation.bias)]
        elif not isinstance(operation, Concat | Softmax | Reshape):
            raise TypeError(f"{type(operation).__name__} is no operation of the format")
        activation = getattr(operation, "activation", None)
        if activation is not None:
            record.floats += [activation.a, activation.b]
        return record

    @staticmethod
    def _quantised_convolution(operation: QuantisedConvolution, record: _Record) -> None:
        record.floats = [*_pair(operation.input_values), *_pair(operation.projected_values)]
        record.tensors = [
            (_INT8, operation.projection), (_FLOAT32, operation.projection_scale), (_INT32, operation.permutation),
            (_UINT8, operation.region_index),
        ]  # fmt: skip
        for region in operation.regions:
            record.floats += _pair(region.hidden_values)
            record.tensors += [
                (_INT8, region.core), (_FLOAT32, region.core_scale), (_INT8, region.decoder),
                (_FLOAT32, region.decoder_scale), (_FLOAT32, region.bias),
            ]  # fmt: skip

    def _tensor(self, code: int, numbers: _Number | None) -> bytes:
        if numbers is None:
            return struct.pack("<IQQ", code, 0, 0)
        key = (id(numbers), code)
        if key not in self._offsets:
            stored = _narrow(numbers, code).tobytes()
            self._offsets[key] = self.size
            self.chunks.append(stored + bytes(-len(stored) % _ALIGNMENT))
            self.size += len(self.chunks[-1])
        return struct.pack("<IQQ", code, self._offsets[key], numbers.size)


class _ProgramReader:
    def __init__(self, section: memoryview, content: bytes, weights_start: int) -> None:
        self.section, self.place = section, 0
        self.content, self.weights_start = content, weights_start

    def program(self, card: dict[str, object]) -> Program:
        values = [Shape(*self._numbers("i", 4)) for _ in range(self._count(16))]
        inputs, outputs = self._list("i"), self._list("i")
        program = Program(values, inputs, outputs, card=card)
        for _ in range(self._count(24)):
            program.operations.append(self._operation(values))
        if self.place != len(self.section):
            raise ValueError("bytes follow its last operation")
        return program

    def _operation(self, values: Sequence[Shape]) -> Operation:
        (code,) = self._numbers("I", 1)
        inputs = tuple(self._list("i"))
        (output,) = self._numbers("i", 1)
        record = _Record(self._list("i"), self._list("f"))
        record.tensors = [self._tensor() for _ in range(self._count(20))]
        for value in (*inputs, output):
            if not 0 <= value < len(values):
                raise ValueError(f"an operation names value {value} of {len(values)}")
        return _Decoder(code, inputs, output, values, record).operation()

    def _tensor(self) -> tuple[int, _Number | None]:
        code, offset, count = struct.unpack_from("<IQQ", self.section, self._advance(20))
        if code not in _STORED:
            raise ValueError(f"a tensor has the unknown type {code}")
        if not count:
            return code, None
        stored = np.dtype(_STORED[code])
        start = self.weights_start + offset
        if offset % _ALIGNMENT or start + count * stored.itemsize > len(self.content):
            raise ValueError("a tensor does not lie in its weights")
        return code, _widen(np.frombuffer(self.content, stored, count, start), code)

    def _list(self, kind: str) -> list[Any]:
        return list(self._numbers(kind, self._count(4)))

    def _count(self, item: int) -> int:
        (count,) = self._numbers("I", 1)
        if count * item > len(self.section) - self.place:
            raise ValueError("a list in it is longer than the file")
        return int(count)

    def _numbers(self, kind: str, count: int) -> tuple[Any, ...]:
        return struct.unpack_from(f"<{count}{kind}", self.section, self._advance(4 * count))

    def _advance(self, size: int) -> int:
        place, self.place = self.place, self.place + size
        if self.place > len(self.section):
            raise ValueError("its program ends early")
        return place


@dataclass
class _Decoder:
    """Make an operation of its record, which is used up from the front."""

    code: int
    inputs: tuple[int, ...]
    output: int
    values: Sequence[Shape]
    record: _Record

    def operation(self) -> Operation:
        operation = self._operation()
        if self.record.ints or self.record.floats or self.record.tensors:
            raise ValueError(f"operation {self.code} has more numbers than its kind")
        return operation

    def _operation(self) -> Operation:
        at = (self.inputs, self.output)
        if self.code in (Convolution.code, QuantisedConvolution.code):
            return self._convolution()
        if self.code == QuantisedLinear.code:
            return self._quantised_linear()
        if self.code == Linear.code:
            hidden, activation = self._int(), self._activation()
            size = self._input().size
            encoder = self._tensor((hidden, size)) if hidden else self._absent()
            weight, bias = self._tensor((self._channels(), hidden or size)), self._tensor((self._channels(),))
            return Linear(*at, weight, bias, encoder, activation)
        if self.code == Pool.code:
            mode, kernel, stride, pad, dilation = self._choice(_POOLS), *(self._triple() for _ in range(4))
            return Pool(
                *at, mode, kernel, stride, pad, dilation, self._flag(), self._triple(), self._activation()
            )  # fmt: skip
        if self.code == AdaptivePool.code:
            return AdaptivePool(*at, self._choice(_POOLS), self._activation())
        if self.code == Binary.code:
            return Binary(*at, self._choice(BINARY), self._activation())
        if self.code == Affine.code:
            activation = self._activation()
            return Affine(*at, self._optional((self._channels(),)), self._optional((self._channels(),)), activation)
        if self.code == Concat.code:
            return Concat(*at)
        if self.code == Resize.code:
            mode, align = self._choice(_RESIZES), self._flag()
            return Resize(*at, mode, align, (self._float(), self._float(), self._float()))
        if self.code == Select.code:
            return Select(*at, self._tensor((self._channels(),)))
        if self.code == Softmax.code:
            return Softmax(*at)
        if self.code == Pad.code:
            return Pad(*at, self._triple(), self._triple(), self._float())
        if self.code == Norm.code:
            groups, eps, activation = self._int(), self._float(), self._activation()
            shape = (self._channels(),)
            return Norm(*at, groups, eps, self._optional(shape), self._optional(shape), activation)
        if self.code == Reshape.code:
            return Reshape(*at)
        raise ValueError(f"operation {self.code} is unknown")

    def _convolution(self) -> Convolution:
        kernel, stride, pad, dilation, up = (self._triple() for _ in range(5))
        projected, groups, count, activation = self._int(), self._int(), self._int(), self._activation()
        if not 1 <= count <= _MOST_REGIONS or groups < 1 or len(self.record.ints) != count:
            raise ValueError("a convolution has an impossible number of regions or groups")
        if min(kernel) < 1:
            raise ValueError("a convolution has a kernel without taps")
        channels, outputs = self._input().channels, self._channels()
        seen = (projected or channels) // groups
        hidden = [self._int() for _ in range(count)]
        if self.code == QuantisedConvolution.code:
            return self._quantised_convolution(
                kernel, stride, pad, dilation, up, groups, projected, seen, hidden, activation
            )  # fmt: skip
        projection = self._tensor((projected, channels)) if projected else self._absent()
        permutation = self._optional((channels,))
        index = self._optional(self.values[self.output].grid)
        regions = []
        for width in hidden:
            core = self._absent() if width < 0 else self._tensor((width or outputs, *kernel, seen))
            decoder = self._tensor((outputs, width)) if width > 0 else self._absent()
            regions.append(RegionWeights(core, decoder, self._tensor((outputs,))))
        return Convolution(
            self.inputs, self.output, kernel, stride, pad, dilation, tuple(regions), up, groups, projection,
            permutation, index, activation,
        )  # fmt: skip

    def _quantised_convolution(
        self, kernel: Triple, stride: Triple, pad: Triple, dilation: Triple, up: Triple, groups: int, projected: int,
        seen: int, hidden: Sequence[int], activation: Activation,
    ) -> QuantisedConvolution:  # fmt: skip
        channels, outputs = self._input().channels, self._channels()
        input_values, projected_values = self._quantisation(), self._quantisation_if(bool(projected))
        projection, projection_scale = self._int8((projected, channels), bool(projected))
        permutation = self._optional((channels,))
        index = self._optional(self.values[self.output].grid)
        regions = []
        for width in hidden:
            core = self._int8((width or outputs, *kernel, seen), width >= 0)
            decoder = self._int8((outputs, width), width > 0)
            bias, values = self._tensor((outputs,)), self._quantisation_if(width > 0)
            regions.append(QuantisedRegion(core[0], decoder[0], bias, core[1], decoder[1], values))
        return QuantisedConvolution(
            self.inputs, self.output, kernel, stride, pad, dilation, tuple(regions), up, groups, projection,
            permutation, index, activation, projection_scale, input_values, projected_values,
        )  # fmt: skip

    def _quantised_linear(self) -> QuantisedLinear:
        hidden, activation = self._int(), self._activation()
        size, outputs = self._input().size, self._channels()
        input_values, hidden_values = self._quantisation(), self._quantisation_if(bool(hidden))
        encoder, encoder_scale = self._int8((hidden, size), bool(hidden))
        weight, weight_scale = self._int8((outputs, hidden or size), True)
        return QuantisedLinear(
            self.inputs, self.output, weight, self._tensor((outputs,)), encoder, activation, weight_scale,
            encoder_scale, input_values, hidden_values,
        )  # fmt: skip

    def _int8(self, shape: Sequence[int], present: bool) -> tuple[Any, Any]:
        """Return a matrix and the scales of its rows."""
        if present:
            return self._tensor(shape), self._tensor(shape[:1])
        return self._absent(), self._absent()

    def _quantisation(self) -> Quantisation:
        scale, zero = self._float(), self._float()
        if zero not in range(256):
            raise ValueError(f"operation {self.code} has the zero point {zero}")
        return Quantisation(scale, int(zero))

    def _quantisation_if(self, present: bool) -> Quantisation | None:
        found = self._quantisation()
        if not present and found != Quantisation(0.0, 0):
            raise ValueError(f"operation {self.code} quantises what it does not have")
        return found if present else None

    def _input(self) -> Shape:
        if not self.inputs:
            raise ValueError(f"operation {self.code} reads nothing")
        return self.values[self.inputs[0]]

    def _channels(self) -> int:
        return self.values[self.output].channels

    def _int(self) -> int:
        if not self.record.ints:
            raise ValueError(f"operation {self.code} has too few integers")
        return int(self.record.ints.pop(0))

    def _float(self) -> float:
        if not self.record.floats:
            raise ValueError(f"operation {self.code} has too few floats")
        return float(self.record.floats.pop(0))

    def _flag(self) -> bool:
        return self._choice(("no", "yes")) == "yes"

    def _triple(self) -> Triple:
        return (self._int(), self._int(), self._int())

    def _choice(self, names: Sequence[str]) -> str:
        code = self._int()
        if not 0 <= code < len(names):
            raise ValueError(f"operation {self.code} has the unknown mode {code}")
        return names[code]

    def _activation(self) -> Activation:
        """Its parameters are the last floats, whatever else there is."""
        name = self._choice(ACTIVATIONS)
        if len(self.record.floats) < 2:
            raise ValueError(f"operation {self.code} has too few floats")
        b, a = self.record.floats.pop(), self.record.floats.pop()
        return Activation(name, a, b)

    def _optional(self, shape: Sequence[int]) -> Any:
        if not self.record.tensors:
            raise ValueError(f"operation {self.code} has too few tensors")
        numbers = self.record.tensors.pop(0)[1]
        if numbers is None:
            return None
        if numbers.size != prod(shape):
            raise ValueError(f"operation {self.code} has a tensor of {numbers.size} numbers in place of {prod(shape)}")
        return numbers.reshape(tuple(shape))

    def _tensor(self, shape: Sequence[int]) -> Any:
        numbers = self._optional(shape)
        if numbers is None:
            raise ValueError(f"operation {self.code} lacks a tensor")
        return numbers

    def _absent(self) -> Any:
        numbers = self._optional(())
        if numbers is not None:
            raise ValueError(f"operation {self.code} has a tensor too many")
        return numbers


def _pair(values: Quantisation | None) -> list[float]:
    return [0.0, 0.0] if values is None else [values.scale, float(values.zero)]


def _code(activation: Activation) -> int:
    return ACTIVATIONS.index(activation.name)


def _narrow(numbers: _Number, code: int) -> _Number:
    if code in (_INT8, _INT32, _UINT8):
        return np.ascontiguousarray(numbers, _STORED[code])
    floats = np.ascontiguousarray(numbers, "<f4")
    if not np.isfinite(floats).all():
        raise ValueError("a weight is not finite")
    if code == _BFLOAT16:
        bits = floats.view("<u4").astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")  # to the nearest, ties to even
    with np.errstate(over="ignore"):
        stored = floats.astype(_STORED[code])
    if not np.isfinite(stored).all():
        raise ValueError("a weight is too large for float16")
    return stored


def _widen(stored: _Number, code: int) -> _Number:
    if code == _BFLOAT16:
        return (stored.astype("<u4") << 16).view("<f4")
    if code == _FLOAT16:
        return stored.astype(np.float32)
    return stored


def check_program(program: Program) -> None:
    """Refuse a program that is not consistent: values, and the shape of what each operation reads, writes and holds.

    Raises
    ------
    ValueError
        Saying what is wrong, as part of a sentence.
    """
    for number, shape in enumerate(program.values):
        if min(shape.channels, *shape.grid) < 1 or shape.size >= _LONGEST:
            raise ValueError(f"value {number} has the impossible shape {shape}")
    if not program.inputs or not program.outputs:
        raise ValueError("it has no input or no output")
    if len(set(program.inputs)) < len(program.inputs):
        raise ValueError("two inputs are one value")
    written = set(program.inputs)
    for number in (*program.inputs, *program.outputs):
        if not 0 <= number < len(program.values):
            raise ValueError(f"value {number} of {len(program.values)} is an input or output")
    for place, operation in enumerate(program.operations):
        for value in operation.inputs:
            if value not in written:
                raise ValueError(f"operation {place} reads value {value} before it is written")
        if operation.output in written or not 0 <= operation.output < len(program.values):
            raise ValueError(f"operation {place} writes value {operation.output} again")
        written.add(operation.output)
        inputs = [program.values[value] for value in operation.inputs]
        for complaint in _complaints(operation, inputs, program.values[operation.output]):
            raise ValueError(f"operation {place} ({type(operation).__name__}) {complaint}")
    missing = [value for value in program.outputs if value not in written]
    if missing:
        raise ValueError(f"the output {missing[0]} is never written")


def _complaints(operation: Operation, inputs: Sequence[Shape], output: Shape) -> Iterator[str]:
    least, most = _INPUTS.get(type(operation), (1, 1))
    if not least <= len(inputs) <= most:
        yield f"reads {len(inputs)} values"
        return
    first = inputs[0]
    activation = getattr(operation, "activation", None)
    if activation is not None and activation.name not in ACTIVATIONS:
        yield f"has the unknown activation {activation.name}"
    if isinstance(operation, Convolution):
        yield from _convolution_complaints(operation, first, output)
    if isinstance(operation, Convolution | Linear):
        yield from _weight_complaints(operation)
    if isinstance(operation, Convolution | Linear) and len(inputs) == 2 and inputs[1] != output:
        yield "adds a value of another shape"
    if isinstance(operation, Linear):
        hidden = first.size if operation.encoder is None else len(operation.encoder)
        if output.positions != 1 or operation.weight.shape != (output.channels, hidden):
            yield "has weights of another shape"
        if operation.bias.shape != (output.channels,):
            yield "has a bias of another shape"
        if operation.encoder is not None and operation.encoder.shape != (hidden, first.size):
            yield "has an encoder of another shape"
    if isinstance(operation, Pool) and (min(*operation.kernel, *operation.stride, *operation.dilation) < 1):
        yield "has an impossible window"
    if isinstance(operation, Pool | AdaptivePool | Resize | Pad) and first.channels != output.channels:
        yield "changes the number of channels"
    if isinstance(operation, Affine | Softmax | Norm) and first != output:
        yield "changes the shape"
    if isinstance(operation, Affine | Norm):
        vectors = (
            (operation.scale, operation.shift) if isinstance(operation, Affine) else (operation.weight, operation.bias)
        )
        if any(vector is not None and vector.shape != (first.channels,) for vector in vectors):
            yield "has numbers for another number of channels"
    if isinstance(operation, Norm) and (
        operation.groups < 0 or (operation.groups and first.channels % operation.groups)
    ):
        yield f"cannot split {first.channels} channels into {operation.groups} groups"
    if isinstance(operation, Binary):
        second = inputs[1]
        fits = second in (first, Shape(first.channels), Shape(1, *first.grid))
        if first != output or not fits:
            yield f"joins {first} and {second} to {output}"
    if isinstance(operation, Concat):
        same = all(value.grid == output.grid for value in inputs)
        if not same or sum(value.channels for value in inputs) != output.channels:
            yield "joins values that do not fit"
    if isinstance(operation, Select):
        channels = operation.channels
        fits = channels.shape == (output.channels,) and first.grid == output.grid
        if not fits or channels.min() < 0 or channels.max() >= first.channels:
            yield "takes channels that are not there"
    if isinstance(operation, Pad):
        found = [b + size + a for b, size, a in zip(operation.before, first.grid, operation.after, strict=True)]
        if found != list(output.grid):
            yield "has another size than its padding says"
    if isinstance(operation, Reshape) and first.size != output.size:
        yield "changes the number of numbers"


def _convolution_complaints(operation: Convolution, first: Shape, output: Shape) -> Iterator[str]:
    if min(*operation.kernel, *operation.stride, *operation.dilation, *operation.up) < 1:
        yield "has an impossible geometry"
    channels = first.channels
    if operation.projection is not None:
        channels = len(operation.projection)
        if operation.projection.shape != (channels, first.channels) or operation.permutation is not None:
            yield "has a projection that does not fit"
    if operation.permutation is not None and (
        operation.permutation.shape != (first.channels,)
        or set(operation.permutation.tolist()) != set(range(first.channels))
    ):
        yield "has a permutation that is none"
    count, index = len(operation.regions), operation.region_index
    if not 1 <= count <= _MOST_REGIONS or (index is None and count > 1):
        yield f"has {count} regions that nothing tells apart"
    if index is not None and (index.shape != output.grid or int(index.max()) >= count):
        yield "has an index of other regions or another size"
    if operation.groups < 1 or channels % operation.groups:
        yield f"cannot split {channels} channels into {operation.groups} groups"
        return
    for region in operation.regions:
        if region.bias.shape != (output.channels,):
            yield "has a bias of another shape"
        if region.core is None:
            continue
        width = region.hidden or output.channels
        if region.core.shape != (width, *operation.kernel, channels // operation.groups) or width % operation.groups:
            yield "has a core of another shape"
        if region.decoder is not None and region.decoder.shape != (output.channels, width):
            yield "has a decoder of another shape"


def _weight_complaints(operation: Convolution | Linear) -> Iterator[str]:
    """Types of the matrices, and the scales of quantised ones: each matrix with what it reads and its rows' scales."""
    if isinstance(operation, Linear):
        parts: list[tuple[_Number | None, _Number | None, Quantisation | None]] = []
        if isinstance(operation, QuantisedLinear):
            read = operation.input_values if operation.encoder is None else operation.hidden_values
            parts = [
                (operation.encoder, operation.encoder_scale, operation.input_values),
                (operation.weight, operation.weight_scale, read),
            ]
        matrices = [operation.encoder, operation.weight]
    else:
        parts = []
        matrices = [operation.projection, *(matrix for r in operation.regions for matrix in (r.core, r.decoder))]
        if isinstance(operation, QuantisedConvolution):
            read = operation.input_values if operation.projection is None else operation.projected_values
            parts = [(operation.projection, operation.projection_scale, operation.input_values)]
            for region in operation.regions:
                parts.append((region.core, region.core_scale, read))
                parts.append((region.decoder, region.decoder_scale, region.hidden_values))
    quantised = isinstance(operation, QuantisedConvolution | QuantisedLinear)
    if any(matrix is not None and (matrix.dtype == np.int8) != quantised for matrix in matrices):
        yield "has weights of another type"
    for matrix, scale, values in parts:
        if matrix is None:
            if scale is not None:
                yield "has scales of a matrix that is not there"
        elif scale is None or scale.shape != (len(matrix),) or not (np.isfinite(scale) & (scale > 0)).all():
            yield "has impossible scales of its weights"
        elif values is None or not 0 < values.scale < np.inf or not 0 <= values.zero <= 255:
            yield "has an impossible scale or zero point"


_INPUTS: dict[type[Operation], tuple[int, int]] = {
    Convolution: (1, 2), Linear: (1, 2), QuantisedConvolution: (1, 2), QuantisedLinear: (1, 2), Binary: (2, 2),
    Concat: (1, _LONGEST),
}  # fmt: skip
