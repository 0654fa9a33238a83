"""Stage bench: the networks' files in; how long they take and how much memory, dense and compressed side by side, out.

Run it on a machine that does nothing else. Two files of a user's own are compared by the same code.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress, track

from hscc.engine.export import export_engine
from hscc.errors import ArtifactError
from hscc.files import replace_text
from hscc.pipeline import layout
from hscc.pipeline.artifacts import Network, of_first_seed, read_int8_variants, read_own
from hscc.pipeline.benchmark.measurement import Bench, Clock, measure
from hscc.pipeline.benchmark.runtimes import TORCH, Subject, load_module
from hscc.pipeline.params import BenchParams, Params
from hscc.pipeline.provenance import machine, versions
from hscc.pipeline.report.renderings import to_rich
from hscc.pipeline.report.tables.bench_table import bench_note, bench_table
from hscc.pipeline.statistics.results import to_csv
from hscc.pipeline.statistics.schema import Machine, write_record
from hscc.pipeline.tracking import data_hash, git_commit, stage_run
from hscc.timing.pinning import pinned
from hscc.timing.runtimes import ENGINE, RUNTIMES, find_runtime, runtime_of, usable_runtimes

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
    settings = params.bench.model_copy(update={"runtimes": tuple(usable_runtimes(params.bench.runtimes))})
    for name in set(params.bench.runtimes).difference(settings.runtimes):
        print(f"not timed in {name}: {RUNTIMES[name].missing()}", flush=True)
    if ENGINE in settings.runtimes and not params.data.pictures:
        print(f"not timed in {ENGINE}: it runs networks of pictures; volumes are for the other runtimes", flush=True)
        others = tuple(name for name in settings.runtimes if name != ENGINE)
        settings = settings.model_copy(update={"runtimes": others})
    tags = {"protocol": params.data.protocol}
    with (
        stage_run("bench", params.data.protocol, settings.model_dump(), tags, workspace) as tracked,
        _subjects(networks, params.data.input_shape, settings.runtimes) as subjects,
    ):
        origin = {**tags, "data_hash": data_hash(workspace), "git_commit": git_commit(workspace)}
        bench = _measure(subjects, settings).model_copy(update=origin)
        replace_text(workspace / layout.BENCH_JSON, write_record(bench))
        replace_text(workspace / layout.BENCH_CSV, to_csv(pd.DataFrame([dict(row) for row in bench.rows])))
        tracked.metrics({f"{row.network}.{row.runtime}.speedup_b{row.batch}": row.speedup for row in bench.rows})
        tracked.artifact(workspace / layout.BENCH_JSON)
    _show(bench)


def compare(files: Sequence[Path], settings: BenchParams, side: int, out: Path | None = None) -> None:
    """Time files against the first of them and print the table.

    Parameters
    ----------
    files : sequence of Path
        Two networks or more: ONNX files of whatever inputs of floats or uint8, and files of the engine (``.hscc``).
    settings : BenchParams
        Its ``runtimes`` are for the ONNX files.
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
            raise ArtifactError(f"{file} does not exist; name an ONNX file, or one of the engine.")
    subjects = [
        Subject(name, None, None, (3, side, side), engine=file)
        if runtime_of(file) == ENGINE
        else Subject(name, file, None, (3, side, side))
        for name, file in zip(_names(files), files, strict=True)
    ]
    runtimes: list[str] = [name for name in settings.runtimes if name not in (TORCH, ENGINE)]
    runtimes += [ENGINE] * any(subject.engine is not None for subject in subjects)
    for name in runtimes:
        find_runtime(name)
    bench = _measure(subjects, settings.model_copy(update={"runtimes": tuple(runtimes)}))
    if out is not None:
        replace_text(out, write_record(bench))
    _show(bench)


@contextmanager
def _subjects(networks: Sequence[Network], shape: tuple[int, ...], runtimes: Sequence[str]) -> Iterator[list[Subject]]:
    """Networks with a file for the engine, where it is timed; int8 variants have theirs beside the ONNX file."""
    subjects = [
        Subject(network.name, network.model, network.model.parent if network.precision == "fp32" else None, shape)
        for network in networks
    ]
    with tempfile.TemporaryDirectory() as folder:
        if ENGINE in runtimes:
            subjects = [_with_engine_file(subject, Path(folder)) for subject in track(subjects, "exporting")]
        yield subjects


def _with_engine_file(subject: Subject, folder: Path) -> Subject:
    if subject.module is None:
        file = subject.file.with_name(layout.ENGINE_FILE)
        return replace(subject, engine=file) if file.is_file() else subject
    path = folder / f"{subject.name}.hscc"
    export_engine(load_module(subject.module), path, input_shape=subject.input_shape)
    return replace(subject, engine=path)


def _names(files: Sequence[Path]) -> list[str]:
    """Call files by their names, by their paths where two would be called the same."""
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    return [str(file) for file in files]


def _measure(subjects: Sequence[Subject], settings: BenchParams) -> Bench:
    clock = Clock(tuple(sorted(settings.batches)), settings.threads, settings.repeats, settings.seconds)
    total = sum(subject.form(runtime) is not None for runtime in settings.runtimes for subject in subjects)
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
