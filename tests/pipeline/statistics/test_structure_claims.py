"""Claims about settings whose divergences are known: made, not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hscc.pipeline.statistics.bootstrap import bootstrap_weights
from hscc.pipeline.statistics.schema import Estimate
from hscc.pipeline.statistics.structure_claims import REFUTED, SUPPORTED, UNDECIDED, judge, together, verdict
from hscc.pipeline.statistics.structure_grid import Scored, Trial, score_trial, tabulate
from hscc.pipeline.statistics.structure_schema import AUTO, FIXED, Claim, Setting, StructureCosts, StructureTiming

IMAGES = 120
WEIGHTS = bootstrap_weights(np.arange(IMAGES), 300, 0)
LABELS = np.arange(IMAGES) % 4
REFERENCE = (4 * np.eye(4)[LABELS]).astype(np.float32)


def scored(regions: int | str, clusters: int | str, noise: float, budget: float = 6.0, **other: Any) -> Scored:
    """Score a network whose logits are this far from the dense network's."""
    drawn = np.random.default_rng(0).standard_normal(REFERENCE.shape)
    logits = (REFERENCE + noise * drawn).astype(np.float32)
    costs = StructureCosts(
        predicted_loss=other.get("loss", noise),
        macs=1,
        params=1,
        macs_ratio=budget + other.get("under", 0.0),
        params_ratio=1.0,
        timings=(StructureTiming(batch=1, ms=1.0, speedup=other.get("speed", 2.0), speedup_se=0.01),),
    )
    setting = Setting(
        method=FIXED if regions != AUTO else "hscc",
        regions=regions,
        clusters=clusters,
        budget_macs=budget,
        images=other.get("images", 768),
    )
    return score_trial(Trial(setting, costs, logits), REFERENCE, LABELS, WEIGHTS)


def claims(settings: list[Scored]) -> dict[str, Claim]:
    found = judge(settings, 768, [1])
    words = {"clusters a region": "clusters", "regions a side": "regions", "finest": "size", "costs time": "time"}
    words |= {"predicted loss": "loss"}
    return {next(short for part, short in words.items() if part in claim.claim): claim for claim in found}


def test_a_score_is_what_the_metrics_say() -> None:
    one = scored(1, 1, 0.0)
    assert (one.kl.value, one.score.value) == (0.0, 1.0)
    noisy = scored(1, 1, 3.0)
    assert noisy.kl.value > 0.1
    assert noisy.kl.draws.mean() == pytest.approx(noisy.kl.value, rel=0.05)
    assert noisy.score.value == pytest.approx(noisy.score.draws.mean(), abs=0.02)


def test_fronts_are_of_the_full_calibration() -> None:
    settings = [
        scored(1, 1, 2.0, speed=4.0, under=0.001),
        scored(2, 2, 1.0, speed=3.0),
        scored(4, 4, 1.5, speed=1.0),
        scored(AUTO, AUTO, 3.0, 12.0, speed=2.0),
        scored(2, 2, 0.1, 24.0, images=96, speed=9.0),
    ]
    rows = tabulate(settings, 768)
    assert [row.on_front for row in rows] == [False, True, False, True, False]
    assert [row.timing(1).on_front for row in rows] == [True, True, False, False, False]
    assert rows[3].regions == rows[3].clusters == AUTO
    assert rows[0].val_kl.value > rows[1].val_kl.value > 0
    assert len({row.name for row in rows}) == 5


@pytest.mark.parametrize(
    ("noises", "word"),
    [((2.0, 1.0, 0.9, 2.0), SUPPORTED), ((2.0, 1.5, 1.2, 0.8), REFUTED), ((2.0, 1.0, 1.0, 1.0), UNDECIDED)],
)
def test_moderate_clustering_is_answered_from_both_ends(noises: tuple[float, ...], word: str) -> None:
    settings = [scored(2, number, noise) for number, noise in zip((1, 2, 4, 8), noises, strict=True)]
    claim = claims(settings)["clusters"]
    assert claim.verdict == word
    (test,) = claim.figures
    assert test.fewest_loses == SUPPORTED
    assert test.interior == (word != REFUTED)
    assert test.fewest_minus_middle.se > 0
    assert "regions" not in claims(settings)  # one number of regions has no middle


def test_the_other_axis_is_held_where_the_best_setting_has_it() -> None:
    settings = [scored(side, 2, noise) for side, noise in ((1, 2.0), (2, 1.0), (4, 1.5))]
    settings += [scored(side, 8, noise) for side, noise in ((1, 1.9), (2, 1.2), (4, 0.5))]
    (test,) = claims(settings)["regions"].figures
    assert (test.held, test.best, test.interior) == (8, 4, False)
    assert test.most_loses == REFUTED


def test_what_depends_on_the_calibration_is_said_to() -> None:
    def of(images: int, finest: float) -> list[Scored]:
        noises = {(1, 1): 2.0, (2, 4): 1.0, (4, 8): finest}
        return [scored(*sides, noise, images=images) for sides, noise in noises.items()]

    same = claims([*of(96, 1.8), *of(768, 1.5)])["size"]
    assert same.verdict == SUPPORTED
    changed = claims([*of(96, 1.8), *of(768, 0.5)])["size"]
    assert changed.verdict == UNDECIDED
    assert changed.answer.startswith("It depends: 96 images")
    assert [test.images for test in changed.figures] == [96, 768]


def test_what_depends_on_the_budget_is_said_to() -> None:
    noises = {3.0: (2.0, 1.5, 0.8), 12.0: (2.0, 0.8, 1.5)}
    claim = claims([scored(2, 2**i, n, budget) for budget, line in noises.items() for i, n in enumerate(line)])
    assert claim["clusters"].verdict == UNDECIDED
    assert claim["clusters"].answer.startswith("It depends: at 3x the best is 4")
    assert [test.interior for test in claim["clusters"].figures] == [False, True]


def test_time_lost_to_structure_is_measured() -> None:
    settings = [scored(1, 1, 2.0, speed=5.0), scored(2, 2, 1.5, speed=3.0), scored(4, 4, 1.0, speed=2.0)]
    claim = claims(settings)["time"]
    assert claim.verdict == SUPPORTED
    assert claim.figures[0].difference.value == pytest.approx(3.0)
    assert "5.00x with 1x1 regions, 1 cluster, 2.00x with 4x4 regions, 4 clusters" in claim.answer


def test_the_loss_is_ranked_against_the_divergence() -> None:
    noises = (2.0, 1.5, 1.0, 0.5)
    right = claims([scored(1, 2**index, noise) for index, noise in enumerate(noises)])["loss"]
    wrong = claims([scored(1, 2**index, noise, loss=-noise) for index, noise in enumerate(noises)])["loss"]
    assert (right.verdict, right.figures[0].spearman.value) == (SUPPORTED, pytest.approx(1.0))
    assert (wrong.verdict, wrong.figures[0].spearman.value) == (REFUTED, pytest.approx(-1.0))


def test_nothing_tried_claims_nothing() -> None:
    assert judge([scored(AUTO, AUTO, 1.0)], 768, [1]) == []


def test_verdicts() -> None:
    assert verdict(Estimate(value=0.15, low=0.1, high=0.2)) == SUPPORTED
    assert verdict(Estimate(value=-0.15, low=-0.2, high=-0.1)) == REFUTED
    assert verdict(Estimate(value=0.0, low=-0.1, high=0.1)) == UNDECIDED
    assert together([SUPPORTED, UNDECIDED, REFUTED]) == REFUTED
    assert together([SUPPORTED, UNDECIDED]) == UNDECIDED
