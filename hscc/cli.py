"""The command line: a verb a job.

A verb reads the parameters and calls one function. Heavy imports happen inside the verbs, so that ``--help`` answers
at once. An :class:`~hscc.errors.HSCCError` ends in one line on standard error and exit status 1.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from hscc import memory, telemetry
from hscc.cli_options import HERE, Workspace, console, read_params
from hscc.cli_registry import verbs
from hscc.errors import HSCCError
from hscc.stages import layout

telemetry.switch_off()
# OpenMP's idle threads sleep instead of spinning. Spinning pays only on an idle machine; beside other work it makes
# torch five times slower (measured). Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
memory.keep_freed()

INTERRUPTED = 130  # the shell's own status after Ctrl-C
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Verbs(TyperGroup):
    """The verbs, with the package's own errors turned into one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HSCCError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
        except OSError as error:
            if error.errno not in _FULL:
                raise
            where = f" while writing {error.filename}" if error.filename else ""
            typer.echo(f"error: the disk is full{where}; free some space and run the same command again.", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Compress convolutional networks by hierarchical spatio-channel clustering, with the evidence and the "
    "operations around it.\n\nThe stages of `dvc.yaml` are verbs too; `dvc repro` calls them in order.",
)

GRAPH = "Stages of the graph"


@app.command(epilog="Example: `hscc fetch --from ~/Downloads/brain-tumor-mri.zip`")
def fetch(
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="PATH", help="Folder or archive that holds the images [env: HSCC_DATA_SOURCE]."),
    ] = None,
    workspace: Workspace = HERE,
) -> None:
    """Bring the images that data.dvc pins into data/ and prove them by its hash.

    Tries in order: a DVC remote, `--from` (or HSCC_DATA_SOURCE), the public GitHub repository at the pinned commit,
    Kaggle. Does nothing when data/ is already what is pinned.
    """
    from hscc.data.fetch import fetch as fetch_data

    fetch_data(workspace, source)


@app.command(epilog="Example: `hscc phantom /tmp/phantom --train-per-class 300 --test-per-class 60 --size 128`")
def phantom(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to draw; gets the subfolders Training/ and Testing/.")
    ],
    train_per_class: Annotated[int, typer.Option(min=1, help="Images of each class under Training/.")] = 300,
    test_per_class: Annotated[int, typer.Option(min=1, help="Images of each class under Testing/.")] = 60,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Pixels a side.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same bytes.")] = 0,
    duplicates: Annotated[int, typer.Option(min=0, help="Planted near-copies for the checks to find.")] = 8,
) -> None:
    """Draw a synthetic, MRI-like data set of the four classes, for machines without the real one.

    Drawn images, not patients: a figure obtained on them says nothing about MRI. Use a folder of their own.
    """
    from hscc.data.phantom import draw_dataset

    draw_dataset(
        folder,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        size=size,
        seed=seed,
        duplicates=duplicates,
    )


@app.command(epilog="Example: `hscc check`")
def check(workspace: Workspace = HERE) -> None:
    """Check params.yaml, and data/ against data.dvc; print ok, or what is wrong."""
    from hscc.data.fetch import check_pin

    read_params(workspace)
    check_pin(workspace)
    typer.echo("ok")


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc validate`, or in the graph `dvc repro validate`")
def validate(workspace: Workspace = HERE) -> None:
    """Check every image; write the manifest, its splits and Data Docs.

    Unreadable images, classes too small and the like stop the pipeline and are named; warnings go into the report.
    """
    from hscc.stages import validate as stage

    stage.run(read_params(workspace), workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc train --protocol grouped`, or `dvc repro train@grouped`")
def train(
    protocol: Annotated[
        Literal["grouped", "pooled", "official"], typer.Option(help="Split protocol to train and test on.")
    ],
    workspace: Workspace = HERE,
) -> None:
    """Train the dense baseline of one split protocol; a killed run resumes from its last checkpoint."""
    from hscc.stages import train as stage

    stage.run(read_params(workspace), workspace, protocol=protocol)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc calibrate`")
def calibrate(workspace: Workspace = HERE) -> None:
    """Measure the activations' moments and the output sensitivities of the baseline, per layer and cell."""
    from hscc.stages import calibrate as stage

    stage.run(read_params(workspace), workspace)


@app.command(
    rich_help_panel=GRAPH,
    epilog="Example: `hscc compress --method hscc --budget 6 --seed 0`, or `dvc repro compress@hscc-6-0`",
)
def compress(
    method: Annotated[str, typer.Option(help="Name of a method, such as global_svd, tucker or hscc.")],
    budget: Annotated[float, typer.Option(help="Times fewer MACs than the dense network; above 1.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of clustering and fine-tuning.")] = 0,
    workspace: Workspace = HERE,
) -> None:
    """Compress the baseline by one method to one budget, fine-tune it and export it to ONNX."""
    from hscc.stages import compress as stage

    stage.run(read_params(workspace), workspace, method=method, budget=budget, seed=seed)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc evaluate`")
def evaluate(workspace: Workspace = HERE) -> None:
    """Score the baseline and every cell on the test split; write tables, plots and the HTML report."""
    from hscc.stages import evaluate as stage

    stage.run(read_params(workspace), workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc register`")
def register(workspace: Workspace = HERE) -> None:
    """Put the best cell that passes the policy into the MLflow registry as `challenger`, once per model."""
    from hscc.stages import register as stage

    stage.run(read_params(workspace), workspace)


@app.command(epilog="Example: `hscc results --workspace demo`")
def results(workspace: Workspace = HERE) -> None:
    """Print the table of the last evaluation, a row a network."""
    from hscc.evaluation.table import render

    console().print(render(workspace / layout.RESULTS_JSON))


app.add_typer(verbs)
