"""The rows of the trade-off: every setting's scores with standard errors, and which of them no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hscc.evaluation.bootstrap import Draws, resampled_mean, standard_error
from hscc.evaluation.metrics import Ints, kl_divergence
from hscc.evaluation.pareto import pareto_front
from hscc.evaluation.tradeoff import Logits, Setting, Trial

Row = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """A setting's score on every validation image and in every resample of them.

    Attributes
    ----------
    trial : Trial
        What was measured.
    kl : float
        Mean divergence from the dense network, in nats.
    kl_draws : ndarray of float64, shape (B,)
        The same in every resample.
    accuracy : float
        Share of the images that are right.
    accuracy_draws : ndarray of float64, shape (B,)
        The same in every resample.
    """

    trial: Trial
    kl: float
    kl_draws: Draws
    accuracy: float
    accuracy_draws: Draws

    @property
    def setting(self) -> Setting:
        """Which setting."""
        return self.trial.setting


def score_trial(trial: Trial, reference: Logits, labels: Ints, weights: Draws) -> Scored:
    """Score a setting against the dense network.

    Parameters
    ----------
    trial : Trial
        Of N images.
    reference : ndarray of float32, shape (N, C)
        Logits of the dense network.
    labels : ndarray of int64, shape (N,)
        True class indices.
    weights : ndarray of float64, shape (B, N)
        From `hscc.evaluation.bootstrap.resample`; the same for all settings, so that they are paired.
    """
    divergence = kl_divergence(reference, trial.logits)
    correct = (trial.logits.argmax(axis=1) == labels).astype(np.float64)
    return Scored(
        trial,
        float(divergence.mean()),
        resampled_mean(divergence, weights),
        float(correct.mean()),
        resampled_mean(correct, weights),
    )


def tabulate(scored: Sequence[Scored], images: int, batches: Sequence[int]) -> list[Row]:
    """Make a row a setting, and mark the Pareto fronts of divergence against MACs and against each speed-up.

    Parameters
    ----------
    scored : sequence of Scored
        At least one.
    images : int
        Size of the full calibration; rows of smaller ones are on no front.
    batches : sequence of int
        Batch sizes that were timed.

    Returns
    -------
    list of dict
        The setting's ``name`` and fields, ``val_kl``, ``val_accuracy``, each with ``_se``, the trial's facts, and
        ``on_front`` (of MACs) and ``on_front_bB`` (of the speed-up at batch size B).
    """
    rows = [_row(each) for each in scored]
    entered = [row for row in rows if row["images"] == images]
    gains = {"on_front": "macs_ratio", **{f"on_front_b{batch}": f"speedup_b{batch}" for batch in batches}}
    for mark, gain in gains.items():
        for row in rows:
            row[mark] = False
        # To three digits: plans of one budget differ in the fourth by where their last rank fell.
        front = pareto_front([float(f"{row[gain]:.3g}") for row in entered], [-row["val_kl"] for row in entered])
        for row, best in zip(entered, front, strict=True):
            row[mark] = bool(best)
    return rows


def _row(scored: Scored) -> Row:
    setting = scored.setting
    return {
        "name": setting.name,
        "method": setting.method,
        "regions": setting.regions,
        "clusters": setting.clusters,
        "budget": setting.budget,
        "images": setting.images,
        "val_kl": scored.kl,
        "val_kl_se": standard_error(scored.kl_draws),
        "val_accuracy": scored.accuracy,
        "val_accuracy_se": standard_error(scored.accuracy_draws),
        **scored.trial.facts,
    }
