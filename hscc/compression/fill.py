"""From factors to the state of the module that takes a layer's place."""

from __future__ import annotations

import torch

from hscc.calibration.layers import Layer
from hscc.compression.factors import RegionFactors
from hscc.compression.modules import ClusteredConv2d, ConstantTile, LowRankLinear, RegionalConv2d, replacement
from hscc.compression.spectra import columns_of
from hscc.compression.structure import Region, Structure

State = dict[str, torch.Tensor]


def low_rank_state(layer: Layer, structure: Structure, factors: list[RegionFactors]) -> State:
    """State of `hscc.compression.modules.replacement` for a "low_rank" structure.

    Parameters
    ----------
    layer : Layer
        The layer.
    structure : Structure
        With ranks.
    factors : list of RegionFactors
        One a region.
    """
    module = replacement(layer, structure).to(factors[0].decoder.dtype)
    with torch.no_grad():
        if isinstance(module, LowRankLinear):
            module.encoder.weight.copy_(factors[0].encoder)
            module.decoder.weight.copy_(factors[0].decoder)
            module.decoder.bias.copy_(factors[0].bias)
        elif isinstance(module, ClusteredConv2d):
            _fill_tile(layer, module, structure.regions[0], factors[0])
        else:
            assert isinstance(module, RegionalConv2d)
            for tile, region, factor in zip(module.tiles, structure.regions, factors, strict=True):
                _fill_tile(layer, tile, region, factor)
    return {key: value.clone() for key, value in module.state_dict().items()}


def _fill_tile(layer: Layer, tile: torch.nn.Module, region: Region, factors: RegionFactors) -> None:
    if isinstance(tile, ConstantTile):
        tile.bias.copy_(factors.bias)
        return
    assert isinstance(tile, ClusteredConv2d)
    kernels, row = [], 0
    for block in (block for block in region.blocks if block.rank):
        part = factors.encoder[row : row + block.rank, columns_of(layer, block.channels)]
        kernels.append(part.reshape(block.rank, len(block.channels), *layer.kernel))
        row += block.rank
    if tile.grouped:
        tile.encoders[0].weight.copy_(torch.cat(kernels))  # type: ignore[operator]
    else:
        for encoder, kernel in zip(tile.encoders, kernels, strict=True):
            encoder.weight.copy_(kernel)  # type: ignore[operator]
    tile.decoder.weight.copy_(factors.decoder[:, :, None, None])
    assert tile.decoder.bias is not None
    tile.decoder.bias.copy_(factors.bias)
