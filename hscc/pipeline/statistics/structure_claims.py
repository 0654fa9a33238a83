"""What the trade-off says about "moderate clustering is best": too few clusters lose structure, too many break it up.

The two halves are tested apart, each by a paired bootstrap of the divergence per validation image: does the fewest lose
against the best of the numbers between, does the most? Settings are picked and compared on the same images, so the
intervals flatter the setting picked; they are 95 % each, not corrected for their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from scipy.stats import spearmanr

from hscc.pipeline.statistics.comparisons import paired_difference
from hscc.pipeline.statistics.scores import interval
from hscc.pipeline.statistics.structure_grid import FIXED, Scored

Claim = dict[str, Any]
Figures = dict[str, Any]
Axis = Literal["clusters", "regions"]

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
_WORDS = {SUPPORTED: "Supported", REFUTED: "Refuted", UNDECIDED: "Undecided"}


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

    Returns
    -------
    list of dict
        ``claim`` in words, ``verdict`` ("supported", "refuted" or "undecided"), ``answer``: a sentence with numbers,
        ``figures``: a dict a test.
    """
    grid = [each for each in scored if each.setting.method == FIXED]
    full = [each for each in grid if each.setting.images == images]
    claims = [_moderate(full, "clusters"), _moderate(full, "regions"), _by_calibration(grid)]
    claims += [_costs_time(full, batch) for batch in batches]
    return [claim for claim in [*claims, _loss_predicts(full)] if claim["figures"]]


def verdict(value: dict[str, float]) -> str:
    """Say whether a difference of divergences is above zero: an interval that holds zero leaves it undecided."""
    if value["low"] > 0:
        return SUPPORTED
    return REFUTED if value["high"] < 0 else UNDECIDED


def together(verdicts: Sequence[str]) -> str:
    """Verdict of a claim that needs all of several: one refuted refutes it, one undecided leaves it so."""
    for word in (REFUTED, UNDECIDED):
        if word in verdicts:
            return word
    return SUPPORTED


def _difference(first: Scored, second: Scored) -> dict[str, float]:
    return asdict(paired_difference(first.kl, second.kl, first.kl_draws, second.kl_draws))


def _moderate(grid: Sequence[Scored], axis: Axis) -> Claim:
    figures = [test for budget in _budgets(grid) if (test := _test_axis(grid, axis, budget))]
    found = [together([test["fewest_loses"], test["most_loses"]]) for test in figures]
    where = "; ".join(
        f"at {test['budget']:g}x the best is {test['best']}, KL {test['best_kl']:.3f}; against {test['middle']}, "
        f"{test['fewest']} has {_signed(test['fewest_minus_middle'])} and {test['most']} "
        f"{_signed(test['most_minus_middle'])}"
        for test in figures
    )
    noun = "clusters a region" if axis == "clusters" else "regions a side"
    return _claim(f"A middling number of {noun} is best: fewer lose structure, more break it up", found, where, figures)


def _test_axis(grid: Sequence[Scored], axis: Axis, budget: float) -> Figures:
    """Test an axis at one budget, the other axis held where the best setting of the grid has it."""
    at = [each for each in grid if each.setting.budget == budget]
    best = min(at, key=lambda each: each.kl)
    other: Axis = "regions" if axis == "clusters" else "clusters"
    line = sorted(
        (each for each in at if getattr(each.setting, other) == getattr(best.setting, other)),
        key=lambda each: int(getattr(each.setting, axis)),
    )
    if len(line) < 3:
        return {}
    middle = min(line[1:-1], key=lambda each: each.kl)
    fewest, most = _difference(line[0], middle), _difference(line[-1], middle)
    return {
        "budget": budget,
        "axis": axis,
        other: getattr(best.setting, other),
        "line": [{axis: getattr(each.setting, axis), "val_kl": each.kl} for each in line],
        "best": getattr(best.setting, axis),
        "best_kl": best.kl,
        "interior": best not in (line[0], line[-1]),
        "fewest": getattr(line[0].setting, axis),
        "middle": getattr(middle.setting, axis),
        "most": getattr(line[-1].setting, axis),
        "fewest_minus_middle": fewest,
        "most_minus_middle": most,
        "fewest_loses": verdict(fewest),
        "most_loses": verdict(most),
    }


def _by_calibration(grid: Sequence[Scored]) -> Claim:
    """Test coarsest, middle and finest structure at every calibration size that has them."""
    figures = []
    sizes = sorted({each.setting.images for each in grid})
    few = [each for each in grid if each.setting.images == sizes[0]] if len(sizes) > 1 else []
    wanted = sorted({(int(each.setting.regions), int(each.setting.clusters)) for each in few})
    budgets = _budgets(few)
    if len(wanted) == 3 and len(budgets) == 1:
        for size in sizes:
            at = {
                (each.setting.regions, each.setting.clusters): each
                for each in grid
                if each.setting.images == size and each.setting.budget == budgets[0]
            }
            if all(structure in at for structure in wanted):
                coarsest, middle, finest = (at[structure] for structure in wanted)
                figures.append(_test_size(size, budgets[0], coarsest, middle, finest))
    found = [test["most_loses"] for test in figures]
    where = "; ".join(
        f"{test['images']} images: {_structure(test['finest'])} against {_structure(test['middle'])} "
        f"{_signed(test['most_minus_middle'])}"
        for test in figures
    )
    return _claim("The finest structure breaks up what it is calibrated on", found, where, figures)


def _test_size(size: int, budget: float, coarsest: Scored, middle: Scored, finest: Scored) -> Figures:
    fewest, most = _difference(coarsest, middle), _difference(finest, middle)
    structures = {"coarsest": coarsest, "middle": middle, "finest": finest}
    return {
        "images": size,
        "budget": budget,
        **{name: [each.setting.regions, each.setting.clusters] for name, each in structures.items()},
        **{f"{name}_kl": each.kl for name, each in structures.items()},
        "fewest_minus_middle": fewest,
        "most_minus_middle": most,
        "fewest_loses": verdict(fewest),
        "most_loses": verdict(most),
    }


def _costs_time(grid: Sequence[Scored], batch: int) -> Claim:
    """Compare the speed of the coarsest setting with that of the best by divergence, at the same MACs."""
    figures, column = [], f"speedup_b{batch}"
    for budget in _budgets(grid):
        at = [each for each in grid if each.setting.budget == budget]
        best = min(at, key=lambda each: each.kl)
        coarsest = min(at, key=lambda each: (int(each.setting.regions), int(each.setting.clusters)))
        if best is not coarsest:
            figures.append(_test_time(budget, column, coarsest, best))
    where = "; ".join(
        f"at {test['budget']:g}x {test['coarsest_speedup']:.2f}x with {_structure(test['coarsest'])}, "
        f"{test['best_speedup']:.2f}x with {_structure(test['best'])}"
        for test in figures
    )
    claim = f"At the same MACs the structure with the least divergence costs time at batch {batch}"
    return _claim(claim, [test["verdict"] for test in figures], where, figures)


def _test_time(budget: float, column: str, coarsest: Scored, best: Scored) -> Figures:
    first, second = coarsest.trial.facts, best.trial.facts
    difference = first[column] - second[column]
    error = float(np.hypot(first[f"{column}_se"], second[f"{column}_se"]))
    found = {"value": difference, "se": error, "low": difference - 1.96 * error, "high": difference + 1.96 * error}
    return {
        "budget": budget,
        "coarsest": [coarsest.setting.regions, coarsest.setting.clusters],
        "best": [best.setting.regions, best.setting.clusters],
        "coarsest_speedup": first[column],
        "best_speedup": second[column],
        "difference": found,
        "verdict": verdict(found),
    }


def _loss_predicts(grid: Sequence[Scored]) -> Claim:
    """Rank correlation of predicted loss and divergence over the grid, in every resample of the images."""
    figures = []
    for budget in _budgets(grid):
        at = [each for each in grid if each.setting.budget == budget]
        if len(at) < 3:
            continue
        losses = np.array([each.trial.facts["predicted_loss"] for each in at])
        divergences = np.stack([each.kl_draws for each in at], axis=1)
        draws = np.array([spearmanr(losses, drawn).statistic for drawn in divergences])
        low, high = interval(draws)
        value = float(spearmanr(losses, [each.kl for each in at]).statistic)
        figures.append({"budget": budget, "settings": len(at), "spearman": value, "low": low, "high": high})
    where = "; ".join(
        f"at {test['budget']:g}x {test['spearman']:.2f} ({test['low']:.2f} to {test['high']:.2f})" for test in figures
    )
    claim = "The predicted loss orders the structures as the divergence does (rank correlation above zero)"
    return _claim(claim, [verdict(test) for test in figures], where, figures)


def _claim(claim: str, verdicts: Sequence[str], where: str, figures: list[Figures]) -> Claim:
    if {SUPPORTED, REFUTED} <= set(verdicts):  # it holds in one case and fails in another: neither word is true of all
        return {"claim": claim, "verdict": UNDECIDED, "answer": f"It depends: {where}.", "figures": figures}
    word = together(verdicts)
    return {"claim": claim, "verdict": word, "answer": f"{_WORDS[word]}: {where}.", "figures": figures}


def _budgets(grid: Sequence[Scored]) -> list[float]:
    return sorted({each.setting.budget for each in grid})


def _signed(value: dict[str, float]) -> str:
    return f"{value['value']:+.3f} ({value['low']:+.3f} to {value['high']:+.3f})"


def _structure(sides: Sequence[int]) -> str:
    regions, clusters = sides
    return f"{regions}x{regions} regions, {clusters} {'cluster' if clusters == 1 else 'clusters'}"
