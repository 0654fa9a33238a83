"""The loss of a classifier's training."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hscc.training.supervised import balanced_weights, cross_entropy


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_balanced_classes_count_alike(labels: list[int]) -> None:
    weights = balanced_weights(np.asarray(labels), 4)
    counts = np.bincount(labels, minlength=4)
    share = weights.numpy() * counts / len(labels)
    np.testing.assert_allclose(share[counts > 0], 1 / 4, rtol=1e-5)
    assert torch.isfinite(weights).all()


def test_weights_decide_what_a_mistake_costs() -> None:
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
    inputs = torch.tensor([[3.0, 0.0], [3.0, 0.0]])  # both are said to be of class 0
    step = (inputs, torch.tensor([0, 1]))
    plain, row = cross_entropy(model, step, label_smoothing=0.0)
    rare, _ = cross_entropy(model, step, label_smoothing=0.0, class_weights=torch.tensor([0.1, 1.9]))
    assert rare > 1.5 * plain
    assert row["train_accuracy"] == pytest.approx(0.5)
