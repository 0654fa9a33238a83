from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from hscc.training.augmentation import Augmentation
from hscc.training.maps import (
    MapSplit,
    Patches,
    map_agreement,
    map_answers,
    map_batches,
    map_loss,
    moved_alike,
    score_maps,
)

AUGMENTATION = Augmentation(rotation=40.0, shift=0.1, zoom=0.2, flip=True, flip_up_down=True)


@pytest.fixture
def split() -> MapSplit:
    """Dark images with a bright square, which is the mask; a strip at the top does not count."""
    rng = np.random.default_rng(0)
    images, masks = np.full((6, 48, 40, 3), 20, dtype=np.uint8), np.ones((6, 48, 40), dtype=np.uint8)
    for image, mask in zip(images, masks, strict=True):
        top, left = rng.integers(6, 20, 2)
        image[top : top + 16, left : left + 16] = 220
        mask[top : top + 16, left : left + 16] = 2
        mask[:2] = 0
    rows = np.arange(6)
    return MapSplit(images, rows, np.zeros(6, dtype=np.int64), masks=masks)


class Threshold(nn.Module):
    """Bright pixels are of class 1."""

    def __init__(self, sharpness: float = 20.0) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(sharpness))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        margin = self.sharpness * images.mean(1)
        return torch.stack((-margin, margin), dim=1)


def test_images_and_masks_move_alike(split: MapSplit) -> None:
    images, codes = moved_alike(split, np.arange(6), torch.Generator().manual_seed(1), AUGMENTATION)
    bright, counted = images.mean(-1) > 120, codes > 0
    assert set(codes.unique().tolist()) == {0.0, 1.0, 2.0}
    assert (bright == (codes == 2))[counted].float().mean() > 0.97
    assert (codes == 0).float().mean() > 2 / 48  # what moves in from outside does not count


@pytest.mark.parametrize("side", [16, None, 99])
def test_patches_are_the_same_whenever_an_epoch_is_asked_for(split: MapSplit, side: int | None) -> None:
    views = Patches(split, 2, 3, AUGMENTATION, side)
    first, again, other = list(views(1)), list(views(1)), list(views(2))
    assert len(first) == views.steps
    for (inputs, targets), (same, same_targets) in zip(first, again, strict=True):
        assert inputs.shape == (2, 3, *views.sides) and targets.shape == (2, *views.sides)
        assert torch.equal(inputs, same) and torch.equal(targets, same_targets)
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_an_epoch_of_patches_has_about_as_many_pixels_as_the_images(split: MapSplit) -> None:
    pixels = sum(targets.numel() for _, targets in Patches(split, 2, 0, AUGMENTATION, 16)(0))
    assert 0.8 < pixels / split.masks.size < 1.2


def test_the_loss_falls_to_zero_where_every_pixel_is_right(split: MapSplit) -> None:
    step = next(iter(Patches(split, 2, 0, Augmentation(0.0, 0.0, 0.0), 32)(0)))
    good, _ = map_loss(Threshold(), step)
    bad, _ = map_loss(Threshold(-20.0), step)
    assert 0 <= good.item() < 0.01 < bad.item()


def test_patches_without_a_pixel_that_counts_cost_nothing(split: MapSplit) -> None:
    inputs, targets = next(map_batches(split))
    model = nn.Conv2d(inputs.shape[1], 2, 1)
    value, _ = map_loss(model, (inputs, torch.full_like(targets, -1)))
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_scores_of_a_perfect_network(split: MapSplit) -> None:
    model = Threshold()
    found = score_maps(model, split)
    assert found["val_dice"] == found["val_iou"] == found["val_pixel_roc_auc"] == 1.0 and found["val_loss"] < 0.01
    compared = partial(map_agreement, targets=map_answers(model, split), split=split)
    assert compared(model)["val_kl"] == pytest.approx(0.0, abs=1e-4)
    assert compared(Threshold(0.1))["val_kl"] > 0.1
