"""The command line: one command per job.

A command reads the parameters and calls one function. Heavy imports happen inside the commands, so that ``--help``
answers at once. An :class:`~hscc.errors.HSCCError` ends in one line on standard error and exit status 1.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from hscc.errors import HSCCError, ParamsError
from hscc.pipeline import memory, telemetry
from hscc.pipeline.cli.options import HERE, Workspace, read_params
from hscc.pipeline.cli.registry import commands as registry_commands
from hscc.pipeline.cli.show import commands as results_commands
from hscc.pipeline.redaction import redact

telemetry.switch_off()
# OpenMP's idle threads sleep instead of spinning. Spinning pays only on an idle machine; beside other work it makes
# torch five times slower (measured). Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
memory.keep_freed()

INTERRUPTED = 130  # the shell's own status after Ctrl-C
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Commands(TyperGroup):
    """The commands, with the package's own errors turned into one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HSCCError as error:
            typer.echo(f"error: {redact(str(error))}", err=True)
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
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Compress convolutional networks by hierarchical spatio-channel clustering, with the evidence and the "
    "operations around it.\n\nThe stages of `dvc.yaml` are commands too; `dvc repro` calls them in order.",
)

GRAPH = "Stages of the graph"


@app.command(epilog="Example: `hscc init my-workspace --data ~/x-rays`")
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make.")],
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="Folder of the images: one folder per class, below train/ and test/ if the data has such a split, or "
            "with a CSV or Parquet file of labels.",
        ),
    ],
    spec: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML with the section data, and others if wanted, instead of a proposal."),
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the data into the workspace and DVC's cache, instead of a link.")
    ] = False,
) -> None:
    """Make a workspace for data of your own, ready for `dvc repro`.

    Looks at the data and proposes its spec, one line per value that says why; writes params.yaml, dvc.yaml, data.dvc,
    .dvc and a README.
    """
    from hscc.pipeline.commands import init as command

    command.run(folder, data, spec, copy=copy, say=typer.echo)


@app.command(epilog="Example: `hscc fetch --from ~/Downloads/brain-tumor-mri.zip`")
def fetch(
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="PATH", help="Folder, .zip or .tar archive that holds the images [env: HSCC_DATA_SOURCE]."
        ),
    ] = None,
    workspace: Workspace = HERE,
) -> None:
    """Bring the images that data.dvc pins into data/ and check them against its hash.

    Tries in order: a DVC remote, `--from` (or HSCC_DATA_SOURCE), the public GitHub repository at the pinned commit,
    Kaggle. Does nothing when data/ is already what is pinned.
    """
    from hscc.pipeline.data.sources.fetch import fetch as fetch_data

    fetch_data(workspace, source)


@app.command(epilog="Example: `hscc phantom /tmp/phantom --train-per-class 300 --test-per-class 60 --size 128`")
def phantom(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to create, with the subfolders Training/ and Testing/.")
    ],
    train_per_class: Annotated[int, typer.Option(min=1, help="Images of each class under Training/.")] = 300,
    test_per_class: Annotated[int, typer.Option(min=1, help="Images of each class under Testing/.")] = 60,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of an image in pixels; sides vary by 15 %.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same bytes.")] = 0,
    duplicates: Annotated[int, typer.Option(min=0, help="Copies of training images, for the checks to find.")] = 8,
) -> None:
    """Draw a synthetic, MRI-like data set of the four classes, for machines without the real one.

    Drawn images, not patients: a figure measured on them says nothing about MRI. Use a folder of its own.
    """
    from hscc.pipeline.data.phantom.dataset import draw_dataset

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
    from hscc.pipeline.data.sources.pin import check_pin

    read_params(workspace)
    check_pin(workspace)
    typer.echo("ok")


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc code`")
def code(workspace: Workspace = HERE) -> None:
    """Hash the code of each stage without comments and docstrings, so that these make no stage stale."""
    from hscc.pipeline.stages import code as stage

    stage.run(workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc validate`, or in the graph `dvc repro validate`")
def validate(workspace: Workspace = HERE) -> None:
    """Check every image; write the manifest, its splits and Data Docs.

    Unreadable images, classes too small and the like stop the pipeline and are named; warnings go into the report.
    """
    from hscc.pipeline.stages import validate as stage

    stage.run(read_params(workspace), workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc train --protocol grouped`, or `dvc repro train@grouped`")
def train(
    protocol: Annotated[
        Literal["grouped", "pooled", "official"], typer.Option(help="Split protocol to train and test on.")
    ],
    workspace: Workspace = HERE,
) -> None:
    """Train the dense baseline of one split protocol; a killed run resumes from its last checkpoint."""
    from hscc.pipeline.stages import train as stage

    stage.run(read_params(workspace), workspace, protocol=protocol)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc calibrate`")
def calibrate(workspace: Workspace = HERE) -> None:
    """Measure the activations' moments and the output sensitivities of the baseline, per layer and cell."""
    from hscc.pipeline.stages import calibrate as stage

    stage.run(read_params(workspace), workspace)


@app.command(
    rich_help_panel=GRAPH,
    epilog="Example: `hscc compress hscc-macs6-seed0`, or `dvc repro compress@hscc-macs6-seed0`",
)
def compress(
    cell: Annotated[
        str,
        typer.Argument(
            metavar="CELL",
            help="Method, times less of each resource (macs, params, latency), and seed: hscc-macs10-latency7.5-seed0.",
        ),
    ],
    workspace: Workspace = HERE,
) -> None:
    """Compress the baseline by one method to one budget, fine-tune it and export it to ONNX."""
    from hscc.pipeline.params import named_cell
    from hscc.pipeline.stages import compress as stage

    params = read_params(workspace)  # first: it imports the plugins whose methods a cell may name
    stage.run(params, workspace, cell=named_cell(cell))


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc latency`")
def latency(workspace: Workspace = HERE) -> None:
    """Time the structures that layers may take on this machine, and plan the cells whose budget has a latency.

    Keep the machine quiet meanwhile.
    """
    from hscc.pipeline.stages import latency as stage

    stage.run(read_params(workspace), workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc quantise`")
def quantise(workspace: Workspace = HERE) -> None:
    """Make the int8 variant of the baseline and of every cell, calibrated with training images."""
    from hscc.pipeline.stages import quantise as stage

    stage.run(read_params(workspace), workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc bench`, or `hscc bench dense.onnx small.onnx --batch 1`")
def bench(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE FILE...]",
            help="Files of your own, ONNX or the engine's (.hscc); the others are compared with the first.",
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Images per batch; may be repeated. For files."),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Where ONNX files run besides onnxruntime: openvino. Files of the engine run in it.",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads per operator. For files.")] = 2,
    repeats: Annotated[int, typer.Option(min=3, help="Timed calls per network, at most. For files.")] = 30,
    side: Annotated[int, typer.Option(min=1, help="Pixels of input dimensions that a file leaves open.")] = 224,
    out: Annotated[Path | None, typer.Option(metavar="JSON", help="Where to write the times of files.")] = None,
    workspace: Workspace = HERE,
) -> None:
    """Time networks in alternation, and measure their peak memory and file size.

    Without files: the baseline, every cell and their int8 variants, in the engine, ONNX Runtime and torch, as
    `params.yaml` says, into reports/bench.json. Keep the machine quiet meanwhile.
    """
    from hscc.pipeline.params import BenchParams
    from hscc.pipeline.stages import bench as stage
    from hscc.timing.runtimes import find_runtime

    if not files:
        stage.run(read_params(workspace), workspace)
        return
    if len(files) < 2:
        raise typer.BadParameter("name two files or more, or none.")
    for name in runtime or ():
        find_runtime(name)
    settings = BenchParams.model_construct(
        runtimes=tuple(dict.fromkeys(["onnxruntime", *(runtime or ())])),
        batches=tuple(batch or (1, 16, 64)),
        threads=threads,
        repeats=repeats,
        seconds=5.0,
    )
    stage.compare(files, settings, side, out)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc tradeoff`, or `dvc repro tradeoff`")
def tradeoff(workspace: Workspace = HERE) -> None:
    """Try regions x clusters x budgets without fine-tuning: divergence, score, MACs and times on validation images.

    Prints the table and what it says of moderate clustering; a killed run resumes. Keep the machine quiet meanwhile.
    """
    from hscc.pipeline.stages import tradeoff as stage

    stage.run(read_params(workspace), workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc evaluate`")
def evaluate(workspace: Workspace = HERE) -> None:
    """Score the baseline and every cell on the test split; write the tables."""
    from hscc.pipeline.stages import evaluate as stage

    stage.run(read_params(workspace), workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc insight`")
def insight(workspace: Workspace = HERE) -> None:
    """Show where compression kept rank, how much each cluster matters, where networks look, and which answers changed.

    Figures go into reports/insight.json, pictures of slices into artifacts/insight/.
    """
    from hscc.pipeline.stages import insight as stage

    stage.run(read_params(workspace), workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc report`, or `dvc repro report`")
def report(workspace: Workspace = HERE) -> None:
    """Write reports/report.html, a self-contained page, and its figures, from what earlier stages wrote."""
    from hscc.pipeline.stages import report as stage

    stage.run(read_params(workspace), workspace)


@app.command(rich_help_panel=GRAPH, epilog="Example: `hscc register`")
def register(workspace: Workspace = HERE) -> None:
    """Register the best cell that passes the policy in the MLflow registry as `challenger`, once per model."""
    from hscc.pipeline.stages import register as stage

    stage.run(read_params(workspace), workspace)


@app.command(
    epilog="Example: `hscc export --cell hscc-macs6-seed0 --out hscc.onnx --pt2`, `hscc export --out best.onnx`"
)
def export(
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="File to write, once it passes its check: .onnx, or .hscc for the engine."),
    ],
    cell: Annotated[
        str | None, typer.Option(metavar="NAME", help="A cell of the sweep; by default the one `register` chose.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(metavar="PROTOCOL", help="The dense network of a protocol.")] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A network that hscc.save wrote; needs --size and --classes.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="With --folder: side of its input in pixels.")] = None,
    classes: Annotated[str | None, typer.Option(metavar="A,B,...", help="With --folder: names of its outputs.")] = None,
    pt2: Annotated[bool, typer.Option("--pt2", help="Write torch's archive FILE.pt2 beside it.")] = False,
    precision: Annotated[
        Literal["fp32", "int8"],
        typer.Option(help="int8: the engine's file in 8-bit integers, calibrated on training images."),
    ] = "fp32",
    workspace: Workspace = HERE,
) -> None:
    """Write a network as one ONNX file that takes pictures of any size and gives probabilities, or for the engine.

    Preprocessing and a model card are inside an ONNX file; neither hscc nor torch is needed to run it. A file of the
    engine has the preprocessing in its card, and `hscc predict FILE.hscc IMAGE` runs it. Either is checked against
    torch on test images before it replaces an older one.
    """
    from hscc.pipeline.commands import export as stage

    if folder is None:
        stage.run(
            read_params(workspace), workspace, out=out, cell=cell, baseline=baseline, pt2=pt2, precision=precision
        )
    elif precision == "int8":
        raise ParamsError("--precision int8 needs training images and --folder has none; call hscc.export_engine.")
    elif cell or baseline or size is None or not classes:
        raise ParamsError("--folder goes with --size and --classes and without --cell and --baseline.")
    else:
        stage.run_folder(folder, size, tuple(classes.split(",")), out, pt2)


app.add_typer(results_commands)
app.add_typer(registry_commands)
