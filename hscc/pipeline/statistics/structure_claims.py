"""Verdicts on the structure grid, above all on "moderate clustering is best": fewer lose structure, more break it up.

The two halves are tested apart, each by a paired bootstrap of the divergence per validation image: does the fewest lose
against the best of the numbers between, does the most? Settings are picked and compared on the same images, so the
intervals flatter the setting picked; they are 95 % each, not corrected for their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from scipy.stats import spearmanr

from hscc.pipeline.statistics.bootstrap import Resampled
from hscc.pipeline.statistics.schema import Estimate
from hscc.pipeline.statistics.structure_grid import Scored
from hscc.pipeline.statistics.structure_schema import (
    FIXED,
    Axis,
    AxisPoint,
    AxisTest,
    CalibrationTest,
    Claim,
    LossTest,
    SpeedTest,
    Structure,
    Verdict,
)

_Test = TypeVar("_Test", AxisTest, CalibrationTest, SpeedTest, LossTest)

SUPPORTED: Verdict = "supported"
REFUTED: Verdict = "refuted"
UNDECIDED: Verdict = "undecided"


def judge(scored: Sequence[Scored], images: int, batches: Sequence[int]) -> list[Claim]:
    """Answer every claim that the settings allow to test.

    Parameters
    ----------
    scored : sequence of Scored
        All settings, of the same resamples.
    images : int
        Size of the full calibration.
    batches : sequence of int
        Batch sizes that were timed.
    """
    grid = [each for each in scored if each.setting.method == FIXED]
    full = [each for each in grid if each.setting.images == images]
    claims = [_moderate(full, "clusters"), _moderate(full, "regions"), _by_calibration(grid)]
    claims += [_costs_time(full, batch) for batch in batches]
    return [claim for claim in [*claims, _loss_predicts(full)] if claim.figures]


def verdict(value: Estimate) -> Verdict:
    """Say whether a difference of divergences is above zero: an interval that holds zero leaves it undecided."""
    if value.low is not None and value.low > 0:
        return SUPPORTED
    return REFUTED if value.high is not None and value.high < 0 else UNDECIDED


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Verdict of a claim that needs all of several: one refuted refutes it, one undecided leaves it so."""
    for word in (REFUTED, UNDECIDED):
        if word in verdicts:
            return word
    return SUPPORTED


def _difference(first: Scored, second: Scored) -> Estimate:
    return (first.kl - second.kl).estimate()


def _moderate(grid: Sequence[Scored], axis: Axis) -> Claim:
    figures = [test for budget in _budgets(grid) if (test := _test_axis(grid, axis, budget))]
    where = "; ".join(
        f"at {test.budget_macs:g}x the best is {test.best}, KL {test.best_kl:.3f}; against {test.middle}, "
        f"{test.fewest} has {_signed(test.fewest_minus_middle)} and {test.most} {_signed(test.most_minus_middle)}"
        for test in figures
    )
    verdicts = [together([test.fewest_loses, test.most_loses]) for test in figures]
    noun = "clusters a region" if axis == "clusters" else "regions a side"
    claim = f"A middling number of {noun} is best: fewer lose structure, more break it up"
    return _claim(claim, verdicts, where, figures)


def _test_axis(grid: Sequence[Scored], axis: Axis, budget: float) -> AxisTest | None:
    """Test an axis at one budget, the other axis held where the best setting of the grid has it."""
    at = _at_budget(grid, budget)
    best = min(at, key=_kl)
    other: Axis = "regions" if axis == "clusters" else "clusters"
    held = _number(best, other)
    line = sorted((each for each in at if _number(each, other) == held), key=lambda each: _number(each, axis))
    if len(line) < 3:
        return None
    middle = min(line[1:-1], key=_kl)
    fewest, most = _difference(line[0], middle), _difference(line[-1], middle)
    return AxisTest(
        budget_macs=budget,
        axis=axis,
        held=held,
        line=tuple(AxisPoint(number=_number(each, axis), val_kl=each.kl.value) for each in line),
        best=_number(best, axis),
        best_kl=best.kl.value,
        interior=best not in (line[0], line[-1]),
        fewest=_number(line[0], axis),
        middle=_number(middle, axis),
        most=_number(line[-1], axis),
        fewest_minus_middle=fewest,
        most_minus_middle=most,
        fewest_loses=verdict(fewest),
        most_loses=verdict(most),
    )


def _by_calibration(grid: Sequence[Scored]) -> Claim:
    """Test coarsest, middle and finest structure at every calibration size that has them."""
    figures = []
    sizes = sorted({each.setting.images for each in grid})
    few = [each for each in grid if each.setting.images == sizes[0]] if len(sizes) > 1 else []
    wanted = sorted({_structure(each) for each in few})
    budgets = _budgets(few)
    if len(wanted) == 3 and len(budgets) == 1:
        for size in sizes:
            at = {_structure(each): each for each in _at_budget(grid, budgets[0]) if each.setting.images == size}
            if all(structure in at for structure in wanted):
                coarsest, middle, finest = (at[structure] for structure in wanted)
                figures.append(_test_size(size, budgets[0], coarsest, middle, finest))
    where = "; ".join(
        f"{test.images} images: {_label(test.finest)} against {_label(test.middle)} {_signed(test.most_minus_middle)}"
        for test in figures
    )
    claim = "The finest structure breaks up what it is calibrated on"
    return _claim(claim, [test.most_loses for test in figures], where, figures)


def _test_size(size: int, budget: float, coarsest: Scored, middle: Scored, finest: Scored) -> CalibrationTest:
    fewest, most = _difference(coarsest, middle), _difference(finest, middle)
    return CalibrationTest(
        images=size,
        budget_macs=budget,
        coarsest=_structure(coarsest),
        middle=_structure(middle),
        finest=_structure(finest),
        coarsest_kl=coarsest.kl.value,
        middle_kl=middle.kl.value,
        finest_kl=finest.kl.value,
        fewest_minus_middle=fewest,
        most_minus_middle=most,
        fewest_loses=verdict(fewest),
        most_loses=verdict(most),
    )


def _costs_time(grid: Sequence[Scored], batch: int) -> Claim:
    """Compare the speed of the coarsest setting with that of the best by divergence, at the same MACs."""
    figures = []
    for budget in _budgets(grid):
        at = _at_budget(grid, budget)
        best, coarsest = min(at, key=_kl), min(at, key=_structure)
        if best is not coarsest:
            figures.append(_test_speed(budget, batch, coarsest, best))
    where = "; ".join(
        f"at {test.budget_macs:g}x {test.coarsest_speedup:.2f}x with {_label(test.coarsest)}, "
        f"{test.best_speedup:.2f}x with {_label(test.best)}"
        for test in figures
    )
    claim = f"At the same MACs the structure with the least divergence costs time at batch {batch}"
    return _claim(claim, [test.verdict for test in figures], where, figures)


def _test_speed(budget: float, batch: int, coarsest: Scored, best: Scored) -> SpeedTest:
    first, second = coarsest.trial.costs.timing(batch), best.trial.costs.timing(batch)
    value = first.speedup - second.speedup
    error = float(np.hypot(first.speedup_se, second.speedup_se))
    difference = Estimate(value=value, se=error, low=value - 1.96 * error, high=value + 1.96 * error)
    return SpeedTest(
        budget_macs=budget,
        coarsest=_structure(coarsest),
        best=_structure(best),
        coarsest_speedup=first.speedup,
        best_speedup=second.speedup,
        difference=difference,
        verdict=verdict(difference),
    )


def _loss_predicts(grid: Sequence[Scored]) -> Claim:
    """Rank correlation of predicted loss and divergence over the grid, in every resample of the images."""
    figures = []
    for budget in _budgets(grid):
        at = _at_budget(grid, budget)
        if len(at) < 3:
            continue
        losses = np.array([each.trial.costs.predicted_loss for each in at])
        drawn = np.array([spearmanr(losses, kls).statistic for kls in np.stack([each.kl.draws for each in at], axis=1)])
        value = float(spearmanr(losses, [each.kl.value for each in at]).statistic)
        figures.append(LossTest(budget_macs=budget, settings=len(at), spearman=Resampled(value, drawn).estimate()))
    where = "; ".join(
        f"at {test.budget_macs:g}x {test.spearman.value:.2f} ({test.spearman.low:.2f} to {test.spearman.high:.2f})"
        for test in figures
    )
    claim = "The predicted loss orders the structures as the divergence does (rank correlation above zero)"
    return _claim(claim, [verdict(test.spearman) for test in figures], where, figures)


def _claim(claim: str, verdicts: Sequence[Verdict], where: str, figures: Sequence[_Test]) -> Claim:
    mixed = {SUPPORTED, REFUTED} <= set(verdicts)  # it holds in one case and fails in another
    word = UNDECIDED if mixed else together(verdicts)
    opening = "It depends" if mixed else word.capitalize()
    return Claim(claim=claim, verdict=word, answer=f"{opening}: {where}.", figures=tuple(figures))


def _budgets(grid: Sequence[Scored]) -> list[float]:
    return sorted({each.setting.budget_macs for each in grid})


def _at_budget(grid: Sequence[Scored], budget: float) -> list[Scored]:
    return [each for each in grid if each.setting.budget_macs == budget]


def _kl(scored: Scored) -> float:
    return scored.kl.value


def _number(scored: Scored, axis: Axis) -> int:
    return int(getattr(scored.setting, axis))


def _structure(scored: Scored) -> Structure:
    return _number(scored, "regions"), _number(scored, "clusters")


def _signed(value: Estimate) -> str:
    return f"{value.value:+.3f} ({value.low:+.3f} to {value.high:+.3f})"


def _label(structure: Structure) -> str:
    regions, clusters = structure
    return f"{regions}x{regions} regions, {clusters} {'cluster' if clusters == 1 else 'clusters'}"
