"""Milliseconds of a layer in a structure, measured once per machine, runtime, number of threads and batch size.

Every structure is timed at a few ranks in alternation with the dense layer, so that the drift of the clock cancels; a
straight line through them gives what the structure costs at rank 0 and what each rank adds. That is what the allocation
needs to spend milliseconds instead of MACs.

What is timed is the ONNX export of the structure's own module, simplified as for a network that ships. Inside a network
ONNX Runtime keeps feature maps in blocks of channels (NCHWc) from one convolution to the next; alone, a layer would pay
for the way there and back at each call. So a 1 x 1 max pooling, which keeps that layout, stands before and behind the
layer, and the time of the poolings alone is subtracted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime import InferenceSession
from rich.console import Console
from rich.progress import Progress
from torch import nn

from hscc.budgets.resources import CostModel
from hscc.calibration.layers import Layer
from hscc.errors import ArtifactError
from hscc.export.graph.simplify import simplify
from hscc.export.to_onnx import runtime_onnx, to_onnx
from hscc.files import replace_text
from hscc.structures.base import SIMD_WIDTH, Structure
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import Block, LowRank, Region
from hscc.timing.alternation import Call, Times, alternate
from hscc.timing.sessions import bind_session, open_graph

_BLOCKED = SIMD_WIDTH  # channels from which on a pooling keeps the blocked layout
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
        Images per call.
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
        if key not in self.lines.get(batch, {}):
            self.measure([(layer, structure)])
        return self.lines[batch][key]

    def measure(self, wanted: Sequence[tuple[Layer, Structure]]) -> None:
        """Measure what is missing at all batch sizes, with a progress bar."""
        missing: dict[Layer, dict[str, Structure]] = {}
        for layer, structure in wanted:
            key = structure_key(layer, structure)
            if any(key not in self.lines.get(batch, {}) for batch in self.batches):
                missing.setdefault(_geometry(layer), {})[key] = structure
        console = Console(stderr=True)
        total = sum(map(len, missing.values()))
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("timing structures", total=total)
            for layer, structures in missing.items():
                timer = _LayerTimer(layer, self)
                for key, structure in structures.items():
                    for batch, line in timer.lines(structure).items():
                        self.lines.setdefault(batch, {})[key] = line
                    progress.advance(task)

    def models(self) -> dict[str, CostModel]:
        """Cost models by what they count, one for each batch size."""
        return {f"time at batch {batch}": Latency(self, batch) for batch in self.batches}

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
        Measured, or measured where it lacks a structure.
    batch : int
        Images per call.
    """

    rank_multiple, equal_clusters = SIMD_WIDTH, True

    def __init__(self, table: LatencyTable, batch: int) -> None:
        self.table, self.batch = table, batch

    def prepare(self, wanted: Sequence[tuple[Layer, Structure]]) -> None:
        """Measure what the table lacks."""
        self.table.measure(wanted)

    def of_structure(self, layer: Layer, structure: Structure) -> float:
        """See `hscc.budgets.resources.CostModel`."""
        line = self.table.line(layer, structure, self.batch)
        return line.fixed + line.per_rank * structure.mean_rank(layer)

    def fixed(self, layer: Layer, structure: LowRank) -> float:
        """Time of regions, clusters and projections at rank 0."""
        return self.table.line(layer, structure, self.batch).fixed

    def of_rank(self, layer: Layer, structure: LowRank, region: Region, block: Block) -> float:
        """The region's share of the cost of one rank at all positions."""
        line = self.table.line(layer, structure, self.batch)
        return line.per_rank * structure.region_share(layer, region)


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
    """Digest of what time depends on: the layer's geometry and the structure, not the ranks that a line is over."""
    content = json.dumps([asdict(_geometry(layer)), *structure.timing_key()])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _geometry(layer: Layer) -> Layer:
    return replace(layer, name="", bias=True)


class _LayerTimer:
    """Times the structures of one layer at all batch sizes of a table; each graph is exported and opened once."""

    def __init__(self, layer: Layer, table: LatencyTable) -> None:
        self.layer, self.table = layer, table
        self.key = structure_key(layer, DENSE)

    def lines(self, structure: Structure) -> dict[int, Line]:
        """Lines of a structure by batch size."""
        if structure == DENSE:
            return self.dense
        levels = structure.rank_levels(self.layer) or [(0, structure)]
        shares: dict[int, list[Times]] = {batch: [] for batch in self.table.batches}
        for graph in layer_graphs(self.layer, [timed for _, timed in levels]):
            session = self._open(graph)
            for batch, known in shares.items():
                base, other = alternate(_call(self.dense_session, batch), _call(session, batch), _REPEATS, _SECONDS)
                # As a share of the dense layer of the same moments: the clock's drift cancels.
                known.append(other / base)
        return {batch: self._line(batch, [rank for rank, _ in levels], known) for batch, known in shares.items()}

    @cached_property
    def dense_session(self) -> InferenceSession:
        """The dense layer, ready to run."""
        return self._open(next(layer_graphs(self.layer, [DENSE])))

    @cached_property
    def dense(self) -> dict[int, Line]:
        """Times of the dense layer by batch size: those of the table where it has them."""
        return {batch: self._dense_line(batch) for batch in self.table.batches}

    @cached_property
    def frames(self) -> dict[int, float]:
        """Milliseconds of the poolings around the layer by batch size: half of those on either side of it."""
        if self.layer.kind == "linear":
            return dict.fromkeys(self.table.batches, 0.0)
        ends = ((self.layer.inputs, self.layer.input_grid), (self.layer.outputs, self.layer.grid))
        return {batch: sum(self._frame(*end, batch) / 2 for end in ends) for batch in self.table.batches}

    def _line(self, batch: int, ranks: list[int], shares: list[Times]) -> Line:
        framed = self.dense[batch].fixed + self.frames[batch]
        milliseconds = [max(float(np.median(share)) * framed - self.frames[batch], 1e-4) for share in shares]
        spread = max(map(_iqr, shares))
        return fit_line(ranks, milliseconds, spread) if len(ranks) > 1 else Line(milliseconds[0], iqr=spread)

    def _dense_line(self, batch: int) -> Line:
        known = self.table.lines.get(batch, {})
        if self.key not in known:
            call = _call(self.dense_session, batch)
            times = np.concatenate(alternate(call, call, _REPEATS, _SECONDS))
            self.table.lines.setdefault(batch, {})[self.key] = Line(
                max(float(np.median(times)) - self.frames[batch], 1e-4), iqr=_iqr(times)
            )
        return self.table.lines[batch][self.key]

    def _frame(self, channels: int, grid: tuple[int, int], batch: int) -> float:
        known = self.table.lines.setdefault(batch, {})
        key = f"frame of {channels} x {grid[0]} x {grid[1]}"
        if key not in known:
            call = _call(self._open(frame_graph(channels, grid)), batch)
            times = np.concatenate(alternate(call, call, _REPEATS, _SECONDS))
            known[key] = Line(float(np.median(times)), iqr=_iqr(times))
        return known[key].fixed

    def _open(self, graph: onnx.ModelProto) -> InferenceSession:
        return open_graph(graph, self.table.threads)


def layer_graphs(layer: Layer, structures: Sequence[Structure]) -> Iterator[onnx.ModelProto]:
    """Export a layer in structures that differ in their ranks, with a ReLU behind it and poolings that keep the layout.

    Torch's exporter takes 0.5 s for two convolutions and 2 s for 16 regions, several times what the timing takes. Ranks
    are only in the shapes of the weights, so the first structure is exported and the weights of the others are put into
    that graph.

    Parameters
    ----------
    layer : Layer
        The layer.
    structures : sequence of Structure
        What takes its place, of one `Structure.timing_key`. Weights are random: equal ones would be stored once, and
        reading them would take less time.
    """
    exported: onnx.ModelProto | None = None
    for structure in structures:
        module = _framed(layer, structure)
        if exported is None:
            exported = to_onnx(module, (layer.inputs, *layer.input_grid) if layer.kind == "conv" else (layer.inputs,))
            yield simplify(exported)
        else:
            yield simplify(_with_weights(exported, module))


def frame_graph(channels: int, grid: tuple[int, int]) -> onnx.ModelProto:
    """Export the poolings before and behind a layer, without the layer."""
    return runtime_onnx(nn.Sequential(*_frame(channels), nn.Identity(), *_frame(channels)), (channels, *grid))


def _framed(layer: Layer, structure: Structure) -> nn.Module:
    inside = [structure.module(layer), nn.ReLU()]
    if layer.kind == "conv":
        inside = [*_frame(layer.inputs), *inside, *_frame(layer.outputs)]
    return nn.Sequential(*inside).eval()


def _frame(channels: int) -> list[nn.Module]:
    return [nn.MaxPool2d(1)] if channels >= _BLOCKED else []


def _with_weights(exported: onnx.ModelProto, module: nn.Module) -> onnx.ModelProto:
    """Put the weights of a module into the export of one that differs in its ranks."""
    weights = {name: weight.detach().numpy() for name, weight in module.named_parameters()}
    graph = onnx.ModelProto()
    graph.CopyFrom(exported)
    for entry in graph.graph.initializer:
        if entry.name in weights:
            entry.CopyFrom(onnx.numpy_helper.from_array(weights.pop(entry.name), entry.name))
    assert not weights, f"{sorted(weights)} are not in the exported graph"
    del graph.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(graph)


def bound(graph: onnx.ModelProto, batch: int, threads: int) -> Call:
    """Make a call that runs a graph on one drawn batch."""
    return _call(open_graph(graph, threads), batch)


def _call(session: InferenceSession, batch: int) -> Call:
    return bind_session(session, Path("graph"), batch, 1)


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
