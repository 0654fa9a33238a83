"""Milliseconds of a layer in a structure, measured once per machine, runtime, number of threads and batch size.

Every structure is timed at a few ranks in alternation with the dense layer, see `hscc.budgets.layer_timer`; a straight
line through them gives what the structure costs at rank 0 and what each rank adds. That is what the allocation needs to
spend milliseconds instead of MACs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from hscc.budgets.resources import CostModel
from hscc.calibration.layers import Layer
from hscc.errors import ArtifactError
from hscc.files import replace_text
from hscc.structures.base import SIMD_WIDTH, Structure
from hscc.structures.low_rank import Block, LowRank, Region
from hscc.timing.runtimes import ONNXRUNTIME, default_runtime, find_runtime

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
    runtime : str
        Key of `hscc.timing.runtimes.RUNTIMES`; tables of earlier versions do not say it, and were measured in ONNX
        Runtime. Dense layers and the dense network are timed in the same.
    """

    machine: str
    threads: int
    batches: tuple[int, ...]
    lines: dict[int, dict[str, Line]] = field(default_factory=dict)
    runtime: str = ONNXRUNTIME

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
                missing.setdefault(geometry(layer), {})[key] = structure
        if not missing:
            return
        from hscc.budgets.layer_timer import LayerTimer  # here: it knows this module

        console = Console(stderr=True)
        total = sum(map(len, missing.values()))
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("timing structures", total=total)
            for layer, structures in missing.items():
                timer = LayerTimer.of(layer, self)
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
        if table.machine != this_machine(table.runtime):
            raise ArtifactError(
                f"{path} was measured on {table.machine}, this is {this_machine(table.runtime)}; delete it and measure "
                "again."
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


def new_table(threads: int = 2, batches: tuple[int, ...] = (1, 16), runtime: str | None = None) -> LatencyTable:
    """Make an empty table for this machine; it is measured as plans ask for it.

    Parameters
    ----------
    threads : int
        Threads inside an operator.
    batches : tuple of int
        Images per call.
    runtime : str, optional
        ``engine``, ``onnxruntime`` or ``openvino``: the one that the network will run in. By default the engine where
        its library is there, else ONNX Runtime.

    Raises
    ------
    ParamsError
        If the runtime is unknown, or something that it needs is missing.
    """
    runtime = default_runtime() if runtime is None else runtime
    find_runtime(runtime)
    return LatencyTable(this_machine(runtime), threads, batches, runtime=runtime)


def this_machine(runtime: str) -> str:
    """Processor and runtime that times hold for."""
    model = "unknown processor"
    source = Path("/proc/cpuinfo")
    if source.is_file():
        names = [line.split(":", 1)[1].strip() for line in source.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {find_runtime(runtime).version()}"


def structure_key(layer: Layer, structure: Structure) -> str:
    """Digest of what time depends on: the layer's geometry and the structure, not the ranks that a line is over."""
    content = json.dumps([asdict(geometry(layer)), *structure.timing_key()])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def geometry(layer: Layer) -> Layer:
    """Return a layer without what its time does not depend on."""
    return replace(layer, name="", bias=True)


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
