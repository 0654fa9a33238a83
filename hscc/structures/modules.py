"""The modules that take a layer's place. Plain convolutions, slices and concatenations: they export to ONNX as such."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import torch
from torch import nn

from hscc.calibration.layers import Layer, Rectangle, area, input_window, pad, reach, tile_rectangle
from hscc.structures.structure import Region, Structure, behind_projection


class ClusteredLinear(nn.Module):
    """A linear layer as an encoder a block of features and one decoder over them all.

    Blocks of rank 0 are never read.

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    region : Region
        Blocks of input features with their ranks.
    """

    def __init__(self, layer: Layer, region: Region) -> None:
        super().__init__()
        blocks = [block for block in region.blocks if block.rank]
        order = [feature for block in blocks for feature in block.channels]
        self.sizes = [len(block.channels) for block in blocks]
        self.permuted = order != list(range(layer.features))
        if self.permuted:
            self.register_buffer("order", torch.tensor(order, dtype=torch.int64))
        self.encoders = nn.ModuleList(nn.Linear(len(block.channels), block.rank, bias=False) for block in blocks)
        self.decoder = nn.Linear(region.rank, layer.outputs)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, features) to (N, outputs)."""
        if self.permuted:
            input = input.index_select(-1, self.order)  # type: ignore[arg-type]
        if len(self.encoders) == 1:
            return self.decoder(self.encoders[0](input))  # type: ignore[no-any-return]
        parts = input.split(self.sizes, dim=-1)
        hidden = [encoder(part) for encoder, part in zip(self.encoders, parts, strict=True)]
        return self.decoder(torch.cat(hidden, dim=-1))  # type: ignore[no-any-return]


class ClusteredConv2d(nn.Module):
    """The factors of one region: an encoder a channel cluster, one decoder over them all.

    Clusters of equal size and equal rank run as ONE grouped convolution, which costs a CPU hardly more than a plain
    one; unequal ones run side by side. Clusters of rank 0 are never read.

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    region : Region
        Blocks with their ranks.
    own_padding : bool
        Whether the encoder pads its input; a region's window comes padded.
    """

    def __init__(self, layer: Layer, region: Region, own_padding: bool) -> None:
        super().__init__()
        blocks = [block for block in region.blocks if block.rank]
        order = [channel for block in blocks for channel in block.channels]
        self.sizes = [len(block.channels) for block in blocks]
        self.permuted = order != list(range(layer.inputs))
        if self.permuted:
            self.register_buffer("order", torch.tensor(order, dtype=torch.int64))
        padding = (layer.padding[2], layer.padding[0]) if own_padding else (0, 0)
        # One grouped convolution where the blocks allow it, else a convolution a block.
        self.grouped = len({(len(block.channels), block.rank) for block in blocks}) == 1
        groups = [(sum(self.sizes), region.rank, len(blocks))] if self.grouped else [
            (len(block.channels), block.rank, 1) for block in blocks
        ]  # fmt: skip
        self.encoders = nn.ModuleList(
            nn.Conv2d(i, o, layer.kernel, layer.stride, padding, layer.dilation, g, bias=False) for i, o, g in groups
        )
        self.decoder = nn.Conv2d(region.rank, layer.outputs, 1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C_in, rows, columns) to (N, C_out, rows', columns')."""
        if self.permuted:
            input = input.index_select(1, self.order)  # type: ignore[arg-type]
        if len(self.encoders) == 1:
            return self.decoder(self.encoders[0](input))  # type: ignore[no-any-return]
        parts = input.split(self.sizes, dim=1)
        hidden = [encoder(part) for encoder, part in zip(self.encoders, parts, strict=True)]
        return self.decoder(torch.cat(hidden, dim=1))  # type: ignore[no-any-return]


class ConstantRegion(nn.Module):
    """A region of rank 0: what it puts out does not depend on what it sees (the black corner of a slice)."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(layer.outputs))
        self.stride, self.reach = layer.stride, reach(layer)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map an input window (N, C_in, rows, columns) to a constant (N, C_out, rows', columns')."""
        rows = (input.shape[2] - self.reach[0]) // self.stride[0] + 1
        columns = (input.shape[3] - self.reach[1]) // self.stride[1] + 1
        return self.bias.view(1, -1, 1, 1).expand(input.shape[0], -1, rows, columns)


class RegionalConv2d(nn.Module):
    """A convolution with factors of its own for each region of output positions.

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    structure : Structure
        Regions as tiles; tiles that begin in the same row of cells end in the same.
    """

    def __init__(self, layer: Layer, structure: Structure) -> None:
        super().__init__()
        self.layer, self.cells = layer, structure.cells
        self.bands = bands(structure)
        self.regions = nn.ModuleList(
            ClusteredConv2d(layer, region, own_padding=False) if region.rank else ConstantRegion(layer)
            for region in structure.regions
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C_in, rows, columns) to (N, C_out, rows', columns'); other sizes scale the regions."""
        padded = pad(self.layer, input)
        grid = tuple(
            (padded.shape[axis + 2] - reach(self.layer)[axis]) // self.layer.stride[axis] + 1 for axis in (0, 1)
        )
        joined = []
        for band in self.bands:
            row = []
            for index, tile in band:
                rectangle = tile_rectangle(tile, grid, self.cells)  # type: ignore[arg-type]
                if area(rectangle):
                    row.append(self.regions[index](input_window(self.layer, padded, rectangle)))
            if row:
                joined.append(torch.cat(row, dim=3) if len(row) > 1 else row[0])
        return torch.cat(joined, dim=2) if len(joined) > 1 else joined[0]


def bands(structure: Structure) -> list[list[tuple[int, Rectangle]]]:
    """Tiles with the index of their region, row by row and from left to right."""
    tiles = sorted(
        ((tile, index) for index, region in enumerate(structure.regions) for tile in region.tiles),
        key=lambda entry: (entry[0][0], entry[0][2]),
    )
    return [[(index, tile) for tile, index in band] for _, band in groupby(tiles, key=lambda entry: entry[0][0])]


class ProjectedConv2d(nn.Sequential):
    """A 1 x 1 convolution to a few directions of the input channels, then the factors of what it gives.

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    structure : Structure
        With a projection.
    """

    def __init__(self, layer: Layer, structure: Structure) -> None:
        factors = _factored(behind_projection(layer, structure), replace(structure, projection=0))
        super().__init__(nn.Conv2d(layer.inputs, structure.projection, 1, bias=False), factors)


class TuckerConv2d(nn.Sequential):
    """Tucker-2: 1 x 1, k x k on the core, 1 x 1 (Kim et al., 2015).

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    core : (int, int)
        Ranks of the input and of the output mode.
    """

    def __init__(self, layer: Layer, core: tuple[int, int]) -> None:
        inner, outer = core
        mode = "zeros" if layer.padding_mode == "constant" else layer.padding_mode
        super().__init__(
            nn.Conv2d(layer.inputs, inner, 1, bias=False),
            nn.Conv2d(
                inner, outer, layer.kernel, layer.stride, _symmetric(layer), layer.dilation,
                bias=False, padding_mode=mode,  # type: ignore[arg-type]
            ),
            nn.Conv2d(outer, layer.outputs, 1, bias=layer.bias),
        )  # fmt: skip


class SpatialConv2d(nn.Sequential):
    """Spatial SVD: k x 1, then 1 x k (Jaderberg et al., 2014).

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    rank : int
        Channels between the two.
    """

    def __init__(self, layer: Layer, rank: int) -> None:
        mode = "zeros" if layer.padding_mode == "constant" else layer.padding_mode
        down, across = (_symmetric(layer), _symmetric(layer))
        if not isinstance(down, str):
            down, across = (layer.padding[2], 0), (0, layer.padding[0])
        super().__init__(
            nn.Conv2d(
                layer.inputs, rank, (layer.kernel[0], 1), (layer.stride[0], 1), down, (layer.dilation[0], 1),
                bias=False, padding_mode=mode,  # type: ignore[arg-type]
            ),
            nn.Conv2d(
                rank, layer.outputs, (1, layer.kernel[1]), (1, layer.stride[1]), across, (1, layer.dilation[1]),
                bias=layer.bias, padding_mode=mode,  # type: ignore[arg-type]
            ),
        )  # fmt: skip


def replacement(layer: Layer, structure: Structure) -> nn.Module:
    """Make the untrained module that a structure describes.

    Parameters
    ----------
    layer : Layer
        The layer to replace.
    structure : Structure
        Any kind but "dense".
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not spent on weights that are overwritten
        return _untrained(layer, structure)


def _untrained(layer: Layer, structure: Structure) -> nn.Module:
    if structure.kind == "tucker":
        return TuckerConv2d(layer, structure.core)
    if structure.kind == "spatial":
        return SpatialConv2d(layer, structure.core[0])
    if structure.projection:
        return ProjectedConv2d(layer, structure)
    return _factored(layer, structure)


def _factored(layer: Layer, structure: Structure) -> nn.Module:
    if layer.kind == "linear":
        return ClusteredLinear(layer, structure.regions[0])
    single = len(structure.regions) == 1 and structure.regions[0].rank > 0
    if single and layer.padding_mode == "constant" and _is_symmetric(layer):
        return ClusteredConv2d(layer, structure.regions[0], own_padding=True)
    return RegionalConv2d(layer, structure)


def _is_symmetric(layer: Layer) -> bool:
    left, right, top, bottom = layer.padding
    return left == right and top == bottom


def _symmetric(layer: Layer) -> str | tuple[int, int]:
    return (layer.padding[2], layer.padding[0]) if _is_symmetric(layer) else "same"
