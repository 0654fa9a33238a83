from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from hscc.pipeline.statistics.scores import brier_score, expected_calibration_error, kl_divergence, macro_roc_auc, score

CLASSES = ("a", "b", "c")
LOGITS = arrays(np.float64, (7, 3), elements=st.floats(-20, 20))


def one_hot(predicted: list[int]) -> np.ndarray:
    return 5.0 * np.eye(3)[predicted]


def test_scores_of_a_case_counted_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    scores = score(labels, one_hot([0, 0, 1, 1, 1, 0]), CLASSES)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["precision_a"] == pytest.approx(2 / 3)
    assert scores["recall_a"] == pytest.approx(2 / 3)
    assert scores["f1_b"] == pytest.approx(2 * 2 / (3 + 2))
    assert scores["f1_c"] == 0.0
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


def test_a_class_that_is_neither_there_nor_predicted_scores_zero_not_nan() -> None:
    scores = score(np.array([0, 1]), one_hot([0, 1]), CLASSES)
    assert scores["f1_c"] == scores["precision_c"] == scores["recall_c"] == 0.0


def test_roc_auc_agrees_with_scikit_learn_and_is_nan_without_an_image_of_a_class() -> None:
    rng = np.random.default_rng(0)
    labels, probabilities = np.arange(30) % 3, softmax(rng.normal(size=(30, 3)), axis=1)
    assert macro_roc_auc(labels, probabilities) == pytest.approx(
        roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    )
    assert np.isnan(macro_roc_auc(np.zeros(30, dtype=int), probabilities))


def test_balanced_accuracy_is_scikit_learn_s_and_passes_over_classes_without_images() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), [0, 0, 1, 1, 1, 0]
    assert score(labels, one_hot(predicted), CLASSES)["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, predicted)
    )
    assert score(np.array([0, 1]), one_hot([0, 2]), CLASSES)["balanced_accuracy"] == pytest.approx(0.5)


def test_brier_score_runs_from_sure_and_right_to_sure_and_wrong() -> None:
    assert brier_score(np.array([0, 1, 2]), np.eye(3)) == 0.0
    assert brier_score(np.array([1, 2, 0]), np.eye(3)) == 2.0
    assert brier_score(np.array([0]), np.array([[0.5, 0.3, 0.2]])) == pytest.approx(0.25 + 0.09 + 0.04)


def test_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    probabilities = np.tile([0.8, 0.2], (10, 1))
    right_in_eight = np.array([0] * 8 + [1] * 2)
    assert expected_calibration_error(right_in_eight, probabilities) == pytest.approx(0.0, abs=1e-12)
    assert expected_calibration_error(np.ones(10, dtype=int), probabilities) == pytest.approx(0.8)


def test_calibration_error_does_not_let_bins_cancel() -> None:
    probabilities = np.array([[0.95, 0.05]] * 2 + [[0.55, 0.45]] * 2)
    labels = np.array([1, 1, 0, 0])  # sure and wrong, unsure and right
    assert expected_calibration_error(labels, probabilities) == pytest.approx((0.95 + 0.45) / 2)


@given(LOGITS, LOGITS)
def test_kl_agrees_with_scipy_and_is_never_negative(reference: np.ndarray, logits: np.ndarray) -> None:
    divergence = kl_divergence(reference, logits)
    assert (divergence >= 0).all()
    expected = entropy(softmax(reference, axis=1), softmax(logits, axis=1), axis=1)
    np.testing.assert_allclose(divergence, np.maximum(expected, 0), rtol=1e-6, atol=1e-9)


@given(LOGITS, st.floats(-50, 50))
def test_kl_is_zero_where_predictions_agree(logits: np.ndarray, shift: float) -> None:
    np.testing.assert_allclose(kl_divergence(logits, logits + shift), 0, atol=1e-9)
