"""Time estimated from the shape of a layer and its structure, where none was measured.

It is what bounds the time of a plan that was made without a latency table, so it leans towards the slow side: ONNX
Runtime, which runs each tile and each cluster as an operator of its own. A network that is no slower there is no slower
in the engine. Its constants are of two threads of a server processor, from the tables of docs/latency.md; only their
ratios matter. A measured `hscc.budgets.latency_table.LatencyTable` is better.
"""

from __future__ import annotations

import math

from hscc.budgets.resources import CostModel, Counted
from hscc.calibration.layers import Layer
from hscc.structures.base import Structure
from hscc.structures.block_terms import BlockTerms
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import Block, LowRank, Region

# Milliseconds.
_MAC = 1 / 180e6
_FACTORED_MAC = 1.4 * _MAC  # narrow operands fill the registers less
_WEIGHT = 4 / 40e6  # four bytes from memory, once per call
_OPERATOR = 0.006  # once per call, of each beyond the first
_COPIED = 0.7e-6  # of each number that is cut into tiles, or joined again

NEGLIGIBLE = 0.1  # milliseconds a call, under which a network is as fast as its caller


class Estimate(Counted):
    """Milliseconds a call at one batch size, as a `hscc.budgets.resources.CostModel`.

    Parameters
    ----------
    batch : int
        Images per call.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def of_structure(self, layer: Layer, structure: Structure) -> float:
        """See `hscc.budgets.resources.CostModel`."""
        per_mac = _MAC if structure == DENSE else _FACTORED_MAC
        work = self.batch * per_mac * structure.macs(layer) + _WEIGHT * structure.params(layer)
        return work + self._overhead(layer, structure)

    def fixed(self, layer: Layer, structure: LowRank) -> float:
        """The projection, the biases and what the regions and clusters cost at any rank."""
        projection = self.batch * _FACTORED_MAC * structure.projection_macs(layer)
        weights = structure.projection_params(layer) + layer.outputs * len(structure.regions)
        return projection + _WEIGHT * weights + self._overhead(layer, structure)

    def of_rank(self, layer: Layer, structure: LowRank, region: Region, block: Block) -> float:
        """Weights of the rank, read once and multiplied at the region's positions."""
        positions = structure.region_positions(layer, region)
        return structure.rank_weights(layer, block) * (self.batch * _FACTORED_MAC * positions + _WEIGHT)

    def _overhead(self, layer: Layer, structure: Structure) -> float:
        if structure == DENSE:
            return 0.0
        regions = structure.cell_tiles(layer)[1]
        tiles = sum(map(len, regions))
        # An encoder for each cluster of each tile, and a decoder for each tile; equal terms run as one encoder.
        encoders = 1 if isinstance(structure, BlockTerms) else math.ceil(structure.cluster_count / len(regions))
        projections = isinstance(structure, LowRank) and structure.projection > 0
        operators = encoders * tiles + tiles + projections
        copied = 0
        if tiles > 1:
            copied = layer.inputs * layer.input_positions + layer.outputs * layer.positions
        return _OPERATOR * (operators - 1) + self.batch * _COPIED * copied


def estimates() -> dict[str, CostModel]:
    """Models by what they count: a single image, where weights and overheads weigh most, and a batch."""
    return {f"estimated time at batch {batch}": Estimate(batch) for batch in (1, 16)}
