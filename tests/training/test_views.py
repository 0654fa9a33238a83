"""Batches of an epoch: the same again, smaller at first, mixed on request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hscc.training.augmentation import mix
from hscc.training.images import Split
from hscc.training.views import Joined, Mixed, Views

RNG = np.random.default_rng(0)
VIEWS = Views(
    Split(RNG.integers(0, 255, (20, 32, 32), dtype=np.uint8), np.arange(4, 20), np.arange(16) % 3), batch_size=5, seed=3
)


def test_an_epoch_is_the_same_again_and_another_is_not() -> None:
    first, again, other = (list(VIEWS(epoch)) for epoch in (0, 0, 1))
    assert len(first) == VIEWS.steps == 3
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for (a, _), (b, _) in zip(first, other, strict=True))


def test_early_epochs_see_smaller_images() -> None:
    views = replace(VIEWS, sizes=(16, 24, 64), epochs=5)
    sides = [next(iter(views(epoch)))[0].shape[-1] for epoch in range(5)]
    assert sides == [16, 16, 24, 24, 32]  # never larger than they are
    assert views.settled == 4 and VIEWS.settled == 0


def test_joined_epochs_have_the_batches_of_all_in_a_new_order() -> None:
    others = replace(VIEWS, seed=4)
    joined = Joined((VIEWS, others, VIEWS), seed=0)
    assert joined.steps == len(list(joined(0))) == 9
    drawn = [[inputs.sum().item() for inputs, _ in epochs] for epochs in (joined(0), VIEWS(0), others(0))]
    assert sorted(drawn[0]) == sorted(2 * drawn[1] + drawn[2])
    assert drawn[0] == [inputs.sum().item() for inputs, _ in joined(0)]
    places = [[drawn[2].index(each) for each in drawn[0] if each in drawn[2]]]
    assert places == [[0, 1, 2]]
    orders = {tuple(inputs.sum().item() in drawn[2] for inputs, _ in Joined((VIEWS, others), s)(0)) for s in range(6)}
    assert len(orders) > 1


def test_mixed_inputs_lie_between_two_of_their_batch() -> None:
    plain, mixed = (list(epochs(0)) for epochs in (Mixed(VIEWS, 0.0, 1), Mixed(VIEWS, 1.0, 1)))
    for (inputs,), (between,) in zip(plain, mixed, strict=True):
        assert not torch.equal(inputs, between)
        for one in between:
            # In the plane of each pair the distances to both add up to theirs.
            pairs = torch.cdist(inputs.flatten(1), inputs.flatten(1))
            reach = (inputs - one).flatten(1).norm(dim=1)
            assert ((reach[:, None] + reach[None, :] - pairs).abs() < 1e-2).any()


@given(st.floats(0.1, 4), st.integers(1, 6))
def test_mixing_keeps_the_range_of_the_inputs(alpha: float, images: int) -> None:
    inputs = torch.rand(images, 2, 3, generator=torch.Generator().manual_seed(images))
    mixed = mix(inputs, torch.Generator().manual_seed(0), alpha)
    assert mixed.shape == inputs.shape
    assert mixed.min() >= inputs.min() - 1e-6 and mixed.max() <= inputs.max() + 1e-6
