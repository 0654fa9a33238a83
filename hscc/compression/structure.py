"""What a factored layer looks like: regions of output positions, clusters of input channels, ranks. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hscc.calibration.cells import area, tile_rectangle
from hscc.calibration.layers import Layer, Rectangle


@dataclass(frozen=True)
class Block:
    """One spatio-channel cluster: input channels that share a low-rank factor.

    Attributes
    ----------
    channels : tuple of int
        Input channels, ascending.
    rank : int
        Rank of its factors; 0 drops the cluster.
    """

    channels: tuple[int, ...]
    rank: int = 0


@dataclass(frozen=True)
class Region:
    """A rectangle of output positions with factors of its own.

    Attributes
    ----------
    tile : Rectangle
        First row, end row, first column, end column, in cells of the calibration grid.
    blocks : tuple of Block
        They partition the input channels.
    """

    tile: Rectangle
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
        "dense", "low_rank" or "tucker".
    cells : int
        Cells a side that tiles are counted in.
    regions : tuple of Region
        Tiles in rows, each row of tiles over the full width ("low_rank").
    core : (int, int)
        Ranks of the input and the output mode ("tucker").
    """

    kind: str
    cells: int = 1
    regions: tuple[Region, ...] = ()
    core: tuple[int, int] = (0, 0)

    @property
    def region_grid(self) -> tuple[int, int]:
        """Rows and columns of regions."""
        rows = len({region.tile[0] for region in self.regions})
        return rows, len(self.regions) // rows if rows else 0

    @property
    def clusters(self) -> int:
        """Most clusters in a region."""
        return max((len(region.blocks) for region in self.regions), default=0)


DENSE = Structure("dense")


def with_ranks(structure: Structure, ranks: list[list[int]]) -> Structure:
    """Put ranks, a list a region and a number a block, into a structure."""
    regions = tuple(
        replace(region, blocks=tuple(replace(b, rank=k) for b, k in zip(region.blocks, row, strict=True)))
        for region, row in zip(structure.regions, ranks, strict=True)
    )
    return replace(structure, regions=regions)


def structure_macs(layer: Layer, structure: Structure) -> int:
    """Multiply-accumulates of one image through a structured layer."""
    if structure.kind == "dense":
        return layer.macs
    if structure.kind == "tucker":
        return _tucker_macs(layer, structure.core)
    return sum(
        tile_positions(layer, structure, region)
        * sum(rank_weights(layer, block) * block.rank for block in region.blocks)
        for region in structure.regions
    )


def structure_params(layer: Layer, structure: Structure) -> int:
    """Parameters of a structured layer, biases included."""
    bias = layer.outputs if layer.bias else 0
    if structure.kind == "dense":
        return layer.weights + bias
    if structure.kind == "tucker":
        inner, outer = structure.core
        return layer.inputs * inner + inner * outer * layer.taps + outer * layer.outputs + bias
    # A factored region always has a bias: it carries the mean of what the factors leave out.
    return sum(
        layer.outputs + sum(rank_weights(layer, block) * block.rank for block in region.blocks)
        for region in structure.regions
    )


def tile_positions(layer: Layer, structure: Structure, region: Region) -> int:
    """Output positions of a region."""
    return area(tile_rectangle(region.tile, layer.grid, structure.cells))


def rank_weights(layer: Layer, block: Block) -> int:
    """Weights that one more rank of a block costs: a row of the encoder and a column of the decoder."""
    return len(block.channels) * layer.taps + layer.outputs


def _tucker_macs(layer: Layer, core: tuple[int, int]) -> int:
    inner, outer = core
    rows, columns = layer.grid
    input_positions = layer.input_grid[0] * layer.input_grid[1]
    core_and_out = (inner * outer * layer.taps + outer * layer.outputs) * rows * columns
    return layer.inputs * inner * input_positions + core_and_out
