"""The bench: every network against the first, by runtime and batch size, on the clock and in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hscc.errors import ArtifactError
from hscc.files import file_sha256
from hscc.pipeline.benchmark.peak_memory import peak_memory
from hscc.pipeline.benchmark.runtimes import Bind, Subject, open_network
from hscc.timing.alternation import PairTiming, time_pair

Row = dict[str, Any]

_NEEDED = {"reference", "runtimes", "batches", "threads", "rows"}


@dataclass(frozen=True)
class Clock:
    """How the clock is read.

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
) -> list[Row]:
    """Time every network, the first included, in alternation with the first.

    Parameters
    ----------
    subjects : sequence of Subject
        The first is the reference.
    runtimes : sequence of str
        Of ``onnxruntime`` and ``torch``; networks without a form for a runtime have no rows there.
    clock : Clock
        How.
    begins : callable
        Told of each network and runtime before it is measured.

    Returns
    -------
    list of dict
        A row a runtime, network and batch size: ``network``, ``runtime``, ``batch``, ``pairs``; ``ms`` and the
        reference's ``reference_ms`` beside it, each with ``_iqr``; ``speedup`` with ``_iqr`` and ``_se``; ``peak_mb``
        and ``load_mb`` of `hscc.pipeline.benchmark.peak_memory.Peaks`; ``size_bytes``, ``model_sha256``.

    Raises
    ------
    ArtifactError
        If a network cannot be opened, or not run at one of the batch sizes.
    """
    rows: list[Row] = []
    for runtime in runtimes:
        able = [subject for subject in subjects if subject.runs_in(runtime)]
        reference = open_network(able[0], runtime, clock.threads)
        for subject in able:
            begins(subject, runtime)
            rows += _measure_one(reference, subject, runtime, clock)
    return rows


def _measure_one(reference: Bind, subject: Subject, runtime: str, clock: Clock) -> list[Row]:
    peaks = peak_memory(subject, runtime, clock.threads, clock.batches)
    network = open_network(subject, runtime, clock.threads)
    facts = {"size_bytes": subject.model.stat().st_size, "model_sha256": file_sha256(subject.model)}
    return [
        {
            "network": subject.name,
            "runtime": runtime,
            "batch": batch,
            **_columns(time_pair(reference(batch), network(batch), clock.repeats, clock.seconds)),
            "peak_mb": peaks.running.get(batch),
            "load_mb": peaks.loading,
            **facts,
        }
        for batch in clock.batches
    ]


def _columns(timing: PairTiming) -> Row:
    return {
        "pairs": timing.pairs,
        "reference_ms": timing.dense_ms.median,
        "reference_ms_iqr": timing.dense_ms.iqr,
        "ms": timing.other_ms.median,
        "ms_iqr": timing.other_ms.iqr,
        "speedup": timing.speedup.median,
        "speedup_iqr": timing.speedup.iqr,
        "speedup_se": timing.speedup.se,
    }


def read_bench(path: Path) -> dict[str, Any]:
    """Read ``bench.json``.

    Parameters
    ----------
    path : Path
        The file that the stage bench wrote.

    Returns
    -------
    dict
        Of which ``rows`` are those of `measure`.

    Raises
    ------
    ArtifactError
        If it is missing or is no such file.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run `hscc bench`, or `dvc repro`.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON; run `hscc bench` again.") from error
    if not isinstance(document, dict) or not _NEEDED.issubset(document) or not document["rows"]:
        raise ArtifactError(f"{path} is not what `hscc bench` of this version writes; run it again.")
    return document
