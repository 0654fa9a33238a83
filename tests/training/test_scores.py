from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from hscc.pipeline.known_names import TASK_SCORES
from hscc.pipeline.statistics.metrics import METRICS
from hscc.training.map_scores import MAP_SCORES
from hscc.training.scores import SCORES
from hscc.training.target_scores import LABEL_SCORES


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(2, 4))
def test_training_and_evaluation_have_the_same_scores(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 20)])
    logits = rng.integers(-3, 4, (len(labels), classes)).astype(np.float64)  # with ties
    probabilities, once = softmax(logits, axis=1), np.ones((1, len(labels)))
    for name, score in SCORES.items():
        found = score(torch.from_numpy(logits), torch.from_numpy(labels))
        assert found == pytest.approx(METRICS[name](labels, probabilities, once)[0], abs=1e-9), name


def test_the_names_in_params_are_those_of_the_scores() -> None:
    assert {name: set(scores) for name, scores in TASK_SCORES.items()} == {
        "classification": set(SCORES), "segmentation": set(MAP_SCORES), "multilabel": set(LABEL_SCORES),
        "regression": {"r2"},  # of the others less is better
    }  # fmt: skip
