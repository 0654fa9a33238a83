"""The layers of a network that can be factored, their geometry at one input size, and the grid of cells over them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from hscc.errors import CompressionError, first_line
from hscc.networks.inputs import InputShape, one_tensor, run, zeros
from hscc.networks.inspection import WeightReaders, evaluating, held_aside, intercepted

Box = tuple[int, ...]  # start and end along each axis: first row, end row, first column, end column in two dimensions
Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
CONVOLUTIONS: dict[int, Callable[..., Conv]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}  # by number of axes
_Shapes = tuple[tuple[int, ...], torch.Size]  # positions of the input along each axis, shape of the output
_MAPS = (4, 5)  # dimensions of the output of a linear layer on maps or volumes; with three it runs on tokens
_NEGLIGIBLE = 1e-3  # share of the network's MACs and weights below which a layer is left dense


@dataclass(frozen=True)
class Layer:
    """Geometry of one convolution, of one, two or three dimensions, or linear layer.

    A linear layer is a 1 x 1 convolution on a 1 x 1 grid; one that runs on maps whose channels come last, as in
    ConvNeXt, is a 1 x 1 convolution of the kind "conv", see `is_channels_last`. Axes come in the order of the tensor's:
    rows and columns in two dimensions, depth before them in three.

    Attributes
    ----------
    name : str
        Module path in the network.
    kind : str
        "conv" or "linear".
    inputs, outputs : int
        Channels (features) in and out.
    kernel, stride, dilation : tuple of int
        One number per axis.
    padding : tuple of int
        Before and behind along each axis, the last axis first, as `torch.nn.functional.pad` takes them: left, right,
        top, bottom in two dimensions.
    padding_mode : str
        "constant", "reflect", "replicate" or "circular".
    grid : tuple of int
        Output positions along each axis.
    input_grid : tuple of int
        Positions of the input along each axis, before padding; of the feature map that a linear layer flattens (1 x 1
        if none).
    bias : bool
        Whether the layer has one.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    padding_mode: str
    grid: tuple[int, ...]
    input_grid: tuple[int, ...]
    bias: bool

    @property
    def axes(self) -> int:
        """Dimensions of the grid."""
        return len(self.grid)

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return math.prod(self.kernel)

    @property
    def features(self) -> int:
        """Length d of an im2col patch."""
        return self.inputs * self.taps

    @property
    def positions(self) -> int:
        """Output positions of one image."""
        return math.prod(self.grid)

    @property
    def input_positions(self) -> int:
        """Positions of one image's input, before padding."""
        return math.prod(self.input_grid)

    @property
    def reach(self) -> tuple[int, ...]:
        """Input positions along each axis that one output position covers."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return self.features * self.outputs * self.positions

    @property
    def weights(self) -> int:
        """Entries of the weight."""
        return self.features * self.outputs


def is_channels_last(module: nn.Module, layer: Layer) -> bool:
    """Whether a layer is an `nn.Linear` on maps (N, *positions, C), which counts as a 1 x 1 convolution."""
    return isinstance(module, nn.Linear) and layer.kind == "conv"


def channels_first(tensor: torch.Tensor, module: nn.Module, layer: Layer) -> torch.Tensor:
    """Return the input or output of a layer's module as (N, C, *positions)."""
    return tensor.movedim(-1, 1) if is_channels_last(module, layer) else tensor


def take_channels_last(module: nn.Module) -> None:
    """Let a module that takes and gives (N, C, *positions) do so with (N, *positions, C)."""
    module.register_forward_pre_hook(_to_first, with_kwargs=True)
    module.register_forward_hook(_to_last)


def _to_first(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor]
) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    received = inputs[0] if inputs else named["input"]
    return (received.movedim(-1, 1),), {}


def _to_last(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return output.movedim(1, -1)


def find_layers(model: nn.Module, input_shape: InputShape) -> tuple[list[Layer], dict[str, str]]:
    """List what can be factored, in the order of execution, and why the rest cannot.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    input_shape : tuple of int, or a tuple or dict of these
        Of one image: channels, then positions along each axis; or of each of several inputs.

    Returns
    -------
    layers : list of Layer
        Each run once in a forward pass.
    left_dense : dict
        Layer name to the reason.

    Raises
    ------
    CompressionError
        If there is nothing to factor.
    """
    grids, calls, read = _output_grids(model, input_shape)
    holders = Counter(id(tensor) for module in model.modules() for tensor in module.parameters(recurse=False))
    layers, left_dense, aside = [], {}, held_aside(model)
    for name, module in model.named_modules():
        if name not in grids:
            continue
        shared = any(holders[id(tensor)] > 1 for tensor in module.parameters(recurse=False))
        reason = _why_not(module, calls[name], grids[name][1], shared or id(module) in read, id(module) in aside)
        if reason:
            left_dense[name] = reason
        else:
            layers.append(_describe(name, module, *grids[name]))
    macs, weights = sum(layer.macs for layer in layers), sum(layer.weights for layer in layers)
    for layer in list(layers):
        if layer.macs < _NEGLIGIBLE * macs and layer.weights < _NEGLIGIBLE * weights:
            left_dense[layer.name] = f"{layer.macs / macs:.2%} of the MACs: nothing to gain"
            layers.remove(layer)
    if not layers:
        raise CompressionError(
            f"{type(model).__name__} has no ungrouped convolution or Linear layer that runs once in a forward pass; "
            "there is nothing to compress."
        )
    return layers, left_dense


def unfold(layer: Layer, inputs: torch.Tensor, box: Box, steps: Sequence[int] | None = None) -> torch.Tensor:
    """Return the im2col patches at the output positions of one box.

    Parameters
    ----------
    layer : Layer
        Geometry.
    inputs : Tensor, shape (N, C_in, *positions) or (N, C_in) for a linear layer
        The layer's input, padded already by `pad`.
    box : Box
        Output positions.
    steps : sequence of int, optional
        Take only every so manyth position of the box along each axis.

    Returns
    -------
    Tensor, shape (N * positions, d)
        Features in the order of the flattened weight.
    """
    if layer.kind == "linear":
        return inputs
    steps = steps or [1] * layer.axes
    window = input_window(layer, inputs, box)
    grid = [-(-(end - first) // step) for (first, end), step in zip(spans(box), steps, strict=True)]
    image, channel, *strides = window.stride()
    patches = window.as_strided(
        (*window.shape[:2], *layer.kernel, *grid),
        (
            image,
            channel,
            *(stride * dilation for stride, dilation in zip(strides, layer.dilation, strict=True)),
            *(stride * every * step for stride, every, step in zip(strides, layer.stride, steps, strict=True)),
        ),
    )
    return patches.reshape(len(window), layer.features, -1).transpose(1, 2).reshape(-1, layer.features)


def input_window(layer: Layer, padded: torch.Tensor, box: Box) -> torch.Tensor:
    """Slice of a padded input from which the output positions of a box are computed."""
    around = zip(spans(box), layer.stride, layer.reach, strict=True)
    return padded[:, :, *(slice(first * step, (end - 1) * step + reach) for (first, end), step, reach in around)]


def output_window(outputs: torch.Tensor, box: Box, steps: Sequence[int] | None = None) -> torch.Tensor:
    """Slice of an output, or of its gradient, at the positions of a box; a linear layer's has no positions."""
    if outputs.ndim == 2:
        return outputs
    around = zip(spans(box), steps or [1] * (len(box) // 2), strict=True)
    return outputs[:, :, *(slice(first, end, step) for (first, end), step in around)]


def pad(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
    """Apply a convolution's own padding."""
    if layer.kind == "linear" or not any(layer.padding):
        return inputs
    return F.pad(inputs, layer.padding, mode=layer.padding_mode)


def spans(box: Box) -> list[tuple[int, int]]:
    """Start and end of a box along each axis."""
    return list(zip(box[::2], box[1::2], strict=True))


def cell_edges(positions: int, cells: int) -> list[int]:
    """Where `cells` nearly equal cells begin and end along one axis.

    Returns
    -------
    list of int
        ``cells + 1`` edges from 0 to `positions`; with fewer positions than cells some cells are empty.
    """
    return [(index * positions + cells // 2) // cells for index in range(cells + 1)]


def boxes_between(edges: Sequence[Sequence[int]]) -> list[Box]:
    """Boxes between the edges along each axis, in the order of a tensor's elements."""
    return [tuple(itertools.chain(*sides)) for sides in itertools.product(*map(itertools.pairwise, edges))]


def cell_boxes(grid: Sequence[int], cells: int) -> list[Box]:
    """Boxes of output positions of all cells, `cells` per side, in the order of a tensor's elements."""
    return boxes_between([cell_edges(positions, cells) for positions in grid])


def tile_box(tile: Box, grid: Sequence[int], cells: int) -> Box:
    """Output positions of a tile, a box that is given in cells."""
    edges = [cell_edges(positions, cells) for positions in grid]
    return tuple(side[edge] for side, span in zip(edges, spans(tile), strict=True) for edge in span)


def box_size(box: Box) -> int:
    """Positions (or cells) in a box."""
    return math.prod(end - first for first, end in spans(box))


def cells_of(tile: Box, cells: int) -> list[int]:
    """Indices of the cells of a tile, in a grid of `cells` per side."""
    found = [0]
    for first, end in spans(tile):
        found = [index * cells + place for index in found for place in range(first, end)]
    return found


def _why_not(module: nn.Module, calls: int, output: torch.Size, shared: bool, aside: bool) -> str:
    """Return why a layer cannot be factored, or an empty string."""
    if isinstance(module, Transposed):
        return "a transposed convolution: only plain ones are factored"
    if isinstance(module, Conv) and module.groups > 1:
        return f"{module.groups} groups: each already sees only its own channels"
    if calls > 1:
        return f"run {calls} times in one pass"
    if not _computes_as_its_base(module):
        return f"a {type(module).__name__}: it may compute something else than its weight says"
    if intercepted(module):
        return "it carries hooks or is pruned: it computes something else than its weight says"
    if shared:
        return "its weight is read elsewhere too"
    lengths = (2 + len(module.kernel_size),) if isinstance(module, Conv) else (2, *_MAPS)
    if output[0] != 1 or len(output) not in lengths:
        return f"its output for one image is {tuple(output)}: it runs on tokens or on several inputs"
    if aside:
        return "held in a list or dict beside its name: replacing it would not reach that"
    return ""


def _computes_as_its_base(module: nn.Module) -> bool:
    """Whether a layer computes what torch's own class does: a subclass may set its arguments only, as R3D-18's does.

    A parametrized layer has no weight of its own, and may compute anything.
    """
    base = next(kind for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear) if isinstance(module, kind))
    names = ("forward", "_conv_forward", "__call__")
    same = all(getattr(type(module), name, None) is getattr(base, name, None) for name in names)
    return same and "weight" in module._parameters


def _output_grids(model: nn.Module, input_shape: InputShape) -> tuple[dict[str, _Shapes], dict[str, int], set[int]]:
    grids: dict[str, _Shapes] = {}
    calls: dict[str, int] = {}
    handles = []
    maps: list[torch.Tensor] = []  # outputs with as many axes as the images, the latest last
    shapes = input_shape.values() if isinstance(input_shape, dict) else input_shape
    lengths = {len(input_shape)} if one_tensor(input_shape) else {len(shape) for shape in shapes}  # type: ignore[arg-type]
    dimensions = {length + 1 for length in lengths if length > 1} or {4}

    def remember(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(output, torch.Tensor) and output.ndim in dimensions:
            maps.append(output)

    def watch(name: str) -> None:
        def before(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            readers.running.append(id(module))

        def hook(
            module: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor], output: torch.Tensor
        ) -> None:
            readers.running.pop()
            received = inputs[0] if inputs else named["input"]
            flat = isinstance(module, nn.Linear)
            grids[name] = (_flattened_grid(maps, received) if flat else tuple(received.shape[2:]), output.shape)
            calls[name] = calls.get(name, 0) + 1

        handles.append(model.get_submodule(name).register_forward_pre_hook(before, prepend=True))
        handles.append(model.get_submodule(name).register_forward_hook(hook, with_kwargs=True))

    watched = {
        name: module for name, module in model.named_modules() if isinstance(module, Conv | Transposed | nn.Linear)
    }
    readers = WeightReaders({id(module): module for module in watched.values()})
    for module in model.modules():
        handles.append(module.register_forward_hook(remember))
    for name in watched:
        watch(name)
    image = zeros(model, input_shape)
    try:
        with evaluating(model), torch.no_grad(), readers:
            run(model, image)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise CompressionError(
            f"the network cannot run on images of shape {input_shape} ({first_line(error)}); pass images that fit it, "
            "without labels."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return grids, calls, readers.read


def _flattened_grid(maps: list[torch.Tensor], features: torch.Tensor) -> tuple[int, ...]:
    """Positions along each axis of the latest feature map that a linear layer's input is the flattened form of."""
    for candidate in reversed(maps):
        if candidate.numel() == features.numel() and torch.equal(candidate.flatten(), features.flatten()):
            return tuple(candidate.shape[2:])
    return 1, 1


def _describe(name: str, module: nn.Module, input_grid: tuple[int, ...], output: torch.Size) -> Layer:
    if isinstance(module, nn.Linear) and len(output) in _MAPS:
        one, grid = (1,) * (len(output) - 2), tuple(output[1:-1])
        return Layer(
            name, "conv", module.in_features, module.out_features, one, one, one, (0,) * 2 * len(one), "constant", grid,
            grid, module.bias is not None,
        )  # fmt: skip
    if isinstance(module, nn.Linear):
        return Layer(
            name, "linear", module.in_features, module.out_features, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0),
            "constant", (1, 1), input_grid, module.bias is not None,
        )  # fmt: skip
    assert isinstance(module, Conv)
    kernel, stride, dilation = (tuple(value) for value in (module.kernel_size, module.stride, module.dilation))
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return Layer(
        name, "conv", module.in_channels, module.out_channels, kernel, stride, dilation,
        _padding(module.padding, kernel, dilation), mode, tuple(output[2:]), input_grid, module.bias is not None,
    )  # fmt: skip


def _padding(padding: str | tuple[int, ...], kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    if padding == "valid":
        padding = (0,) * len(kernel)
    if isinstance(padding, str):
        totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(size, size) for size in padding]
    return tuple(itertools.chain(*reversed(sides)))
