"""Stage latency: the calibrated baseline in; this machine's milliseconds and the plans that keep to them out.

Timing needs the machine to itself, fine-tuning does not. So all plans whose budget has a latency are made here, one
after the other, and the cells that fine-tune them may then run side by side.

Every cell of the sweep gets a file, so that one block of ``dvc.yaml`` serves all cells. For a cell without a latency
it always says ``null``: timing again does not make that cell stale.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.progress import track

from hscc.api import plan
from hscc.budgets.latency_table import LatencyTable, new_table
from hscc.calibration.storage import load_calibration
from hscc.errors import ArtifactError
from hscc.files import file_sha256, replace_text
from hscc.methods import METHODS
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.cell_spec import CellSpec, first_seeds
from hscc.pipeline.params import Params
from hscc.pipeline.tracking import stage_run
from hscc.plans import Plan

_NO_PLAN = "null\n"


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Measure the layers' structures on this machine and plan each cell whose budget has a latency.

    Plans of an earlier run stay where everything they were made from is the same, so that a cell that is added to the
    sweep does not time the others again. Remove ``artifacts/latency`` to time them all again.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``compress`` and ``latency`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    ArtifactError
        If the baseline or the calibration is missing.
    """
    cells = params.compress.cells
    timed = [cell for cell in cells if cell.timed]
    folder = workspace / layout.LATENCY
    if timed:
        _plan_all(timed, params, workspace)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    for cell in cells:
        if not cell.timed:
            replace_text(workspace / layout.timed_plan(cell.name), _NO_PLAN)
    names = {layout.timed_plan(cell.name).name for cell in cells}
    for path in (workspace / layout.timed_plan("any")).parent.iterdir():
        if path.is_dir():  # of a writer that was killed
            shutil.rmtree(path)
        elif path.name not in names:
            path.unlink()


def _plan_all(timed: Sequence[CellSpec], params: Params, workspace: Path) -> None:
    protocol, settings = params.data.protocol, params.latency
    weights, moments = workspace / layout.baseline(protocol) / "model.safetensors", workspace / layout.MOMENTS
    dense, _ = load_dense(weights)
    calibration = load_calibration(moments)
    runtime = None if settings.runtime == "auto" else settings.runtime
    table = new_table(settings.threads, settings.batches, runtime)
    sources = {"baseline": weights, "moments": moments, "code": workspace / layout.code("latency")}
    inputs: dict[str, Any] = {"machine": table.machine, **settings.model_dump(mode="json")}
    inputs |= {name: file_sha256(path) for name, path in sources.items() if path.is_file()}
    table = _take_up(workspace, inputs, table)
    with stage_run("latency", protocol, settings.model_dump(), {"protocol": protocol}, workspace) as tracked:
        for cell in track(first_seeds(timed), "planning within latency budgets"):
            made = _read_plan(workspace, cell)
            if made is None:
                made = plan(dense, calibration, METHODS[cell.method], cell.budget, cell.seed, table)
                table.save(workspace / layout.LATENCY_TABLE)
            print(f"{cell.name}\n{made}", flush=True)
            tracked.metrics({f"{cell.name} {batch}": speedup for batch, speedup in made.timed.items()})
            # One plan for all seeds of fine-tuning: what is timed has errors of its own.
            for other in timed:
                if other.any_seed == cell.any_seed:
                    replace_text(workspace / layout.timed_plan(other.name), made.to_json())


def _take_up(workspace: Path, inputs: dict[str, Any], new: LatencyTable) -> LatencyTable:
    """Continue the table of an earlier run of the same inputs, or remove what it left."""
    record = workspace / layout.LATENCY / "inputs.json"
    with suppress(OSError, ValueError, ArtifactError):
        if json.loads(record.read_text(encoding="utf-8")) == inputs:
            return LatencyTable.load(workspace / layout.LATENCY_TABLE)
    shutil.rmtree(record.parent, ignore_errors=True)
    replace_text(record, json.dumps(inputs, indent=2) + "\n")
    return new


def _read_plan(workspace: Path, cell: CellSpec) -> Plan | None:
    path = workspace / layout.timed_plan(cell.name)
    made = Plan.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None
    return made if made is not None and made.seed == cell.seed else None
