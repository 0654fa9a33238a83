"""A network as the engine runs it: values, operations, weights, and the one file that holds them.

All sizes but the batch are fixed. A value has channels and up to three dimensions of positions; one with fewer has
depth 1, or depth and rows 1. Operations are dataclasses; what each computes is written down, as torch calls, in
`hscc.engine.reference`. `hscc.engine.program_file` writes a program into one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Matrix = npt.NDArray[Any]  # float32, or int8 in the operations that are quantised
Triple = tuple[int, int, int]  # depth, rows, columns


@dataclass(frozen=True)
class Shape:
    """Of one image's value: channels, then depth, rows and columns of positions."""

    channels: int
    depth: int = 1
    rows: int = 1
    columns: int = 1

    @property
    def positions(self) -> int:
        """Number of positions."""
        return self.depth * self.rows * self.columns

    @property
    def size(self) -> int:
        """Number of numbers."""
        return self.channels * self.positions

    @property
    def grid(self) -> Triple:
        """Depth, rows and columns."""
        return (self.depth, self.rows, self.columns)


@dataclass(frozen=True)
class Activation:
    """A function of each number, by its name in `ACTIVATIONS`, with up to two parameters."""

    name: str = "none"
    a: float = 0.0
    b: float = 0.0


# The position in this list is the code in the file.
ACTIVATIONS = (
    "none", "relu", "clip", "leaky_relu", "sigmoid", "hardsigmoid", "hardswish", "silu", "gelu", "tanh", "elu",
)  # fmt: skip
NO_ACTIVATION = Activation()


@dataclass(frozen=True, eq=False)
class RegionWeights:
    """Weights of the output positions of one region.

    Attributes
    ----------
    core : ndarray, shape (hidden or C_out, kd, kh, kw, c / groups), optional
        None where the output is the bias alone.
    decoder : ndarray, shape (C_out, hidden), optional
        None where the core writes the outputs itself.
    bias : ndarray, shape (C_out,)
    """

    core: Matrix | None
    decoder: Matrix | None
    bias: Array

    @property
    def hidden(self) -> int:
        """Channels between core and decoder; 0 without a decoder, -1 where the output is the bias alone."""
        if self.core is None:
            return -1
        return 0 if self.decoder is None else len(self.core)


@dataclass(frozen=True, eq=False)
class Operation:
    """One step: reads values, writes one."""

    code: ClassVar[int]
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, eq=False)
class Convolution(Operation):
    """Projection, core with weights by region, decoder, bias, residual and activation in one pass.

    Output position o reads input positions floor(o / up) * stride - pad + t * dilation for t = 0 .. kernel - 1.

    Attributes
    ----------
    inputs : (int,) or (int, int)
        The second is added before the activation.
    projection : ndarray, shape (r, C_in), optional
        Of the input channels, before the core.
    permutation : ndarray of int32, shape (C_in,), optional
        Input channel that stands at each place the core sees; only without a projection.
    groups : int
        Splits the core's inputs and outputs evenly, as torch's groups do.
    region_index : ndarray of uint8, shape (depth, rows, columns) of the output, optional
        Region of each output position; None for one region.
    regions : list of RegionWeights
    """

    code: ClassVar[int] = 1
    kernel: Triple
    stride: Triple
    pad: Triple
    dilation: Triple
    regions: tuple[RegionWeights, ...]
    up: Triple = (1, 1, 1)
    groups: int = 1
    projection: Matrix | None = None
    permutation: npt.NDArray[np.int32] | None = None
    region_index: npt.NDArray[np.uint8] | None = None
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True, eq=False)
class Linear(Operation):
    """A linear layer of a value's numbers in the order depth, rows, columns, channels; low rank with an encoder."""

    code: ClassVar[int] = 2
    weight: Matrix  # (C_out, hidden or inputs)
    bias: Array
    encoder: Matrix | None = None  # (hidden, inputs)
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True, eq=False)
class Pool(Operation):
    """Maximum or average over windows."""

    code: ClassVar[int] = 3
    mode: str  # "max" or "average"
    kernel: Triple
    stride: Triple
    pad: Triple
    dilation: Triple = (1, 1, 1)
    count_include_pad: bool = False
    pad_after: Triple = (0, 0, 0)
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True, eq=False)
class AdaptivePool(Operation):
    """Maximum or average over windows that divide the positions into as many as the output has."""

    code: ClassVar[int] = 4
    mode: str
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True, eq=False)
class Binary(Operation):
    """Two values number by number; the second may have one position, or one channel."""

    code: ClassVar[int] = 5
    which: str  # of BINARY
    activation: Activation = NO_ACTIVATION


BINARY = ("add", "mul", "sub", "div", "max", "min")


@dataclass(frozen=True, eq=False)
class Affine(Operation):
    """A scale and a shift per channel, and an activation."""

    code: ClassVar[int] = 6
    scale: Array | None = None
    shift: Array | None = None
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True, eq=False)
class Concat(Operation):
    """Channels of several values one after the other."""

    code: ClassVar[int] = 7


@dataclass(frozen=True, eq=False)
class Resize(Operation):
    """As `torch.nn.functional.interpolate`; a scale of 0 is that of the sizes."""

    code: ClassVar[int] = 8
    mode: str  # "nearest" or "linear"
    align_corners: bool = False
    scale: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Select(Operation):
    """Channels by their number: slices, chunks, shuffles."""

    code: ClassVar[int] = 9
    channels: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Softmax(Operation):
    """Over channels."""

    code: ClassVar[int] = 10


@dataclass(frozen=True, eq=False)
class Pad(Operation):
    """Positions added at the borders, or taken away where the number is negative."""

    code: ClassVar[int] = 11
    before: Triple
    after: Triple
    value: float = 0.0


@dataclass(frozen=True, eq=False)
class Norm(Operation):
    """Layer norm over the channels of each position (groups 0), or group norm over positions and channels."""

    code: ClassVar[int] = 12
    groups: int
    eps: float
    weight: Array | None = None
    bias: Array | None = None
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True, eq=False)
class Reshape(Operation):
    """The same numbers, channels first, in another shape."""

    code: ClassVar[int] = 13


@dataclass(frozen=True)
class Quantisation:
    """Numbers as unsigned 8-bit integers: real = scale * (integer - zero).

    A real number becomes the integer round(real * (1 / scale)) + zero in float32, ties to even, cut off at 0 and 255.

    Attributes
    ----------
    scale : float
        Positive; kept as float32 in a file.
    zero : int
        0 to 255; stands for 0.0 exactly, as padding needs.
    """

    scale: float
    zero: int


@dataclass(frozen=True, eq=False)
class QuantisedRegion(RegionWeights):
    """Weights of a region in 8 bits: real = scale of the row * int8.

    Attributes
    ----------
    core, decoder : ndarray of int8, optional
        As in `RegionWeights`.
    core_scale, decoder_scale : ndarray of float32, shape (rows,), optional
        One for each row of the matrix; None where there is no matrix.
    hidden_values : Quantisation, optional
        Of what the decoder reads; None without a decoder.
    """

    core_scale: Array | None = None
    decoder_scale: Array | None = None
    hidden_values: Quantisation | None = None


@dataclass(frozen=True, eq=False)
class QuantisedConvolution(Convolution):
    """A convolution by integer products: reads and writes float32, quantises what each of its matrices reads.

    Attributes
    ----------
    regions : tuple of QuantisedRegion
    projection : ndarray of int8, optional
    projection_scale : ndarray of float32, shape (r,), optional
    input_values : Quantisation
        Of its input.
    projected_values : Quantisation, optional
        Of what the cores read behind a projection.
    """

    code: ClassVar[int] = 14
    regions: tuple[QuantisedRegion, ...]
    projection_scale: Array | None = None
    input_values: Quantisation = Quantisation(1.0, 0)
    projected_values: Quantisation | None = None


@dataclass(frozen=True, eq=False)
class QuantisedLinear(Linear):
    """A linear layer by integer products, as `QuantisedConvolution`.

    Attributes
    ----------
    weight, encoder : ndarray of int8
    weight_scale, encoder_scale : ndarray of float32, shape (rows,)
    input_values : Quantisation
    hidden_values : Quantisation, optional
        Of what `weight` reads behind an encoder.
    """

    code: ClassVar[int] = 15
    weight_scale: Array | None = None
    encoder_scale: Array | None = None
    input_values: Quantisation = Quantisation(1.0, 0)
    hidden_values: Quantisation | None = None


@dataclass
class Program:
    """A network.

    Attributes
    ----------
    values : list of Shape
        By number.
    inputs, outputs : list of int
        Values that the caller gives and gets, channels first.
    operations : list of Operation
        In the order of execution; each value is written once, before it is read.
    card : dict
        Anything JSON can hold: preprocessing, classes, where the network comes from.
    """

    values: list[Shape] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    card: dict[str, object] = field(default_factory=dict)

    def value(self, shape: Shape) -> int:
        """Add a value and return its number."""
        self.values.append(shape)
        return len(self.values) - 1


def shape_of(sizes: Sequence[int]) -> Shape:
    """Shape of a torch tensor without its batch: (C,), (C, L), (C, H, W) or (C, D, H, W)."""
    channels, *positions = sizes
    return Shape(channels, *([1] * (3 - len(positions)) + list(positions)))
