"""Milliseconds of a layer in a structure, measured once a machine, runtime, number of threads and batch size.

Every structure is timed at a few ranks in alternation with the dense layer, so that the drift of the clock cancels; a
straight line through them gives what the structure costs by being there and what each rank adds. That is what the
allocation needs to spend milliseconds instead of MACs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from rich.console import Console
from rich.progress import track

from hscc.calibration.layers import Layer
from hscc.errors import ArtifactError
from hscc.files import replace_text
from hscc.structures.layer_graph import frame_graph, layer_graph
from hscc.structures.structure import DENSE, Block, Region, Structure, behind_projection, region_positions
from hscc.timing.alternation import Times, alternate
from hscc.timing.sessions import bind_session, open_graph

RANK_MULTIPLE = 16  # a rank in between takes the time of the next one where a SIMD register holds 16 numbers
_LEVELS = (16, 32, 64, 128)  # ranks that are timed
_FEW_LEVELS = (16, 64)  # a cluster or region, where there are several
_REPEATS = 11
_SECONDS = 0.3  # and no further pair after so long, beyond the first 5
_FORMAT = "hscc-latency-1"


@dataclass(frozen=True)
class Line:
    """Milliseconds of a structure as a straight line over its rank.

    Attributes
    ----------
    fixed : float
        At rank 0.
    per_rank : float
        Of one more rank at all positions of the layer.
    error : float
        Largest relative distance of a timed rank from the line.
    iqr : float
        Largest interquartile range of a timed rank, relative to its median.
    """

    fixed: float
    per_rank: float = 0.0
    error: float = 0.0
    iqr: float = 0.0


@dataclass
class LatencyTable:
    """What was measured.

    Attributes
    ----------
    machine : str
        Processor and runtime; see `this_machine`.
    threads : int
        Threads inside an operator.
    batches : tuple of int
        Images a call.
    lines : dict
        Batch size to key of layer and structure to line.
    """

    machine: str
    threads: int
    batches: tuple[int, ...]
    lines: dict[int, dict[str, Line]] = field(default_factory=dict)

    def line(self, layer: Layer, structure: Structure, batch: int) -> Line:
        """Line of a structure, measured now if it was not before."""
        key = structure_key(layer, structure)
        known = self.lines.setdefault(batch, {})
        if key not in known:
            known[key] = _measure(layer, structure, batch, self)
        return known[key]

    def measure(self, wanted: Sequence[tuple[Layer, Structure]]) -> None:
        """Measure what is missing, with a progress bar."""
        console = Console(stderr=True)
        missing = [
            (layer, structure, batch)
            for layer, structure in wanted
            for batch in self.batches
            if structure_key(layer, structure) not in self.lines.get(batch, {})
        ]
        quiet = not console.is_terminal
        for layer, structure, batch in track(missing, "timing structures", console=console, disable=quiet):
            self.line(layer, structure, batch)

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        replace_text(path, json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError
            If it is not a latency table of this version, or was measured on another machine or runtime.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != _FORMAT:
                raise KeyError("format")
            lines = {
                int(batch): {key: Line(**line) for key, line in known.items()}
                for batch, known in content.pop("lines").items()
            }
            table = cls(**{**content, "batches": tuple(content["batches"])}, lines=lines)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{path} is not a latency table of this version ({error}); delete it and measure again."
            ) from error
        if table.machine != this_machine():
            raise ArtifactError(
                f"{path} was measured on {table.machine}, this is {this_machine()}; delete it and measure again."
            )
        return table


class Latency:
    """Milliseconds a call at one batch size, as a `hscc.budgets.resources.CostModel`.

    Parameters
    ----------
    table : LatencyTable
        Measured, or to be measured as structures are asked for.
    batch : int
        Images a call.
    """

    rank_multiple, equal_clusters = RANK_MULTIPLE, True

    def __init__(self, table: LatencyTable, batch: int) -> None:
        self.table, self.batch = table, batch

    def prepare(self, wanted: Sequence[tuple[Layer, Structure]]) -> None:
        """Measure what the table lacks."""
        self.table.measure(wanted)

    def of_structure(self, layer: Layer, structure: Structure) -> float:
        """See `hscc.budgets.resources.CostModel`."""
        ranks = sum(
            self._share(layer, structure, region) * block.rank
            for region in structure.regions
            for block in region.blocks
        )
        line = self.table.line(layer, structure, self.batch)
        return line.fixed + line.per_rank * ranks

    def fixed(self, layer: Layer, structure: Structure) -> float:
        """What regions, clusters and projections cost by being there."""
        return self.table.line(layer, structure, self.batch).fixed

    def of_rank(self, layer: Layer, structure: Structure, region: Region, block: Block) -> float:
        """The region's share of the cost of one rank at all positions."""
        line = self.table.line(layer, structure, self.batch)
        return line.per_rank * self._share(layer, structure, region)

    def _share(self, layer: Layer, structure: Structure, region: Region) -> float:
        return region_positions(layer, structure.cells, region.tiles) / layer.positions


def new_table(threads: int = 2, batches: tuple[int, ...] = (1, 16)) -> LatencyTable:
    """Make an empty table for this machine; it is measured as plans ask for it."""
    return LatencyTable(this_machine(), threads, batches)


def this_machine() -> str:
    """Processor and runtime that times hold for."""
    model = "unknown processor"
    source = Path("/proc/cpuinfo")
    if source.is_file():
        names = [line.split(":", 1)[1].strip() for line in source.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, onnxruntime {onnxruntime.__version__}"


def structure_key(layer: Layer, structure: Structure) -> str:
    """Digest of what time depends on: the layer's geometry, tiles, sizes of clusters, projection; not ranks."""
    geometry = {**asdict(layer), "name": "", "bias": True}
    regions = [(region.tiles, [len(block.channels) for block in region.blocks]) for region in structure.regions]
    said = json.dumps([geometry, structure.kind, structure.cells, regions, structure.projection])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _measure(layer: Layer, structure: Structure, batch: int, table: LatencyTable) -> Line:
    dense = bound(layer_graph(layer, DENSE), batch, table.threads)
    if structure.kind == "dense":
        first, second = alternate(dense, dense, _REPEATS, _SECONDS)
        times = np.concatenate([first, second])
        return Line(max(float(np.median(times)) - _frame(layer, batch, table), 1e-4), iqr=_iqr(times))
    reference = table.line(layer, DENSE, batch).fixed
    frame = _frame(layer, batch, table)
    ranks, milliseconds, spreads = _levels(layer, structure), [], []
    for rank in ranks:
        call = bound(layer_graph(layer, _at_rank(structure, rank)), batch, table.threads)
        base, other = alternate(dense, call, _REPEATS, _SECONDS)
        # As a share of the dense layer of the same moments: the clock's drift cancels.
        share = other / base
        milliseconds.append(max(float(np.median(share)) * (reference + frame) - frame, 1e-4))
        spreads.append(_iqr(share))
    return fit_line(ranks, milliseconds, max(spreads))


def bound(graph: onnx.ModelProto, batch: int, threads: int) -> Callable[[], object]:
    """Make a call that runs a graph on one drawn batch."""
    return bind_session(open_graph(graph, threads), Path(graph.graph.name), batch, 1)


def _frame(layer: Layer, batch: int, table: LatencyTable) -> float:
    """Milliseconds of the poolings around a layer: half of those at its input and half of those at its output."""
    if layer.kind == "linear":
        return 0.0
    known = table.lines.setdefault(batch, {})
    total = 0.0
    for channels, grid in ((layer.inputs, layer.input_grid), (layer.outputs, layer.grid)):
        key = f"frame of {channels} x {grid[0]} x {grid[1]}"
        if key not in known:
            call = bound(frame_graph(channels, grid), batch, table.threads)
            times = np.concatenate(alternate(call, call, _REPEATS, _SECONDS))
            known[key] = Line(float(np.median(times)), iqr=_iqr(times))
        total += known[key].fixed / 2
    return total


def _levels(layer: Layer, structure: Structure) -> list[int]:
    inner = behind_projection(layer, structure)
    blocks = max(len(region.blocks) for region in structure.regions)
    widest = min(inner.outputs, min(len(b.channels) for r in structure.regions for b in r.blocks) * inner.taps)
    levels = _LEVELS if len(structure.regions) == blocks == 1 else _FEW_LEVELS
    fitting = sorted({min(level, widest) for level in levels})
    return [blocks * rank for rank in (fitting if len(fitting) > 1 else [max(1, widest // 2), widest])]


def _at_rank(structure: Structure, rank: int) -> Structure:
    """All regions at one rank in all, shared evenly by their clusters."""
    regions = tuple(
        replace(region, blocks=tuple(replace(b, rank=max(1, rank // len(region.blocks))) for b in region.blocks))
        for region in structure.regions
    )
    return replace(structure, regions=regions)


def fit_line(ranks: Sequence[int], milliseconds: Sequence[float], iqr: float) -> Line:
    """Straight line with the least relative error, neither end negative."""
    x, y = np.asarray(ranks, dtype=np.float64), np.asarray(milliseconds)
    design = np.stack([1 / y, x / y], axis=1)
    fixed, per_rank = np.linalg.lstsq(design, np.ones(len(y)), rcond=None)[0]
    if per_rank < 0:
        fixed, per_rank = float(np.mean(y)), 0.0
    elif fixed < 0:
        fixed, per_rank = 0.0, float(1 / np.mean(x / y))
    error = float(np.abs((fixed + per_rank * x) / y - 1).max())
    return Line(float(fixed), float(per_rank), error, iqr)


def _iqr(values: Times) -> float:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float((high - low) / middle)
