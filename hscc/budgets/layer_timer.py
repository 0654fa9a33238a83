"""Time the structures of one layer in the runtime of a table.

A structure is timed in alternation with the dense layer, so that the drift of the clock cancels. A layer alone pays for
what it does not pay for inside a network (the call, the way into the runtime's memory layout and back): that time is
measured at the dense layer and subtracted from all.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import nn

from hscc.budgets.latency_table import LatencyTable, Line, fit_line, structure_key
from hscc.calibration.layers import Layer
from hscc.structures.base import Structure
from hscc.structures.dense import DENSE
from hscc.timing.alternation import Times, alternate
from hscc.timing.runtimes import ENGINE, RUNTIMES, EngineRuntime, EngineSession, OnnxReader, Session

_REPEATS = 11
_LEAST = 1e-4  # milliseconds


class LayerTimer(ABC):
    """Times the structures of one layer at all batch sizes of a table; each is opened once.

    Parameters
    ----------
    layer : Layer
        The layer.
    table : LatencyTable
        Takes the dense layer's times.

    Attributes
    ----------
    seconds : float
        After so long no further pair of calls begins, beyond the first 5.
    """

    seconds: ClassVar[float] = 0.3

    def __init__(self, layer: Layer, table: LatencyTable) -> None:
        self.layer, self.table = layer, table
        self.key = structure_key(layer, DENSE)

    @staticmethod
    def of(layer: Layer, table: LatencyTable) -> LayerTimer:
        """Timer for the runtime of a table."""
        return EngineLayerTimer(layer, table) if table.runtime == ENGINE else OnnxLayerTimer(layer, table)

    @abstractmethod
    def sessions(self, structures: Sequence[Structure]) -> Iterator[Session]:
        """Open the layer in structures of one `Structure.timing_key`, with a ReLU behind it."""

    @abstractmethod
    def around(self, batch: int) -> float:
        """Milliseconds of a call that are not the layer's."""

    def lines(self, structure: Structure) -> dict[int, Line]:
        """Lines of a structure by batch size."""
        if structure == DENSE:
            return self.dense
        levels = self.levels(structure)
        shares: dict[int, list[Times]] = {batch: [] for batch in self.table.batches}
        for session in self.sessions([timed for _, timed in levels]):
            for batch, known in shares.items():
                base, other = alternate(self.dense_session.bind(batch), session.bind(batch), _REPEATS, self.seconds)
                # As a share of the dense layer of the same moments: the clock's drift cancels.
                known.append(other / base)
        return {batch: self._line(batch, [rank for rank, _ in levels], known) for batch, known in shares.items()}

    def levels(self, structure: Structure) -> list[tuple[int, Structure]]:
        """Ranks with the structures that are timed at them."""
        return structure.rank_levels(self.layer) or [(0, structure)]

    @cached_property
    def dense_session(self) -> Session:
        """The dense layer, ready to run."""
        return next(self.sessions([DENSE]))

    @cached_property
    def dense(self) -> dict[int, Line]:
        """Times of the dense layer by batch size: those of the table where it has them."""
        return {batch: self._dense_line(batch) for batch in self.table.batches}

    @cached_property
    def outside(self) -> dict[int, float]:
        """`around` by batch size."""
        return {batch: self.around(batch) for batch in self.table.batches}

    def times(self, session: Session, batch: int) -> Times:
        """Milliseconds of calls of a session."""
        call = session.bind(batch)
        return np.concatenate(alternate(call, call, _REPEATS, self.seconds))

    def _line(self, batch: int, ranks: list[int], shares: list[Times]) -> Line:
        whole = self.dense[batch].fixed + self.outside[batch]
        milliseconds = [max(float(np.median(share)) * whole - self.outside[batch], _LEAST) for share in shares]
        spread = max(map(_iqr, shares))
        return fit_line(ranks, milliseconds, spread) if len(ranks) > 1 else Line(milliseconds[0], iqr=spread)

    def _dense_line(self, batch: int) -> Line:
        known = self.table.lines.get(batch, {})
        if self.key not in known:
            times = self.times(self.dense_session, batch)
            self.table.lines.setdefault(batch, {})[self.key] = Line(
                max(float(np.median(times)) - self.outside[batch], _LEAST), iqr=_iqr(times)
            )
        return self.table.lines[batch][self.key]


class EngineLayerTimer(LayerTimer):
    """Times layers in the engine, each as a program of its own."""

    seconds = 0.06

    def levels(self, structure: Structure) -> list[tuple[int, Structure]]:
        """See `LayerTimer`: the ends, for the engine's time is a line over the rank."""
        levels = super().levels(structure)
        return levels if len(levels) < 3 else [levels[0], levels[-1]]

    def sessions(self, structures: Sequence[Structure]) -> Iterator[Session]:
        """See `LayerTimer`."""
        shape = (self.layer.inputs, *self.layer.input_grid) if self.layer.kind == "conv" else (self.layer.inputs,)
        for structure in structures:
            network = nn.Sequential(structure.module(self.layer), nn.ReLU()).eval()
            yield EngineRuntime().open_module(network, shape, self.table.threads)

    def around(self, batch: int) -> float:
        """See `LayerTimer`: the call from Python, and the changes of layout at the borders of a network."""
        known = self.table.lines.setdefault(batch, {})
        key = f"around {self.key}"
        if key not in known:
            session = self.dense_session
            assert isinstance(session, EngineSession)
            images = np.zeros((batch, *session.engine.input_shapes[0]), np.float32)
            began = time.perf_counter()
            found = session.engine.profile(images, calls=_REPEATS)
            wall = (time.perf_counter() - began) * 1e3 / (_REPEATS + 1)  # and one call that is not counted
            inside = sum(row.milliseconds for row in found if row.operation not in ("input", "output"))
            times = self.times(session, batch)
            known[key] = Line(float(np.median(times)) * max(1 - inside / wall, 0.0), iqr=_iqr(times))
        return known[key].fixed


class OnnxLayerTimer(LayerTimer):
    """Times layers in a runtime that reads ONNX, between poolings; see `hscc.budgets.layer_graphs`."""

    def __init__(self, layer: Layer, table: LatencyTable) -> None:
        super().__init__(layer, table)
        runtime = RUNTIMES[table.runtime]
        assert isinstance(runtime, OnnxReader)
        self.runtime = runtime

    def sessions(self, structures: Sequence[Structure]) -> Iterator[Session]:
        """See `LayerTimer`."""
        from hscc.budgets.layer_graphs import layer_graphs

        for graph in layer_graphs(self.layer, structures):
            yield self.runtime.open_graph(graph, self.table.threads)

    def around(self, batch: int) -> float:
        """See `LayerTimer`: half of the poolings on either side of the layer."""
        if self.layer.kind == "linear":
            return 0.0
        ends = ((self.layer.inputs, self.layer.input_grid), (self.layer.outputs, self.layer.grid))
        return sum(self._frame(*end, batch) / 2 for end in ends)

    def _frame(self, channels: int, grid: tuple[int, ...], batch: int) -> float:
        from hscc.budgets.layer_graphs import frame_graph

        known = self.table.lines.setdefault(batch, {})
        key = f"frame of {' x '.join(map(str, (channels, *grid)))}"
        if key not in known:
            times = self.times(self.runtime.open_graph(frame_graph(channels, grid), self.table.threads), batch)
            known[key] = Line(float(np.median(times)), iqr=_iqr(times))
        return known[key].fixed


def _iqr(values: Times) -> float:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float((high - low) / middle)
