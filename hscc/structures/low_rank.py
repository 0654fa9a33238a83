"""Low-rank factors: regions of output positions, clusters of input channels, and a projection of the channels.

The modules are plain convolutions, slices and concatenations: they export to ONNX as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod
from typing import Any, ClassVar

import torch
from torch import nn

from hscc.calibration.layers import CONVOLUTIONS, Box, Conv, Layer, box_size, input_window, pad, tile_box
from hscc.engine.operator import project, regional_conv
from hscc.factorisation.chain import Chain
from hscc.factorisation.factors import RegionFactors
from hscc.factorisation.spectra import columns_of
from hscc.structures.base import State, Structure, Tiles, as_tuples, conv_padding, pointwise

_LEVELS = (16, 32, 64, 128)  # ranks that are timed
_FEW_LEVELS = (16, 64)  # of a cluster or region, where there are several


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
    tiles : tuple of Box
        Start and end along each axis (first row, end row, first column, end column in two dimensions), in cells of the
        calibration grid. One for a region of a grid; one per run of cells along the last axis for an irregular region.
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
class LowRank(Structure):
    """A layer's partition into regions and clusters, each with a rank.

    Attributes
    ----------
    cells : int
        Cells per side that tiles are counted in.
    regions : tuple of Region
        Of output positions.
    input_regions : int
        Regions of the feature grid that a linear layer flattens; each of its blocks lies in one.
    projection : int
        Directions that a 1 x 1 convolution first reduces the input channels to; the blocks then
        partition the directions. 0 for none.
    """

    kind: ClassVar[str] = "low_rank"
    cells: int
    regions: tuple[Region, ...]
    input_regions: int = 1
    projection: int = 0

    def macs(self, layer: Layer) -> int:
        """See `Structure`."""
        return self.projection_macs(layer) + sum(
            self.region_positions(layer, region)
            * sum(self.rank_weights(layer, block) * block.rank for block in region.blocks)
            for region in self.regions
        )

    def params(self, layer: Layer) -> int:
        """See `Structure`."""
        # A factored region always has a bias: the mean of what the factors leave out.
        return self.projection_params(layer) + sum(
            layer.outputs + sum(self.rank_weights(layer, block) * block.rank for block in region.blocks)
            for region in self.regions
        )

    def projection_macs(self, layer: Layer) -> int:
        """Multiply-accumulates of one image through the projection alone."""
        return layer.input_positions * self.projection_params(layer)

    def projection_params(self, layer: Layer) -> int:
        """Weights of the projection; it has no bias."""
        return layer.inputs * self.projection

    def rank_weights(self, layer: Layer, block: Block) -> int:
        """Weights that one more rank of a block costs: a row of the encoder and a column of the decoder."""
        return len(block.channels) * layer.taps + layer.outputs

    def region_positions(self, layer: Layer, region: Region) -> int:
        """Output positions of a region."""
        return sum(box_size(tile_box(tile, layer.grid, self.cells)) for tile in region.tiles)

    def region_share(self, layer: Layer, region: Region) -> float:
        """Share of the output positions that a region has, 0 to 1."""
        return self.region_positions(layer, region) / layer.positions

    def with_ranks(self, ranks: Sequence[Sequence[int]]) -> LowRank:
        """Put in ranks: one list per region, one number per block."""
        regions = tuple(
            replace(region, blocks=tuple(replace(b, rank=k) for b, k in zip(region.blocks, row, strict=True)))
            for region, row in zip(self.regions, ranks, strict=True)
        )
        return replace(self, regions=regions)

    def projected_layer(self, layer: Layer) -> Layer:
        """Return the layer that the factors stand for: after a projection its inputs are the directions."""
        return replace(layer, inputs=self.projection) if self.projection else layer

    def placed_tiles(self) -> list[tuple[int, Box]]:
        """Tiles with the index of their region, in the order of a tensor's elements: row by row, from left to right."""
        tiles = [(index, tile) for index, region in enumerate(self.regions) for tile in region.tiles]
        return sorted(tiles, key=lambda entry: entry[1][::2])

    def build(self, layer: Layer) -> nn.Module:
        """See `Structure`."""
        if self.projection:
            return ProjectedConv(layer, self)
        if layer.kind == "linear":
            return ClusteredLinear(layer, self.regions[0])
        single = len(self.regions) == 1 and self.regions[0].rank > 0
        if single and layer.padding_mode == "constant" and not isinstance(conv_padding(layer), str):
            return ClusteredConv(layer, self.regions[0], own_padding=True)
        return RegionalConv(layer, self)

    def state(
        self, layer: Layer, factors: Sequence[RegionFactors], projection: torch.Tensor | None = None
    ) -> State:  # fmt: skip
        """State of the module with weights in it.

        Parameters
        ----------
        layer : Layer
            The layer.
        factors : sequence of RegionFactors
            One per region, of the blocks' ranks.
        projection : Tensor, shape (directions, C_in), optional
            Where the structure has one.
        """
        module = self.module(layer).to(factors[0].decoder.dtype)
        with torch.no_grad():
            if isinstance(module, ProjectedConv):
                assert projection is not None
                module[0].weight.copy_(projection.reshape_as(module[0].weight))  # type: ignore[operator, arg-type]
            for part, found in zip(_parts(module), factors, strict=True):
                part.fill(found)
        return {key: value.clone() for key, value in module.state_dict().items()}

    def chain(self, layer: Layer, module: nn.Module) -> Chain:
        """See `Structure`."""
        taps = self.projected_layer(layer).taps
        columns = [[columns_of(block.channels, taps) for block in region.blocks] for region in self.regions]
        factors = [part.factors(region) for part, region in zip(_parts(module), self.regions, strict=True)]
        projection = module[0].weight.detach().flatten(1) if isinstance(module, ProjectedConv) else None  # type: ignore[operator]
        return Chain(projection, columns, factors, biased=True)

    def chain_state(self, layer: Layer, chain: Chain) -> State:
        """See `Structure`."""
        return self.state(layer, chain.regions, chain.projection)

    def describe(self) -> str:
        """See `Structure`."""
        if self.projection:
            return f"{self.projection} directions, {replace(self, projection=0).describe()}"
        if self.input_regions > 1:
            return "regions of the input"
        tiles = [tile for region in self.regions for tile in region.tiles]
        if len(tiles) > len(self.regions):
            return "irregular regions"
        return f"{'x'.join(str(len(set(starts))) for starts in zip(*(tile[::2] for tile in tiles), strict=True))} grid"

    def ranks_text(self) -> str:
        """See `Structure`."""
        ranks = [block.rank for region in self.regions for block in region.blocks]
        return str(ranks[0]) if len(set(ranks)) == 1 else f"{min(ranks)} to {max(ranks)}"

    def partition_texts(self) -> tuple[str, str]:
        """See `Structure`."""
        most_blocks = max(len(region.blocks) for region in self.regions)
        return str(self.region_count), str(most_blocks // self.input_regions)

    def region_ranks(self, layer: Layer) -> list[int]:
        """See `Structure`."""
        return [region.rank for region in self.regions]

    def cell_tiles(self, layer: Layer) -> tuple[int, list[Tiles]]:
        """See `Structure`."""
        return self.cells, [region.tiles for region in self.regions]

    @property
    def region_count(self) -> int:
        """See `Structure`."""
        return max(len(self.regions), self.input_regions)

    @property
    def cluster_count(self) -> int:
        """See `Structure`."""
        return sum(len(region.blocks) for region in self.regions)

    @property
    def kept_clusters(self) -> int:
        """See `Structure`."""
        return sum(block.rank > 0 for region in self.regions for block in region.blocks)

    def timing_key(self) -> list[Any]:
        """See `Structure`: the tiles and the sizes of the clusters, not which channels they are of."""
        regions = [(region.tiles, [len(block.channels) for block in region.blocks]) for region in self.regions]
        return [self.kind, self.cells, regions, self.projection]

    def rank_levels(self, layer: Layer) -> list[tuple[int, Structure]]:
        """See `Structure`: all regions have the same rank, shared evenly by their clusters.

        Ranks that cost more than the dense layer are left out: on export their factors are multiplied out.
        """
        inner = self.projected_layer(layer)
        blocks = max(len(region.blocks) for region in self.regions)
        narrowest = min(len(block.channels) for region in self.regions for block in region.blocks)
        per_rank = sum(
            self.region_positions(layer, region) * sum(self.rank_weights(layer, block) for block in region.blocks)
            for region in self.regions
        )
        affordable = max(1, (layer.macs - self.projection_macs(layer)) // per_rank)
        widest = min(layer.outputs, narrowest * inner.taps, affordable)
        levels = _LEVELS if len(self.regions) == blocks == 1 else _FEW_LEVELS
        fitting = sorted({min(level, widest) for level in levels})
        ranks = fitting if len(fitting) > 1 else [max(1, widest // 2), widest]
        return [(blocks * rank, self._at_rank(blocks * rank)) for rank in ranks]

    def mean_rank(self, layer: Layer) -> float:
        """See `Structure`."""
        return sum(
            self.region_share(layer, region) * block.rank for region in self.regions for block in region.blocks
        )  # fmt: skip

    def _at_rank(self, rank: int) -> LowRank:
        regions = []
        for region in self.regions:
            blocks, first = [], 0
            for block in region.blocks:
                # The one permutation of an undivided layer moves into the weights of the layer before; see
                # `hscc.export.graph.permutations`. Alone, the layer would pay for it.
                in_order = tuple(range(first, first + len(block.channels)))
                channels = in_order if len(self.regions) == 1 else block.channels
                blocks.append(Block(channels, max(1, rank // len(region.blocks))))
                first += len(block.channels)
            regions.append(replace(region, blocks=tuple(blocks)))
        return replace(self, regions=tuple(regions))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LowRank:
        """See `Structure`."""
        regions = tuple(
            Region(as_tuples(region["tiles"]), tuple(Block(tuple(b["channels"]), b["rank"]) for b in region["blocks"]))
            for region in record["regions"]
        )
        return cls(record["cells"], regions, record["input_regions"], record["projection"])


class _Clustered(nn.Module):
    """Encoders of blocks of features side by side, and one decoder over them all.

    Blocks of rank 0 are never read.

    Parameters
    ----------
    inputs : int
        Features (channels) in.
    region : Region
        Blocks with their ranks.
    """

    axis: ClassVar[int]
    encoders: nn.ModuleList
    decoder: Conv | nn.Linear

    def __init__(self, inputs: int, region: Region) -> None:
        super().__init__()
        blocks = [block for block in region.blocks if block.rank]
        order = [feature for block in blocks for feature in block.channels]
        self.sizes = [len(block.channels) for block in blocks]
        self.permuted = order != list(range(inputs))
        if self.permuted:
            self.register_buffer("order", torch.tensor(order, dtype=torch.int64))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, features, ...) to (N, outputs, ...)."""
        if self.permuted:
            input = input.index_select(self.axis, self.order)  # type: ignore[arg-type]
        if len(self.encoders) == 1:
            return self.decoder(self.encoders[0](input))  # type: ignore[no-any-return]
        parts = input.split(self.sizes, dim=self.axis)
        hidden = [encoder(part) for encoder, part in zip(self.encoders, parts, strict=True)]
        return self.decoder(torch.cat(hidden, dim=self.axis))  # type: ignore[no-any-return]


class ClusteredLinear(_Clustered):
    """A linear layer as one encoder per block of features and one decoder over them all.

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    region : Region
        Blocks of input features with their ranks.
    """

    axis: ClassVar[int] = -1

    def __init__(self, layer: Layer, region: Region) -> None:
        super().__init__(layer.inputs, region)
        blocks = [block for block in region.blocks if block.rank]
        self.encoders = nn.ModuleList(nn.Linear(len(block.channels), block.rank, bias=False) for block in blocks)
        self.decoder = nn.Linear(region.rank, layer.outputs)

    def factors(self, region: Region) -> RegionFactors:
        """Read the weights."""
        return _read_factors(region, [encoder.weight.detach() for encoder in self.encoders], self.decoder)  # type: ignore[operator]

    def fill(self, factors: RegionFactors) -> None:
        """Put in weights."""
        kept = [rows for rows in factors.encoders if len(rows)]
        for encoder, rows in zip(self.encoders, kept, strict=True):
            encoder.weight.copy_(rows)  # type: ignore[operator]
        self.decoder.weight.copy_(factors.decoder)
        self.decoder.bias.copy_(factors.bias)  # type: ignore[union-attr]


class ClusteredConv(_Clustered):
    """The factors of one region: one encoder per channel cluster, one decoder over them all.

    Clusters of equal size and equal rank run as ONE grouped convolution, which costs a CPU hardly more than a plain
    one; unequal ones run side by side.

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    region : Region
        Blocks with their ranks.
    own_padding : bool
        Whether the encoder pads its input; a region's window comes padded.
    """

    axis: ClassVar[int] = 1

    def __init__(self, layer: Layer, region: Region, own_padding: bool) -> None:
        super().__init__(layer.inputs, region)
        blocks = [block for block in region.blocks if block.rank]
        padding = layer.padding[-2::-2] if own_padding else (0,) * layer.axes
        self.grouped = len({(len(block.channels), block.rank) for block in blocks}) == 1
        groups = [(sum(self.sizes), region.rank, len(blocks))] if self.grouped else [
            (len(block.channels), block.rank, 1) for block in blocks
        ]  # fmt: skip
        self.encoders = nn.ModuleList(
            CONVOLUTIONS[layer.axes](i, o, layer.kernel, layer.stride, padding, layer.dilation, g, bias=False)
            for i, o, g in groups
        )
        self.decoder = pointwise(layer, region.rank, layer.outputs, bias=True)

    def factors(self, region: Region) -> RegionFactors:
        """Read the weights."""
        kernels: list[torch.Tensor] = [encoder.weight.detach().flatten(1) for encoder in self.encoders]  # type: ignore[operator]
        if self.grouped:
            kernels = list(kernels[0].split([block.rank for block in region.blocks if block.rank]))
        return _read_factors(region, kernels, self.decoder)

    def fill(self, factors: RegionFactors) -> None:
        """Put in weights."""
        kept = [rows for rows in factors.encoders if len(rows)]
        kernels = [torch.cat(kept)] if self.grouped else kept
        for encoder, rows in zip(self.encoders, kernels, strict=True):
            encoder.weight.copy_(rows.reshape_as(encoder.weight))  # type: ignore[operator, arg-type]
        self.decoder.weight.copy_(factors.decoder.reshape_as(self.decoder.weight))
        self.decoder.bias.copy_(factors.bias)  # type: ignore[union-attr]


class ConstantRegion(nn.Module):
    """A region of rank 0: its output does not depend on its input (the black corner of a slice).

    Parameters
    ----------
    layer : Layer
        The layer it is a region of.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(layer.outputs))
        self.layer, self.kernel = layer, layer.kernel

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map an input window (N, C_in, *positions) to a constant (N, C_out, *positions')."""
        grid = _output_grid(self.layer, input.shape[2:])
        return self.bias.view(1, -1, *(1 for _ in grid)).expand(input.shape[0], -1, *grid)

    def factors(self, region: Region) -> RegionFactors:
        """Read the constant."""
        taps = prod(self.kernel)
        encoders = [self.bias.new_zeros(0, len(block.channels) * taps) for block in region.blocks]
        return RegionFactors(encoders, self.bias.new_zeros(len(self.bias), 0), self.bias.detach(), 0.0)

    def fill(self, factors: RegionFactors) -> None:
        """Put in the constant."""
        self.bias.copy_(factors.bias)


def _read_factors(region: Region, rows: list[torch.Tensor], decoder: Conv | nn.Linear) -> RegionFactors:
    """Put blocks of rank 0 back between the encoders that a module has."""
    kept = iter(rows)
    taps = rows[0].shape[1] // next(len(block.channels) for block in region.blocks if block.rank)
    encoders = [
        next(kept) if block.rank else decoder.weight.new_zeros(0, len(block.channels) * taps)
        for block in region.blocks
    ]  # fmt: skip
    assert decoder.bias is not None
    return RegionFactors(encoders, decoder.weight.detach().flatten(1), decoder.bias.detach(), 0.0)


class RegionalConv(nn.Module):
    """A convolution with factors of its own for each region of output positions.

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    structure : LowRank
        Regions as tiles; tiles that begin in the same row of cells end in the same, and so on along the other axes.
    """

    def __init__(self, layer: Layer, structure: LowRank) -> None:
        super().__init__()
        self.layer, self.cells = layer, structure.cells
        self.tiles = structure.placed_tiles()
        self.regions = nn.ModuleList(
            ClusteredConv(layer, region, own_padding=False) if region.rank else ConstantRegion(layer)
            for region in structure.regions
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C_in, *positions) to (N, C_out, *positions'); other sizes scale the regions."""
        if self.layer.axes == 2 and self.training and torch.is_grad_enabled() and self._is_undivided():
            return self._by_operator(input)
        padded = pad(self.layer, input)
        grid = _output_grid(self.layer, padded.shape[2:])
        boxes = [(index, tile_box(tile, grid, self.cells)) for index, tile in self.tiles]
        return self._joined(padded, [(index, box) for index, box in boxes if box_size(box)], axis=0)

    def _joined(self, padded: torch.Tensor, boxes: Iterable[tuple[int, Box]], axis: int) -> torch.Tensor:
        """Outputs of boxes that lie one behind the other along an axis, and side by side along the next ones."""
        parts = []
        for _, band in groupby(boxes, key=lambda entry: entry[1][2 * axis]):
            if axis + 1 < self.layer.axes:
                parts.append(self._joined(padded, band, axis + 1))
            else:
                parts += [self.regions[index](input_window(self.layer, padded, box)) for index, box in band]
        return torch.cat(parts, dim=axis + 2) if len(parts) > 1 else parts[0]

    def _is_undivided(self) -> bool:
        """Whether each region has one cluster, of all channels."""
        return all(
            isinstance(part, ConstantRegion) or (len(part.sizes) == 1 and not part.permuted)  # type: ignore[arg-type]
            for part in self.regions
        )

    def _by_operator(self, input: torch.Tensor) -> torch.Tensor:
        """Do the same in one operator, whose backward does not visit the input once per tile; not exported."""
        layer, padding = self.layer, self.layer.padding
        if layer.padding_mode != "constant":
            input, padding = pad(layer, input), (0, 0, 0, 0)
        before, behind = padding[-2::-2], padding[::-2]
        grid = _output_grid(layer, [sum(sizes) for sizes in zip(input.shape[2:], before, behind, strict=True)])
        tiles: list[Any] = [(index, *tile_box(tile, grid, self.cells)) for index, tile in self.tiles]
        cores, decoders, biases = zip(*(_weights(part, input) for part in self.regions), strict=True)
        return regional_conv(input, cores, decoders, biases, tiles, layer.stride, padding, layer.dilation)


def _output_grid(layer: Layer, sizes: Sequence[int]) -> tuple[int, ...]:
    """Output positions along each axis for a padded input of some sizes."""
    return tuple((n - far) // step + 1 for n, far, step in zip(sizes, layer.reach, layer.stride, strict=True))


def _weights(part: nn.Module, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Core, decoder and bias of a region; a rank of 0 for a constant."""
    if isinstance(part, ConstantRegion):
        none = part.bias.new_empty(0, input.shape[1], *part.kernel)
        return none, none.new_empty(part.bias.shape[0], 0), part.bias
    assert isinstance(part, ClusteredConv)
    core, decoder = part.encoders[0], part.decoder
    return core.weight, decoder.weight.flatten(1), decoder.bias  # type: ignore[return-value]


def _parts(module: nn.Module) -> list[ClusteredConv | ClusteredLinear | ConstantRegion]:
    """Modules of the regions of what a low-rank structure builds."""
    factored = module[1] if isinstance(module, ProjectedConv) else module
    parts = list(factored.regions) if isinstance(factored, RegionalConv) else [factored]
    return parts  # type: ignore[return-value]


class ProjectedConv(nn.Sequential):
    """A convolution of one tap to a few directions of the input channels, then the factors of what it gives.

    Parameters
    ----------
    layer : Layer
        The layer it replaces.
    structure : LowRank
        With a projection.
    """

    def __init__(self, layer: Layer, structure: LowRank) -> None:
        factors = replace(structure, projection=0).build(structure.projected_layer(layer))
        super().__init__(pointwise(layer, layer.inputs, structure.projection), factors)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C_in, *positions) to (N, C_out, *positions')."""
        projection, factors = self
        if self.training and torch.is_grad_enabled():
            return factors(project(input, projection.weight.flatten(1)))  # type: ignore[no-any-return, operator]
        return factors(projection(input))  # type: ignore[no-any-return]
