"""What a factored layer looks like: regions of output positions, clusters of input channels, ranks. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from hscc.calibration.layers import Layer, Rectangle, area, tile_rectangle

Tiles = tuple[Rectangle, ...]


@dataclass(frozen=True)
class Block:
    """One spatio-channel cluster: inputs that share a low-rank factor.

    Attributes
    ----------
    channels : tuple of int
        Input channels of a convolution, input features of a linear layer; ascending.
    rank : int
        Rank of its factors; 0 drops the cluster.
    """

    channels: tuple[int, ...]
    rank: int = 0


@dataclass(frozen=True)
class Region:
    """Output positions with factors of their own.

    Attributes
    ----------
    tiles : tuple of Rectangle
        Each first row, end row, first column, end column, in cells of the calibration grid. One for a region of a
        grid; one a row of cells and run for an irregular region.
    blocks : tuple of Block
        They partition the input channels.
    """

    tiles: Tiles
    blocks: tuple[Block, ...]

    @property
    def rank(self) -> int:
        """Sum of the blocks' ranks."""
        return sum(block.rank for block in self.blocks)


@dataclass(frozen=True)
class Structure:
    """A layer's partition, with ranks once they are allocated.

    Attributes
    ----------
    kind : str
        "dense", "low_rank", "tucker" or "spatial".
    cells : int
        Cells a side that tiles are counted in.
    regions : tuple of Region
        Of output positions ("low_rank").
    core : (int, int)
        Ranks of the input and the output mode ("tucker"); rank and 0 ("spatial").
    input_regions : int
        Regions of the feature grid that a linear layer flattens; each of its blocks lies in one.
    projection : int
        Directions that a 1 x 1 convolution first reduces the input channels to ("low_rank"); each region then has one
        block of them all.
        0 for none.
    """

    kind: str
    cells: int = 1
    regions: tuple[Region, ...] = ()
    core: tuple[int, int] = (0, 0)
    input_regions: int = 1
    projection: int = 0

    @cached_property
    def region_count(self) -> int:
        """Regions of output positions, or of the input of a linear layer."""
        return max(len(self.regions), self.input_regions)

    @cached_property
    def clusters(self) -> int:
        """Most clusters in a region."""
        return max((len(region.blocks) for region in self.regions), default=0) // self.input_regions


DENSE = Structure("dense")


def with_ranks(structure: Structure, ranks: list[list[int]]) -> Structure:
    """Put ranks, a list a region and a number a block, into a structure."""
    regions = tuple(
        replace(region, blocks=tuple(replace(b, rank=k) for b, k in zip(region.blocks, row, strict=True)))
        for region, row in zip(structure.regions, ranks, strict=True)
    )
    return replace(structure, regions=regions)


def behind_projection(layer: Layer, structure: Structure) -> Layer:
    """Return the layer that the factors stand for: behind a projection its inputs are the directions."""
    return replace(layer, inputs=structure.projection) if structure.projection else layer


def projection_macs(layer: Layer, structure: Structure) -> int:
    """Multiply-accumulates of one image through the projection alone."""
    return layer.input_grid[0] * layer.input_grid[1] * projection_params(layer, structure)


def projection_params(layer: Layer, structure: Structure) -> int:
    """Weights of the projection; it has no bias."""
    return layer.inputs * structure.projection


def structure_macs(layer: Layer, structure: Structure) -> int:
    """Multiply-accumulates of one image through a structured layer."""
    if structure.kind == "dense":
        return layer.macs
    if structure.kind == "tucker":
        return _tucker_macs(layer, structure.core)
    if structure.kind == "spatial":
        return _spatial_macs(layer, structure.core[0])
    inner = behind_projection(layer, structure)
    return projection_macs(layer, structure) + sum(
        region_positions(layer, structure.cells, region.tiles)
        * sum(rank_weights(inner, block) * block.rank for block in region.blocks)
        for region in structure.regions
    )


def structure_params(layer: Layer, structure: Structure) -> int:
    """Parameters of a structured layer, biases included."""
    bias = layer.outputs if layer.bias else 0
    if structure.kind == "dense":
        return layer.weights + bias
    if structure.kind == "tucker":
        mode, outer = structure.core
        return layer.inputs * mode + mode * outer * layer.taps + outer * layer.outputs + bias
    if structure.kind == "spatial":
        return structure.core[0] * (layer.inputs * layer.kernel[0] + layer.outputs * layer.kernel[1]) + bias
    inner = behind_projection(layer, structure)
    # A factored region always has a bias: it carries the mean of what the factors leave out.
    return projection_params(layer, structure) + sum(
        layer.outputs + sum(rank_weights(inner, block) * block.rank for block in region.blocks)
        for region in structure.regions
    )


def region_positions(layer: Layer, cells: int, tiles: Tiles) -> int:
    """Output positions of a region."""
    return sum(area(tile_rectangle(tile, layer.grid, cells)) for tile in tiles)


def rank_weights(layer: Layer, block: Block) -> int:
    """Weights that one more rank of a block costs: a row of the encoder and a column of the decoder."""
    return len(block.channels) * layer.taps + layer.outputs


def _tucker_macs(layer: Layer, core: tuple[int, int]) -> int:
    inner, outer = core
    input_positions = layer.input_grid[0] * layer.input_grid[1]
    core_and_out = (inner * outer * layer.taps + outer * layer.outputs) * layer.positions
    return layer.inputs * inner * input_positions + core_and_out


def _spatial_macs(layer: Layer, rank: int) -> int:
    # The column filters run over rows already strided and columns not yet strided.
    columns_between = layer.input_grid[1]
    down = layer.inputs * layer.kernel[0] * layer.grid[0] * columns_between
    return rank * (down + layer.outputs * layer.kernel[1] * layer.positions)
