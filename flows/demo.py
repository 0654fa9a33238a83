"""``make demo``: the whole graph on drawn images, in a workspace of its own.

The folder ``demo/`` becomes a workspace as `hscc init` makes it, with parameters for a small network, drawn images and
a DVC repository without git. Nothing in it can mix with results of real images: other folder, other data hash, other
model name. Running it again brings graph and parameters up to date and lets DVC decide what must run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import typer
from rich.console import Console

from flows.commands import environment
from flows.progress import Progress
from flows.repro import reproduce
from hscc.errors import HSCCError
from hscc.pipeline import layout
from hscc.pipeline.data.phantom.dataset import draw_dataset
from hscc.pipeline.redaction import redact
from hscc.pipeline.workspace.create import bring_data, initialise_dvc, write_files

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = Path("demo")
PARAMS = "params.demo.yaml"
LOG = "demo.log"  # in the workspace: all that DVC and the stages print
LAST_LINES = 20  # of it, shown when a stage fails

TRAIN_PER_CLASS = 250
TEST_PER_CLASS = 60
SIZE = 128  # pixels a side
DUPLICATES = 12

console = Console(highlight=False)


class StepError(Exception):
    """A step of the demo failed; what it printed says why."""


def prepare(root: Path, workspace: Path) -> None:
    """Make the workspace, or bring its graph and parameters up to date.

    Parameters
    ----------
    root : Path
        The repository.
    workspace : Path
        The folder to make; outputs of an earlier demo in it stay.
    """
    workspace.mkdir(exist_ok=True)
    shutil.rmtree(workspace / "hscc", ignore_errors=True)  # earlier demos ran a copy of the package
    write_files(workspace, (root / PARAMS).read_text(encoding="utf-8"), title="Demo", data="drawn images")
    initialise_dvc(workspace, scm=False)


def draw(workspace: Path) -> None:
    """Draw the images and pin them; those of an earlier demo stay.

    Parameters
    ----------
    workspace : Path
        The prepared workspace.
    """
    if (workspace / "data.dvc").is_file():
        return
    console.print(f"Drawing {4 * (TRAIN_PER_CLASS + TEST_PER_CLASS)} phantom images of four classes")
    draw_dataset(
        workspace / layout.DATA,
        train_per_class=TRAIN_PER_CLASS,
        test_per_class=TEST_PER_CLASS,
        size=SIZE,
        seed=0,
        duplicates=DUPLICATES,
    )
    bring_data(workspace, workspace / layout.DATA, copy=True)


def run(workspace: Path) -> None:
    """Bring the graph up to date, with one line per stage; everything else goes to the log.

    Parameters
    ----------
    workspace : Path
        The workspace with its images.

    Raises
    ------
    StepError
        If a stage fails; the end of the log is printed before.
    """
    path = workspace / LOG
    with path.open("w", encoding="utf-8") as log:
        progress = Progress(workspace, log, lambda text: print(text, end="", flush=True))
        status = reproduce(workspace, say=progress.line)
        progress.end(failed=status != 0)
    if status != 0:
        console.print(*path.read_text(encoding="utf-8").splitlines()[-LAST_LINES:], sep="\n", markup=False)
        raise StepError(f"'dvc repro' in {workspace}/ ended with status {status}; {path} says why.")
    console.print(f"{progress.ran} stages ran, {progress.skipped} had nothing to do; their output is in {path}")


def show(workspace: Path, seconds: float) -> None:
    """Print the results table and where everything is.

    Parameters
    ----------
    workspace : Path
        The workspace after a complete run.
    seconds : float
        How long it took.
    """
    console.rule("Results on drawn images: they say nothing about images of patients")
    _call(workspace, "hscc", "results")
    decision = json.loads((workspace / layout.REGISTRATION).read_text(encoding="utf-8"))
    model = f"models:/{decision['name']}@{decision['alias']} in {workspace / 'mlflow.db'}"
    places = {
        "report": str(workspace / layout.REPORT),
        "runs": f"make ui WORKSPACE={workspace}  (MLflow, on http://127.0.0.1:5000)",
        "model": f"{model if decision['registered'] else 'none registered'}: {decision['why']}",
        "took": f"{seconds:.0f} s; 'make demo' again runs only what has changed",
    }
    for name, place in places.items():
        console.print(f"{name:<8}{place}", soft_wrap=True)


def main() -> None:
    """Make the demo's workspace, run the graph in it with `dvc repro` and show what came out."""
    begin = time.monotonic()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # the demo's records stay in its folder
    os.chdir(ROOT)
    try:
        prepare(ROOT, WORKSPACE)
        draw(WORKSPACE)
        run(WORKSPACE)
        show(WORKSPACE, time.monotonic() - begin)
    except (StepError, HSCCError) as error:
        typer.echo(f"error: {redact(str(error))}", err=True)
        raise typer.Exit(1) from error


def _call(folder: Path, module: str, *arguments: str) -> None:
    """Run ``python -m module`` in a folder."""
    sys.stdout.flush()
    status = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, env=environment(), check=False
    ).returncode
    if status != 0:
        spoken = " ".join([module, *arguments])
        raise StepError(f"'{spoken}' in {folder}/ ended with status {status}; its last lines say why.")


if __name__ == "__main__":
    typer.run(main)
