"""The layers of a network that can be factored, their geometry at one input size, and the grid of cells over them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from hscc.errors import CompressionError, first_line
from hscc.networks.inputs import InputShape, run, zeros
from hscc.networks.inspection import WeightReaders, evaluating, intercepted

Rectangle = tuple[int, int, int, int]  # first row, end row, first column, end column
_Shapes = tuple[tuple[int, int], torch.Size]  # rows and columns of the input, shape of the output
_NEGLIGIBLE = 1e-3  # share of the network's MACs and weights below which a layer is left dense


@dataclass(frozen=True)
class Layer:
    """Geometry of one convolution or linear layer.

    A linear layer is a 1 x 1 convolution on a 1 x 1 grid.

    Attributes
    ----------
    name : str
        Module path in the network.
    kind : str
        "conv" or "linear".
    inputs, outputs : int
        Channels (features) in and out.
    kernel, stride, dilation : (int, int)
        Rows and columns.
    padding : (int, int, int, int)
        Left, right, top, bottom, as `torch.nn.functional.pad` takes them.
    padding_mode : str
        "constant", "reflect", "replicate" or "circular".
    grid : (int, int)
        Rows and columns of output positions.
    input_grid : (int, int)
        Rows and columns of the input, before padding; of the feature map that a linear layer flattens (1 x 1 if none).
    bias : bool
        Whether the layer has one.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    padding_mode: str
    grid: tuple[int, int]
    input_grid: tuple[int, int]
    bias: bool

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return self.kernel[0] * self.kernel[1]

    @property
    def features(self) -> int:
        """Length d of an im2col patch."""
        return self.inputs * self.taps

    @property
    def positions(self) -> int:
        """Output positions of one image."""
        return self.grid[0] * self.grid[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return self.features * self.outputs * self.positions

    @property
    def weights(self) -> int:
        """Entries of the weight."""
        return self.features * self.outputs


def find_layers(model: nn.Module, input_shape: InputShape) -> tuple[list[Layer], dict[str, str]]:
    """List what can be factored, in the order of execution, and why the rest cannot.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    input_shape : tuple of int, or a tuple or dict of these
        Of one image, as (channels, rows, columns), or of each of several inputs.

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
    layers, left_dense = [], {}
    for name, module in model.named_modules():
        if name not in grids:
            continue
        shared = any(holders[id(tensor)] > 1 for tensor in module.parameters(recurse=False))
        reason = _why_not(module, calls[name], grids[name][1], shared or id(module) in read)
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
            f"{type(model).__name__} has no ungrouped Conv2d or Linear layer that runs once in a forward pass; "
            "there is nothing to compress."
        )
    return layers, left_dense


def unfold(layer: Layer, inputs: torch.Tensor, tile: Rectangle) -> torch.Tensor:
    """Return the im2col patches at the output positions of one tile.

    Parameters
    ----------
    layer : Layer
        Geometry.
    inputs : Tensor, shape (N, C_in, rows, columns) or (N, C_in) for a linear layer
        The layer's input, padded already by `pad`.
    tile : Rectangle
        Output rows and columns.

    Returns
    -------
    Tensor, shape (N * positions, d)
        Features in the order of the flattened weight.
    """
    if layer.kind == "linear":
        return inputs
    window = input_window(layer, inputs, tile)
    patches = F.unfold(window, layer.kernel, dilation=layer.dilation, stride=layer.stride)
    return patches.transpose(1, 2).reshape(-1, layer.features)


def input_window(layer: Layer, padded: torch.Tensor, tile: Rectangle) -> torch.Tensor:
    """Slice of a padded input from which the output positions of a tile are computed."""
    first_row, end_row, first_column, end_column = tile
    (step_y, step_x), (reach_y, reach_x) = layer.stride, reach(layer)
    return padded[
        :,
        :,
        first_row * step_y : (end_row - 1) * step_y + reach_y,
        first_column * step_x : (end_column - 1) * step_x + reach_x,
    ]


def reach(layer: Layer) -> tuple[int, int]:
    """Rows and columns of input that one output position covers."""
    return tuple((k - 1) * d + 1 for k, d in zip(layer.kernel, layer.dilation, strict=True))  # type: ignore[return-value]


def pad(layer: Layer, inputs: torch.Tensor) -> torch.Tensor:
    """Apply a convolution's own padding."""
    if layer.kind == "linear" or not any(layer.padding):
        return inputs
    return F.pad(inputs, layer.padding, mode=layer.padding_mode)


def cell_edges(positions: int, cells: int) -> list[int]:
    """Where `cells` nearly equal cells begin and end along one axis.

    Returns
    -------
    list of int
        ``cells + 1`` edges from 0 to `positions`; with fewer positions than cells some cells are empty.
    """
    return [(index * positions + cells // 2) // cells for index in range(cells + 1)]


def cell_rectangles(grid: tuple[int, int], cells: int) -> list[Rectangle]:
    """Rectangles of output positions of all ``cells * cells`` cells, row by row."""
    rows, columns = (cell_edges(positions, cells) for positions in grid)
    return [
        (rows[i], rows[i + 1], columns[j], columns[j + 1]) for i in range(cells) for j in range(cells)
    ]  # fmt: skip


def tile_rectangle(tile: Rectangle, grid: tuple[int, int], cells: int) -> Rectangle:
    """Output positions of a tile that is given in cells."""
    rows, columns = (cell_edges(positions, cells) for positions in grid)
    return rows[tile[0]], rows[tile[1]], columns[tile[2]], columns[tile[3]]


def area(tile: Rectangle) -> int:
    """Positions (or cells) in a rectangle."""
    return (tile[1] - tile[0]) * (tile[3] - tile[2])


def cells_of(tile: Rectangle, cells: int) -> list[int]:
    """Indices of the cells of a tile, in a grid of `cells` per side."""
    return [row * cells + column for row in range(tile[0], tile[1]) for column in range(tile[2], tile[3])]


def _why_not(module: nn.Module, calls: int, output: torch.Size, shared: bool) -> str:
    """Return why a layer cannot be factored, or an empty string."""
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return f"{module.groups} groups: each already sees only its own channels"
    if calls > 1:
        return f"run {calls} times in one pass"
    # Exact types: a subclass or a parametrized layer may compute anything.
    if type(module) not in (nn.Conv2d, nn.Linear):
        return f"a {type(module).__name__}: it may compute something else than its weight says"
    if intercepted(module):
        return "it carries hooks or is pruned: it computes something else than its weight says"
    if shared:
        return "its weight is read elsewhere too"
    if output[0] != 1 or len(output) != (4 if isinstance(module, nn.Conv2d) else 2):
        return f"its output for one image is {tuple(output)}: it runs on tokens or on several inputs"
    return ""


def _output_grids(model: nn.Module, input_shape: InputShape) -> tuple[dict[str, _Shapes], dict[str, int], set[int]]:
    grids: dict[str, _Shapes] = {}
    calls: dict[str, int] = {}
    handles = []
    maps: list[torch.Tensor] = []  # outputs with rows and columns, the latest last

    def remember(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            maps.append(output)

    def watch(name: str) -> None:
        def before(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            readers.running.append(id(module))

        def hook(
            module: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor], output: torch.Tensor
        ) -> None:
            readers.running.pop()
            received = inputs[0] if inputs else named["input"]
            flattened = received.ndim != 4
            grid = _flattened_grid(maps, received) if flattened else (int(received.shape[2]), int(received.shape[3]))
            grids[name] = (grid, output.shape)
            calls[name] = calls.get(name, 0) + 1

        handles.append(model.get_submodule(name).register_forward_pre_hook(before, prepend=True))
        handles.append(model.get_submodule(name).register_forward_hook(hook, with_kwargs=True))

    watched = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
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


def _flattened_grid(maps: list[torch.Tensor], features: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of the latest feature map that a linear layer's input is the flattened form of."""
    for candidate in reversed(maps):
        if candidate.numel() == features.numel() and torch.equal(candidate.flatten(), features.flatten()):
            return int(candidate.shape[2]), int(candidate.shape[3])
    return 1, 1


def _describe(name: str, module: nn.Module, input_grid: tuple[int, int], output: torch.Size) -> Layer:
    if isinstance(module, nn.Linear):
        return Layer(
            name, "linear", module.in_features, module.out_features, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0),
            "constant", (1, 1), input_grid, module.bias is not None,
        )  # fmt: skip
    assert isinstance(module, nn.Conv2d)
    kernel, stride, dilation = (_pair(value) for value in (module.kernel_size, module.stride, module.dilation))
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return Layer(
        name, "conv", module.in_channels, module.out_channels, kernel, stride, dilation,
        _padding(module.padding, kernel, dilation), mode, (output[2], output[3]), input_grid, module.bias is not None,
    )  # fmt: skip


def _padding(
    padding: str | tuple[int, ...], kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0, 0, 0)
        total_y, total_x = ((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
        return (total_x // 2, total_x - total_x // 2, total_y // 2, total_y - total_y // 2)
    rows, columns = _pair(padding)
    return (columns, columns, rows, rows)


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = value
    return (rows, columns)
