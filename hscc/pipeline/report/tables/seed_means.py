"""Networks that differ in their seed only, as one row of means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from hscc.pipeline.statistics.schema import AskedBudget, ClassScores, Estimate, NetworkRow, SeedSummary


@dataclass(frozen=True)
class SeedMean:
    """Mean over the seeds of one method and budget.

    Attributes
    ----------
    row : NetworkRow
        Scores and their bootstrap errors are means over the seeds; whatever is paired or timed is the first seed's.
    of_seeds : tuple of NetworkRow
        The networks, one per seed.
    score_se : float or None
        Standard error of the mean primary score over the seeds; None with one seed.
    """

    row: NetworkRow
    of_seeds: tuple[NetworkRow, ...]
    score_se: float | None


def mean_over_seeds(rows: Sequence[NetworkRow], summaries: Sequence[SeedSummary] = ()) -> list[SeedMean]:
    """Average networks of one protocol and precision over their seeds.

    Parameters
    ----------
    rows : sequence of NetworkRow
        All seeds.
    summaries : sequence of SeedSummary
        `Results.seeds`.

    Returns
    -------
    list of SeedMean
        In the order in which methods and budgets first appear.
    """
    cells: dict[tuple[str, AskedBudget], list[NetworkRow]] = {}
    for row in rows:
        cells.setdefault((row.method, row.budget), []).append(row)
    errors = {(summary.method, summary.budget): summary.primary.se for summary in summaries}
    return [SeedMean(_mean_row(same), tuple(same), errors.get(cell)) for cell, same in cells.items()]


def _mean_row(same: Sequence[NetworkRow]) -> NetworkRow:
    first = min(same, key=lambda row: row.seed)
    if len(same) == 1:
        return first
    scores = {name: _mean([row.scores[name] for row in same]) for name in first.scores}
    means = {"scores": scores, **{name: _mean([getattr(row, name) for row in same]) for name in ("kl", "agreement")}}
    classes = tuple(
        ClassScores(
            name=found[0].name,
            precision=_mean([each.precision for each in found]),
            recall=_mean([each.recall for each in found]),
            f1=_mean([each.f1 for each in found]),
            scores={name: _mean([each.scores[name] for each in found]) for name in found[0].scores},
        )
        for found in zip(*(row.classes for row in same), strict=True)
    )
    return first.model_copy(update={**means, "classes": classes})


def _mean(found: Sequence[Estimate]) -> Estimate:
    """Means of values and errors; an interval of a mean is not the mean of the intervals, so it has none."""
    values = [each.value for each in found if each.value is not None]
    errors = [each.se for each in found if each.se is not None]
    return Estimate(value=fmean(values) if values else None, se=fmean(errors) if errors else None)
