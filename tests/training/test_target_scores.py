from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from hscc.training.target_scores import label_scores, over_outputs, value_scores

seeds = st.integers(0, 2**31 - 1)


@settings(max_examples=10)
@given(seeds, st.integers(1, 3))
def test_scores_of_labels_are_those_of_scikit_learn_for_images_repeated_as_often(seed: int, labels: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.eye(2)[:, :1].repeat(labels, 1), rng.integers(0, 2, (20, labels))])
    logits = rng.integers(-3, 4, truth.shape).astype(float)  # with ties
    weights = np.stack([np.ones(len(truth)), np.r_[1, 1, rng.integers(0, 3, 20)]])
    found = label_scores(logits, truth, weights)
    for draw, weight in enumerate(weights):
        rows = np.repeat(np.arange(len(truth)), weight.astype(int))
        for label in range(labels):
            true, scores = truth[rows, label], logits[rows, label]
            wanted = {
                "roc_auc": metrics.roc_auc_score(true, scores),
                "average_precision": metrics.average_precision_score(true, scores),
                "f1": metrics.f1_score(true, scores > 0),
                "recall": metrics.recall_score(true, scores > 0),
                "label_accuracy": metrics.accuracy_score(true, scores > 0),
            }
            for name, value in wanted.items():
                assert found[name][draw, label] == pytest.approx(value), name


def test_a_label_that_no_image_has_is_left_out_of_the_mean() -> None:
    truth = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    found = label_scores(np.array([[2.0, -1.0], [1.0, -1.0], [3.0, -1.0]]), truth, np.ones((1, 3)))
    for name in ("roc_auc", "average_precision", "f1"):
        assert np.isnan(found[name][0, 1]), name
        assert over_outputs(found[name])[0] == found[name][0, 0]
    assert np.isnan(over_outputs(np.full((2, 2), np.nan))).all()


@settings(max_examples=10)
@given(seeds, st.floats(-1e4, 1e4), st.sampled_from((1e-9, 0.1, 1.0, 1e3)))
def test_scores_of_values_are_those_of_scikit_learn_in_any_unit(seed: int, origin: float, unit: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(20, 2))
    answers = truth + 0.3 * rng.normal(size=truth.shape)
    weights = rng.integers(1, 4, (2, 20)).astype(float)
    found = value_scores(answers, truth, weights)
    for draw, weight in enumerate(weights):
        for value in range(2):
            pair = truth[:, value], answers[:, value]
            assert found["r2"][draw, value] == pytest.approx(metrics.r2_score(*pair, sample_weight=weight))
            assert found["mae"][draw, value] == pytest.approx(metrics.mean_absolute_error(*pair, sample_weight=weight))
    origin *= unit
    scaled = value_scores(answers * unit + origin, truth * unit + origin, weights)
    np.testing.assert_allclose(scaled["r2"], found["r2"], atol=1e-6)
    np.testing.assert_allclose(scaled["rmse"], found["rmse"] * unit, rtol=1e-6)
