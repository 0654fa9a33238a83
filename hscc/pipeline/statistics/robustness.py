"""How far results depend on the seed and on the split protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from hscc.pipeline.statistics.schema import (
    DENSE,
    AskedBudget,
    Comparison,
    Estimate,
    NetworkRow,
    Record,
    Results,
    SeedSpread,
    SeedSummary,
    read_results,
)

LEAKY, CLEAN = "pooled", "grouped"  # near-copies of test images are trained on, or never


def summarise_seeds(rows: Sequence[NetworkRow]) -> list[SeedSummary]:
    """Average over the seeds.

    Parameters
    ----------
    rows : sequence of NetworkRow
        Compressed networks of one protocol.

    Returns
    -------
    list of SeedSummary
        One per method and budget that has several seeds.
    """
    groups: dict[tuple[str, AskedBudget], list[NetworkRow]] = {}
    for row in rows:
        groups.setdefault((row.method, row.budget), []).append(row)
    return [
        SeedSummary(
            method=method,
            budget=budget,
            seeds=len(group),
            score=group[0].score,
            scores={
                name: _spread([row.scores[name] for row in group])
                for name in group[0].scores
                if all(row.scores[name].value is not None for row in group)
            },
            kl=_spread([row.kl for row in group]),
        )
        for (method, budget), group in groups.items()
        if len(group) > 1
    ]


def _spread(scores: Sequence[Estimate]) -> SeedSpread:
    values = [score.value for score in scores if score.value is not None]
    deviation = stdev(values)
    return SeedSpread(
        mean=fmean(values),
        sd=deviation,
        se=deviation / math.sqrt(len(values)),
        bootstrap_se=fmean(score.se for score in scores if score.se is not None),
    )


class UnderProtocol(Record):
    """One network under one split protocol, with its primary score."""

    primary: Estimate
    n_test: int
    against_dense: Comparison | None


class ProtocolRow(Record):
    """One method and budget under several split protocols.

    Attributes
    ----------
    protocols : dict of str to UnderProtocol
        By protocol.
    leakage, leakage_se : float or None
        Primary score under `LEAKY` minus that under `CLEAN`, of independent test sets and trainings; None where one is
        missing.
    """

    method: str
    budget: AskedBudget
    protocols: dict[str, UnderProtocol]
    leakage: float | None
    leakage_se: float | None


def read_protocols(results_json: Path, folder: Path) -> dict[str, Results]:
    """Read the results of every protocol that was run.

    Parameters
    ----------
    results_json : Path
        ``reports/results.json``.
    folder : Path
        Holds ``<protocol>.json``, results each; need not be there.

    Returns
    -------
    dict of str to Results
        By protocol, those of `results_json` first.

    Raises
    ------
    ArtifactError
        If a file does not hold results.
    """
    own = read_results(results_json)
    others = {path.stem: read_results(path) for path in sorted(folder.glob("*.json"))}
    return {own.protocol: own, **{name: found for name, found in others.items() if name != own.protocol}}


def compare_protocols(documents: Mapping[str, Results]) -> list[ProtocolRow]:
    """Put the same method and budget under each protocol side by side.

    Parameters
    ----------
    documents : mapping of str to Results
        Of `read_protocols`; baselines of a protocol without results of its own are taken from the first.

    Returns
    -------
    list of ProtocolRow
        The baseline, then each method and budget that more than one protocol has, with the first results' seed.
    """
    first = next(iter(documents.values()))
    baselines = {row.protocol: row for row in first.rows if row.is_dense}
    baselines |= {name: results.dense() for name, results in documents.items()}
    table = [_side_by_side(DENSE, AskedBudget(), baselines)]
    cells = {name: {row.spec: row for row in results.compressed()} for name, results in documents.items()}
    for row in first.compressed():
        found = {name: same[row.spec] for name, same in cells.items() if row.spec in same}
        if len(found) > 1:
            table.append(_side_by_side(row.method, row.budget, found))
    return table


def _side_by_side(method: str, budget: AskedBudget, rows: Mapping[str, NetworkRow]) -> ProtocolRow:
    leakage = leakage_se = None
    if LEAKY in rows and CLEAN in rows:
        leaky, clean = rows[LEAKY].primary, rows[CLEAN].primary
        leakage = (leaky.value or 0.0) - (clean.value or 0.0)
        leakage_se = math.hypot(leaky.se or 0.0, clean.se or 0.0)
    return ProtocolRow(
        method=method,
        budget=budget,
        protocols={
            name: UnderProtocol(primary=row.primary, n_test=row.n_test, against_dense=row.against_dense)
            for name, row in rows.items()
        },
        leakage=leakage,
        leakage_se=leakage_se,
    )
