"""The bench: time and peak memory of every network beside the first, by runtime and batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hscc.errors import ArtifactError
from hscc.files import file_sha256
from hscc.pipeline.benchmark.peak_memory import peak_memory
from hscc.pipeline.benchmark.runtimes import TORCH, Bind, Subject, open_network
from hscc.pipeline.statistics.schema import Machine, Record, read_record
from hscc.timing.alternation import Spread, time_pair
from hscc.timing.runtimes import ONNXRUNTIME


class BenchRow(Record):
    """One network at one batch size in one runtime.

    Attributes
    ----------
    pairs : int
        Pairs of calls, the reference and the network in alternation.
    reference_ms, ms : float
        Median milliseconds per call, with their interquartile ranges.
    speedup, speedup_iqr, speedup_se : float
        Of the pairs: over the reference in the same runtime, or in ONNX Runtime where the reference has no form for it.
    speedup_over_onnxruntime, speedup_over_onnxruntime_se : float or None
        Over the reference in ONNX Runtime, for other runtimes; None in benches of earlier versions.
    peak_mb, load_mb : float or None
        See `hscc.pipeline.benchmark.peak_memory.Peaks`.
    size_bytes : int
        Of the file that ran; for torch, of the ONNX file.
    model_sha256 : str
        Of the ONNX file, by which results know the network.
    """

    network: str
    runtime: str
    batch: int
    pairs: int
    reference_ms: float
    reference_ms_iqr: float
    ms: float
    ms_iqr: float
    speedup: float
    speedup_iqr: float
    speedup_se: float
    peak_mb: float | None
    load_mb: float | None
    size_bytes: int
    model_sha256: str
    speedup_over_onnxruntime: float | None = None
    speedup_over_onnxruntime_se: float | None = None


class Bench(Record):
    """Content of ``reports/bench.json``; without protocol, data and commit for files of a user's own."""

    protocol: str | None = None
    data_hash: str | None = None
    git_commit: str | None = None
    reference: str
    runtimes: tuple[str, ...]
    batches: tuple[int, ...]
    threads: int
    processors: int
    machine: Machine
    versions: dict[str, str]
    rows: tuple[BenchRow, ...]


@dataclass(frozen=True)
class Clock:
    """How times are taken.

    Attributes
    ----------
    batches : tuple of int
        Batch sizes.
    threads : int
        Threads inside an operator.
    repeats : int
        Timed calls of each network of a pair, at most.
    seconds : float
        After so long no further pair of calls begins; see `hscc.timing.alternation.alternate`.
    """

    batches: tuple[int, ...]
    threads: int
    repeats: int
    seconds: float


def measure(
    subjects: Sequence[Subject],
    runtimes: Sequence[str],
    clock: Clock,
    begins: Callable[[Subject, str], None] = lambda subject, runtime: None,
) -> list[BenchRow]:
    """Time every network, the first included, in alternation with the first.

    Parameters
    ----------
    subjects : sequence of Subject
        The first is the reference.
    runtimes : sequence of str
        ``torch`` and keys of `hscc.timing.runtimes.RUNTIMES`; networks without a form for a runtime have no rows there.
    clock : Clock
        How.
    begins : callable
        Called with each network and runtime before it is measured.

    Returns
    -------
    list of BenchRow
        One per runtime, network and batch size.

    Raises
    ------
    ArtifactError
        If a network cannot be opened, or not run at one of the batch sizes.
    """
    first = subjects[0]
    portable = open_network(first, ONNXRUNTIME, clock.threads) if first.form(ONNXRUNTIME) else None
    rows: list[BenchRow] = []
    for runtime in runtimes:
        able = [subject for subject in subjects if subject.form(runtime)]
        if not able:
            continue
        if first in able and runtime != ONNXRUNTIME:
            reference = open_network(first, runtime, clock.threads)
        else:
            reference = portable or open_network(able[0], runtime, clock.threads)
        for subject in able:
            begins(subject, runtime)
            rows += _measure_one(reference, portable, subject, runtime, clock)
    return rows


def _measure_one(
    reference: Bind, portable: Bind | None, subject: Subject, runtime: str, clock: Clock
) -> list[BenchRow]:
    peaks = peak_memory(subject, runtime, clock.threads, clock.batches)
    network = open_network(subject, runtime, clock.threads)
    form = subject.form(runtime)
    size = (form if form is not None and form.is_file() else subject.file).stat().st_size
    digest = file_sha256(subject.file)
    rows = []
    for batch in clock.batches:
        timing = time_pair(reference(batch), network(batch), clock.repeats, clock.seconds)
        over = _over(portable, network, runtime, batch, clock)
        rows.append(
            BenchRow(
                network=subject.name,
                runtime=runtime,
                batch=batch,
                pairs=timing.pairs,
                reference_ms=timing.dense_ms.median,
                reference_ms_iqr=timing.dense_ms.iqr,
                ms=timing.other_ms.median,
                ms_iqr=timing.other_ms.iqr,
                speedup=timing.speedup.median,
                speedup_iqr=timing.speedup.iqr,
                speedup_se=timing.speedup.se,
                peak_mb=peaks.running.get(batch),
                load_mb=peaks.loading,
                size_bytes=size,
                model_sha256=digest,
                speedup_over_onnxruntime=over.median if over else None,
                speedup_over_onnxruntime_se=over.se if over else None,
            )
        )
    return rows


def _over(portable: Bind | None, network: Bind, runtime: str, batch: int, clock: Clock) -> Spread | None:
    """Speed-up over the reference in ONNX Runtime, in alternation with it."""
    if portable is None or runtime in (ONNXRUNTIME, TORCH):
        return None
    return time_pair(portable(batch), network(batch), clock.repeats, clock.seconds).speedup


def read_bench(path: Path) -> Bench:
    """Read ``bench.json``.

    Raises
    ------
    ArtifactError
        If it is missing or is not of this version.
    """
    bench = read_record(Bench, path, "hscc bench")
    if not bench.rows:
        raise ArtifactError(f"{path} has no rows; run `hscc bench` again.")
    return bench
