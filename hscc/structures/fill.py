"""From factors to the state of the module that takes a layer's place."""

from __future__ import annotations

import torch

from hscc.calibration.layers import Layer
from hscc.factorisation.factors import RegionFactors
from hscc.structures.modules import (
    ClusteredConv2d,
    ClusteredLinear,
    ConstantRegion,
    ProjectedConv2d,
    RegionalConv2d,
    replacement,
)
from hscc.structures.structure import Region, Structure, behind_projection

State = dict[str, torch.Tensor]


def low_rank_state(
    layer: Layer, structure: Structure, factors: list[RegionFactors], projection: torch.Tensor | None = None
) -> State:
    """State of `hscc.structures.modules.replacement` for a "low_rank" structure.

    Parameters
    ----------
    layer : Layer
        The layer.
    structure : Structure
        With ranks.
    factors : list of RegionFactors
        One a region.
    projection : Tensor, shape (directions, C_in), optional
        Of the structure, if it has one.
    """
    module = replacement(layer, structure).to(factors[0].decoder.dtype)
    inner = behind_projection(layer, structure)
    with torch.no_grad():
        factored = module
        if isinstance(module, ProjectedConv2d):
            assert projection is not None
            module[0].weight.copy_(projection[:, :, None, None])  # type: ignore[operator]
            factored = module[1]
        if isinstance(factored, RegionalConv2d):
            for part, region, factor in zip(factored.regions, structure.regions, factors, strict=True):
                _fill_region(inner, part, region, factor)
        else:
            _fill_region(inner, factored, structure.regions[0], factors[0])
    return {key: value.clone() for key, value in module.state_dict().items()}


def _fill_region(layer: Layer, module: torch.nn.Module, region: Region, factors: RegionFactors) -> None:
    if isinstance(module, ConstantRegion):
        module.bias.copy_(factors.bias)
        return
    assert isinstance(module, ClusteredConv2d | ClusteredLinear)
    kept = [(block, rows) for block, rows in zip(region.blocks, factors.encoders, strict=True) if block.rank]
    decoder = factors.decoder
    if isinstance(module, ClusteredConv2d):
        kernels = [rows.reshape(block.rank, len(block.channels), *layer.kernel) for block, rows in kept]
        decoder = decoder[:, :, None, None]
    else:
        kernels = [rows for _, rows in kept]
    if isinstance(module, ClusteredConv2d) and module.grouped:
        kernels = [torch.cat(kernels)]
    for encoder, kernel in zip(module.encoders, kernels, strict=True):
        encoder.weight.copy_(kernel)  # type: ignore[operator]
    module.decoder.weight.copy_(decoder)
    assert module.decoder.bias is not None
    module.decoder.bias.copy_(factors.bias)
