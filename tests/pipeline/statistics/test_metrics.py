from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy.special import softmax
from scipy.stats import entropy

from hscc.pipeline.statistics.bootstrap import bootstrap_weights
from hscc.pipeline.statistics.metrics import METRICS, SCORES, class_scores, confusion, kl_divergence
from tests.pipeline.committed import committed

from .referee import scores

LOGITS = arrays(np.float64, (7, 3), elements=st.floats(-20, 20))


def one_hot(predicted: list[int]) -> np.ndarray:
    return softmax(5.0 * np.eye(3)[predicted], axis=1)


def alone(name: str, labels: list[int], probabilities: np.ndarray) -> float:
    """Give the score itself: with weights of one."""
    return float(METRICS[name](np.array(labels), probabilities, np.ones((1, len(labels))))[0])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(5, 60), st.booleans())
def test_scores_and_their_resamples_are_scikit_learn_s_to_the_twelfth_digit(
    seed: int, images: int, coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(0, 4, images), rng.normal(size=(images, 4))
    if coarse:
        logits = logits.round()  # so that scores tie
    weights = bootstrap_weights(rng.integers(0, images, images), 3, seed)
    probabilities = softmax(logits, axis=1)
    found = {name: METRICS[name](labels, probabilities, weights) for name in SCORES}
    for name, values in class_scores(labels, probabilities, weights).items():
        found |= {f"{name}_{k}": values[:, k] for k in range(4)}
    for number, weight in enumerate(weights):
        expected = scores(labels, logits, weight)
        assert {name: values[number] for name, values in found.items()} == pytest.approx(
            expected, rel=1e-12, abs=1e-12, nan_ok=True
        )


def test_a_metric_of_another_package_is_named_in_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "mine", METRICS["accuracy"])
    assert committed(evaluate={"metrics": ["mine"]}).evaluate.metrics == ("mine",)
    with pytest.raises(ValidationError, match="did you mean mine"):
        committed(evaluate={"metrics": ["mien"]})


def test_scores_of_a_case_counted_by_hand() -> None:
    labels, probabilities = [0, 0, 0, 1, 1, 2], one_hot([0, 0, 1, 1, 1, 0])
    assert alone("accuracy", labels, probabilities) == pytest.approx(4 / 6)
    assert alone("macro_f1", labels, probabilities) == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    found = class_scores(np.array(labels), probabilities, np.ones((1, 6)))
    assert found["precision"][0, 0] == found["recall"][0, 0] == pytest.approx(2 / 3)
    assert found["f1"][0].tolist() == pytest.approx([2 / 3, 4 / 5, 0.0])


def test_a_class_that_is_neither_there_nor_predicted_scores_zero_not_nan() -> None:
    found = class_scores(np.array([0, 1]), one_hot([0, 1]), np.ones((1, 2)))
    assert [values[0, 2] for values in found.values()] == [0.0, 0.0, 0.0]
    assert np.isnan(alone("roc_auc", [0, 1], one_hot([0, 1])))
    assert alone("balanced_accuracy", [0, 1], one_hot([0, 2])) == pytest.approx(0.5)


def test_confusion_counts_each_image_as_often_as_it_is_drawn() -> None:
    probabilities = np.eye(2)[[0, 1, 0]]
    counts = confusion(np.array([0, 0, 1]), probabilities, np.array([[2.0, 0.0, 1.0]]))
    np.testing.assert_array_equal(counts, [[[2, 0], [1, 0]]])


def test_brier_score_runs_from_sure_and_right_to_sure_and_wrong() -> None:
    assert alone("brier", [0, 1, 2], np.eye(3)) == 0.0
    assert alone("brier", [1, 2, 0], np.eye(3)) == 2.0
    assert alone("brier", [0], np.array([[0.5, 0.3, 0.2]])) == pytest.approx(0.25 + 0.09 + 0.04)


def test_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    probabilities = np.tile([0.8, 0.2], (10, 1))
    assert alone("ece", [0] * 8 + [1] * 2, probabilities) == pytest.approx(0.0, abs=1e-12)
    assert alone("ece", [1] * 10, probabilities) == pytest.approx(0.8)


def test_calibration_error_does_not_let_bins_cancel() -> None:
    probabilities = np.array([[0.95, 0.05]] * 2 + [[0.55, 0.45]] * 2)
    assert alone("ece", [1, 1, 0, 0], probabilities) == pytest.approx((0.95 + 0.45) / 2)  # sure and wrong, and unsure


@given(LOGITS, LOGITS)
def test_kl_agrees_with_scipy_and_is_never_negative(reference: np.ndarray, logits: np.ndarray) -> None:
    divergence = kl_divergence(reference, logits)
    assert (divergence >= 0).all()
    expected = entropy(softmax(reference, axis=1), softmax(logits, axis=1), axis=1)
    np.testing.assert_allclose(divergence, np.maximum(expected, 0), rtol=1e-6, atol=1e-9)


@given(LOGITS, st.floats(-50, 50))
def test_kl_is_zero_where_predictions_agree(logits: np.ndarray, shift: float) -> None:
    np.testing.assert_allclose(kl_divergence(logits, logits + shift), 0, atol=1e-9)
