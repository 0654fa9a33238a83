from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from hscc.pipeline.statistics.scores import (
    interval,
    resample,
    resampled_confusion,
    resampled_mean,
    resampled_scores,
    score,
    standard_error,
)

CLASSES = ("a", "b", "c", "d")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(5, 60), st.booleans())
def test_a_resample_scores_as_the_images_written_out(seed: int, images: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(0, 4, images), rng.normal(size=(images, 4))
    if coarse:
        logits = logits.round()  # so that scores tie
    weights = resample(rng.integers(0, images, images), 3, seed)
    draws = resampled_scores(labels, logits, weights, CLASSES)
    for row, weight in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(images), weight)
        expected = score(labels[drawn], logits[drawn], CLASSES)
        found = {name: values[row] for name, values in draws.items()}
        assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
def test_draws_agree_with_scikit_learn_s_own_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(50) % 4
    logits = rng.normal(size=(50, 4))
    weights = resample(np.arange(50) // 2, 4, seed)
    draws = resampled_scores(labels, logits, weights, CLASSES)
    predicted, probabilities = logits.argmax(axis=1), softmax(logits, axis=1)
    for row, weight in enumerate(weights):
        asked = {"sample_weight": weight}
        precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, zero_division=0.0, **asked)
        expected = {
            "accuracy": accuracy_score(labels, predicted, **asked),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted, **asked),
            "macro_f1": f1.mean(),
            "brier": brier_score_loss(labels, probabilities, labels=np.arange(4), scale_by_half=False, **asked),
            "roc_auc": np.mean([roc_auc_score(labels == k, probabilities[:, k], **asked) for k in range(4)]),
            "precision_a": precision[0],
            "recall_b": recall[1],
            "f1_c": f1[2],
        }
        assert {name: draws[name][row] for name in expected} == pytest.approx(expected)


def test_confusion_counts_each_image_as_often_as_it_is_drawn() -> None:
    weights = np.array([[2.0, 0.0, 1.0]])
    counts = resampled_confusion(np.array([0, 0, 1]), np.array([0, 1, 0]), weights, 2)
    np.testing.assert_array_equal(counts, [[[2, 0], [1, 0]]])


@given(st.integers(1, 40), st.integers(0, 100))
def test_single_images_are_drawn_as_many_times_as_there_are(images: int, seed: int) -> None:
    weights = resample(np.arange(images), 5, seed)
    assert weights.shape == (5, images)
    np.testing.assert_array_equal(weights.sum(axis=1), images)


def test_near_copies_are_drawn_together() -> None:
    weights = resample(np.array([7, 3, 7, 9, 3]), 50, 0)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    assert (weights[:, 0] != weights[:, 1]).any()


def test_the_seed_decides_the_draws() -> None:
    np.testing.assert_array_equal(resample(np.arange(9), 4, 1), resample(np.arange(9), 4, 1))
    assert (resample(np.arange(9), 4, 1) != resample(np.arange(9), 4, 2)).any()


def test_standard_error_of_accuracy_is_the_binomial_one() -> None:
    correct = np.arange(400) < 360
    error = standard_error(resampled_mean(correct, resample(np.arange(400), 4000, 0)))
    assert error == pytest.approx(np.sqrt(0.9 * 0.1 / 400), rel=0.06)


def test_copies_of_images_are_no_further_evidence() -> None:
    correct = np.repeat(np.arange(100) < 80, 4)
    together = standard_error(resampled_mean(correct, resample(np.repeat(np.arange(100), 4), 4000, 0)))
    apart = standard_error(resampled_mean(correct, resample(np.arange(400), 4000, 0)))
    assert together == pytest.approx(np.sqrt(0.8 * 0.2 / 100), rel=0.06)
    assert together == pytest.approx(2 * apart, rel=0.1)


def test_standard_error_leaves_undefined_resamples_out() -> None:
    assert standard_error(np.array([1.0, np.nan, 3.0])) == pytest.approx(np.sqrt(2))
    assert np.isnan(standard_error(np.array([np.nan, 2.0])))


def test_interval_holds_the_middle_of_the_draws() -> None:
    low, high = interval(np.linspace(0, 1, 1001))
    assert (low, high) == (pytest.approx(0.025), pytest.approx(0.975))


def test_interval_leaves_undefined_resamples_out() -> None:
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(interval(np.array([np.nan]))).all()
