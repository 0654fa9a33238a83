"""Stage bench: the networks' files in; how long they take and how much memory, dense and compressed side by side, out.

Run it on a machine that does nothing else. Two files of a user's own are compared by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress

from hscc.errors import ArtifactError
from hscc.files import replace_text
from hscc.pipeline import layout
from hscc.pipeline.artifacts import Network, of_first_seed, read_int8_variants, read_own
from hscc.pipeline.benchmark.measurement import Bench, Clock, measure
from hscc.pipeline.benchmark.runtimes import ONNXRUNTIME, Subject
from hscc.pipeline.params import BenchParams, Params
from hscc.pipeline.provenance import machine, versions
from hscc.pipeline.report.renderings import to_rich
from hscc.pipeline.report.tables.bench_table import bench_note, bench_table
from hscc.pipeline.statistics.results import to_csv
from hscc.pipeline.statistics.schema import Machine, write_record
from hscc.pipeline.tracking import data_hash, git_commit, stage_run
from hscc.timing.pinning import pinned

_WIDE = 120  # columns


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Time the baseline of ``data.protocol``, its cells of the first seed and their int8 variants; print the bench.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``compress``, ``quantise`` and ``bench`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    ArtifactError
        If a network is missing, does not fit or does not run; an earlier bench stays then.
    """
    networks = of_first_seed(read_own(params, workspace))
    networks += read_int8_variants(params, workspace, networks)
    subjects = [_subject(network, params.data.image_size) for network in networks]
    tags = {"protocol": params.data.protocol}
    with stage_run("bench", params.data.protocol, params.bench.model_dump(), tags, workspace) as tracked:
        origin = {**tags, "data_hash": data_hash(workspace), "git_commit": git_commit(workspace)}
        bench = _measure(subjects, params.bench).model_copy(update=origin)
        replace_text(workspace / layout.BENCH_JSON, write_record(bench))
        replace_text(workspace / layout.BENCH_CSV, to_csv(pd.DataFrame([dict(row) for row in bench.rows])))
        tracked.metrics({f"{row.network}.{row.runtime}.speedup_b{row.batch}": row.speedup for row in bench.rows})
        tracked.artifact(workspace / layout.BENCH_JSON)
    _show(bench)


def compare(files: Sequence[Path], settings: BenchParams, side: int, out: Path | None = None) -> None:
    """Time ONNX files against the first of them and print the table.

    Parameters
    ----------
    files : sequence of Path
        Two networks or more, of whatever inputs of floats or uint8.
    settings : BenchParams
        All but ``runtimes``, as a file runs in ONNX Runtime only.
    side : int
        Size of the input's dimensions that a file leaves open.
    out : Path, optional
        Where to write the figures as JSON.

    Raises
    ------
    ArtifactError
        If a file is missing or does not run.
    """
    for file in files:
        if not file.is_file():
            raise ArtifactError(f"{file} does not exist; name an ONNX file.")
    subjects = [Subject(name, file, None, side) for name, file in zip(_names(files), files, strict=True)]
    bench = _measure(subjects, settings.model_copy(update={"runtimes": (ONNXRUNTIME,)}))
    if out is not None:
        replace_text(out, write_record(bench))
    _show(bench)


def _subject(network: Network, side: int) -> Subject:
    return Subject(network.name, network.model, network.model.parent if network.precision == "fp32" else None, side)


def _names(files: Sequence[Path]) -> list[str]:
    """Call files by their names, by their paths where two would be called the same."""
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    return [str(file) for file in files]


def _measure(subjects: Sequence[Subject], settings: BenchParams) -> Bench:
    clock = Clock(tuple(sorted(settings.batches)), settings.threads, settings.repeats, settings.seconds)
    total = sum(subject.runs_in(runtime) for runtime in settings.runtimes for subject in subjects)
    with pinned(settings.threads) as processors, Progress(transient=True) as progress:
        task = progress.add_task("timing", total=total)

        def begins(subject: Subject, runtime: str) -> None:
            progress.update(task, advance=1, description=f"timing {subject.name} in {runtime}")

        rows = measure(subjects, settings.runtimes, clock, begins)
    return Bench(
        reference=subjects[0].name,
        runtimes=settings.runtimes,
        batches=clock.batches,
        threads=settings.threads,
        processors=len(processors),
        machine=Machine(**machine()),
        versions=versions(),
        rows=tuple(rows),
    )


def _show(bench: Bench) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE  # a pipe has no width to fit
    for runtime in bench.runtimes:
        console.print(to_rich(bench_table(bench, runtime), bench_note(bench)))
