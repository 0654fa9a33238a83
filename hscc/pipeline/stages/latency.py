"""Stage latency: the calibrated baseline in; this machine's milliseconds and the plans that keep to them out.

Timing needs the machine to itself, fine-tuning does not. So all plans in which the clock has a say are made here, one
after the other, and the cells that fine-tune them may then run side by side.
"""

from __future__ import annotations

from pathlib import Path

from rich.progress import track

from hscc.api import plan
from hscc.budgets.latency_table import new_table
from hscc.calibration.storage import load_calibration
from hscc.errors import ArtifactError
from hscc.files import replace_text
from hscc.methods import METHODS
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.cells import goal_of
from hscc.pipeline.params import Params
from hscc.pipeline.tracking import stage_run
from hscc.plans import Plan


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Measure what the timed cells' methods may choose from, and plan each cell on the clock.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``compress`` and ``latency`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.
    """
    protocol, settings = params.data.protocol, params.latency
    dense, _ = load_dense(workspace / layout.baseline(protocol) / "model.safetensors")
    calibration = load_calibration(workspace / layout.MOMENTS)
    table = new_table(settings.threads, settings.batches)
    seed = params.compress.seeds[0]  # one plan for all seeds of fine-tuning: what the clock says has errors of its own
    with stage_run("latency", protocol, settings.model_dump(), {"protocol": protocol}, workspace) as tracked:
        for name, ratio in track(params.compress.timed_cells, "planning on the clock"):
            goal = goal_of(name, ratio)
            made = plan(dense, calibration, METHODS[goal.method], goal.budget, seed, table)
            path = workspace / layout.timed_plan(name, ratio, seed)
            print(f"{path.stem}\n{made}", flush=True)
            replace_text(path, made.to_json())
            tracked.metrics({f"{path.stem} {batch}": speedup for batch, speedup in made.timed.items()})
        table.save(workspace / layout.LATENCY_TABLE)


def read_timed_plan(workspace: Path, name: str, ratio: float, seed: int) -> Plan:
    """Read the plan of a timed cell.

    Raises
    ------
    ArtifactError
        If it was not made yet.
    """
    path = workspace / layout.timed_plan(name, ratio, seed)
    if not path.is_file():
        raise ArtifactError(
            f"{path} does not exist; add {name}-{ratio:g} to compress.timed in params.yaml and run `hscc latency`."
        )
    return Plan.from_json(path.read_text(encoding="utf-8"))
