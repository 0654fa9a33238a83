from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score, recall_score, roc_auc_score

from hscc.training.map_scores import BINS, MAP_SCORES, count_maps, of_each_image

IMAGES, CLASSES, SIDE = 4, 3, 6


def drawn(seed: int, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and classes of a few maps; some pixels do not count."""
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randint(-1, classes, (IMAGES, SIDE, SIDE), generator=draw)
    return torch.randn(IMAGES, classes, SIDE, SIDE, generator=draw), truth


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_scores_of_an_image_are_those_of_its_pixels(seed: int) -> None:
    logits, truth = drawn(seed)
    counts = count_maps(logits, truth)
    referees = {"dice": f1_score, "iou": jaccard_score, "sensitivity": recall_score}
    for image in range(IMAGES):
        counted = truth[image] >= 0
        true, given_ = truth[image][counted].numpy(), logits[image].argmax(0)[counted].numpy()
        present = [index for index in range(1, CLASSES) if (true == index).any() and (given_ == index).any()]
        if len(present) == CLASSES - 1:
            for name, referee in referees.items():
                wanted = referee(true, given_, labels=list(range(1, CLASSES)), average="macro")
                assert of_each_image(counts, name)[image] == pytest.approx(wanted)
        assert counts.confusion[image].sum() == counted.sum()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_a_weight_of_two_is_an_image_seen_twice(seed: int) -> None:
    logits, truth = drawn(seed)
    weights = np.array([[1.0, 2.0, 0.0, 1.0]])
    order = [0, 1, 1, 3]
    repeated = count_maps(logits[order], truth[order])
    for score in MAP_SCORES.values():
        once = score(repeated, np.ones((1, IMAGES)))
        np.testing.assert_allclose(score(count_maps(logits, truth), weights), once, equal_nan=True)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_the_area_is_that_of_all_pixels_together(seed: int) -> None:
    logits, truth = drawn(seed, 2)
    step = 32 / BINS
    margin = ((logits[:, 1] - logits[:, 0]) / step).round() * step + step / 2  # in the middle of a bin
    logits = torch.stack((-margin / 2, margin / 2), dim=1)
    counted = truth >= 0
    wanted = roc_auc_score(truth[counted].numpy(), margin[counted].numpy())
    found = MAP_SCORES["pixel_roc_auc"](count_maps(logits, truth), np.ones((1, IMAGES)))
    assert found[0] == pytest.approx(wanted, abs=1e-9)


def test_pixels_that_do_not_count_change_nothing() -> None:
    logits, truth = drawn(0)
    other = torch.where((truth < 0)[:, None], 9 * torch.randn_like(logits), logits)
    first, second = count_maps(logits, truth), count_maps(other, truth)
    np.testing.assert_array_equal(first.confusion, second.confusion)
    np.testing.assert_array_equal(first.odds, second.odds)


def test_a_class_that_is_neither_there_nor_given_is_no_fault() -> None:
    truth = torch.zeros(1, 4, 4, dtype=torch.int64)
    counts = count_maps(torch.stack((torch.ones(1, 4, 4), torch.zeros(1, 4, 4)), dim=1), truth)
    assert of_each_image(counts, "dice")[0] == of_each_image(counts, "specificity")[0] == 1.0
    assert np.isnan(of_each_image(counts, "sensitivity")[0])
