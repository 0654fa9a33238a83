"""The structures that the stage tradeoff tries, and the table of what came out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from hscc.pipeline.statistics.bootstrap import Draws, Ints, Resampled
from hscc.pipeline.statistics.metrics import METRICS, kl_divergence
from hscc.pipeline.statistics.results import pareto_front
from hscc.pipeline.statistics.structure_schema import AUTO, FIXED, Choice, Setting, StructureCosts, StructureRow

Logits = npt.NDArray[np.float32]

_T = TypeVar("_T")


def full_grid(
    regions: Sequence[int], clusters: Sequence[int], searched: Sequence[str], budgets: Sequence[float], images: int
) -> list[list[Setting]]:
    """List every combination of regions and clusters, then every method that chooses, each at every budget.

    Parameters
    ----------
    regions, clusters : sequence of int
        Regions per side and clusters per region.
    searched : sequence of str
        Names of methods in `hscc.METHODS`.
    budgets : sequence of float
        Times fewer MACs.
    images : int
        Size of the full calibration.

    Returns
    -------
    list of list of Setting
        One list per structure, so that its spectra are computed once.
    """
    structures: list[tuple[str, Choice, Choice]] = [
        (FIXED, side, number) for side in sorted(regions) for number in sorted(clusters)
    ]
    structures += [(method, AUTO, AUTO) for method in searched]
    return [[_setting(structure, budget, images) for budget in sorted(budgets)] for structure in structures]


def reduced_grid(
    regions: Sequence[int], clusters: Sequence[int], budgets: Sequence[float], images: int
) -> list[list[Setting]]:
    """List the coarsest, the middle and the finest combination at the middle budget, for a smaller calibration.

    Returns
    -------
    list of list of Setting
        One list per structure, of one setting each; fewer than three where the grid is smaller.
    """
    sides, numbers, ratios = sorted(regions), sorted(clusters), sorted(budgets)
    structures = [(sides[0], numbers[0]), (_middle(sides), _middle(numbers)), (sides[-1], numbers[-1])]
    budget = _middle(ratios)
    return [[_setting((FIXED, side, number), budget, images)] for side, number in dict.fromkeys(structures)]


def _setting(structure: tuple[str, Choice, Choice], budget: float, images: int) -> Setting:
    method, regions, clusters = structure
    return Setting(method=method, regions=regions, clusters=clusters, budget_macs=budget, images=images)


def _middle(values: Sequence[_T]) -> _T:
    return values[len(values) // 2]


@dataclass(frozen=True, eq=False)
class Trial:
    """What came out of a setting.

    Attributes
    ----------
    setting : Setting
        Which.
    costs : StructureCosts
        Of the planned network.
    logits : ndarray of float32, shape (N, C)
        Of the network on the validation images.
    """

    setting: Setting
    costs: StructureCosts
    logits: Logits


@dataclass(frozen=True, eq=False)
class Scored:
    """A setting's scores on the validation images.

    Attributes
    ----------
    trial : Trial
        What was measured.
    kl : Resampled
        Mean divergence from the dense network, in nats.
    score : Resampled
        The primary score.
    """

    trial: Trial
    kl: Resampled
    score: Resampled

    @property
    def setting(self) -> Setting:
        """Which setting."""
        return self.trial.setting


def score_trial(trial: Trial, reference: Logits, labels: Ints, weights: Draws, score: str = "accuracy") -> Scored:
    """Score a setting against the dense network.

    Parameters
    ----------
    trial : Trial
        Of N images.
    reference : ndarray of float32, shape (N, C)
        Logits of the dense network.
    labels : ndarray of int64, shape (N,)
        True class indices.
    weights : ndarray of float64, shape (1 + B, N)
        Of `hscc.pipeline.statistics.bootstrap.bootstrap_weights`; the same for all settings, so that they are paired.
    score : str
        Name of the primary score, one of `hscc.pipeline.statistics.metrics.METRICS`.
    """
    return Scored(
        trial,
        Resampled.mean(kl_divergence(reference, trial.logits), weights),
        score_logits(trial.logits, labels, weights, score),
    )


def score_logits(logits: Logits, labels: Ints, weights: Draws, score: str) -> Resampled:
    """Primary score of logits, with the arguments of `score_trial`."""
    return Resampled.of(METRICS[score](labels, softmax(logits.astype(np.float64), axis=1), weights))


def tabulate(scored: Sequence[Scored], images: int) -> list[StructureRow]:
    """Make one row per setting, and mark the Pareto fronts of divergence against MACs and against each speed-up.

    Parameters
    ----------
    scored : sequence of Scored
        At least one.
    images : int
        Size of the full calibration; rows of smaller ones are on no front.
    """
    full = [each for each in scored if each.setting.images == images]
    best_by_macs = _front(full, [each.trial.costs.macs_ratio for each in full])
    batches = [timing.batch for timing in scored[0].trial.costs.timings]
    best = {batch: _front(full, [each.trial.costs.timing(batch).speedup for each in full]) for batch in batches}
    rows = []
    for each in scored:
        setting, costs = each.setting, each.trial.costs
        timings = [t.model_copy(update={"on_front": setting in best[t.batch]}) for t in costs.timings]
        rows.append(
            StructureRow(
                **{**dict(costs), "timings": tuple(timings)},
                **dict(setting),
                val_kl=each.kl.estimate(),
                val_score=each.score.estimate(),
                on_front=setting in best_by_macs,
            )
        )
    return rows


def _front(scored: Sequence[Scored], gains: Sequence[float]) -> set[Setting]:
    # To three digits: plans of one budget differ in the fourth by where their last rank fell.
    front = pareto_front([float(f"{gain:.3g}") for gain in gains], [-each.kl.value for each in scored])
    return {each.setting for each, best in zip(scored, front, strict=True) if best}
