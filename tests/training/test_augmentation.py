"""Augmentation: small, black outside, drawn from its generator alone."""

from __future__ import annotations

import pytest
import torch

from hscc.training.augmentation import Augmentation, augment, resize


def _disc() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = ((y - 31.5) ** 2 + (x - 31.5) ** 2 < 15**2).to(torch.uint8) * 200
    return disc.repeat(200, 1, 1)


def test_same_generator_same_views() -> None:
    first, second = (augment(_disc(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(_disc(), torch.Generator().manual_seed(4)))


def test_a_disc_moves_a_little_and_stays_a_disc() -> None:
    views = augment(_disc(), torch.Generator().manual_seed(0))
    mass = views.sum((1, 2))
    x = (views.sum(1) * torch.arange(64.0)).sum(1) / mass
    assert (x - 31.5).abs().max() <= 0.07 * 64 + 0.5
    assert (x - 31.5).abs().max() > 2
    growth = mass / _disc()[0].sum()
    assert 0.8 < growth.min() < 0.9 and 1.1 < growth.max() < 1.25
    assert views.min() >= 0 and views.max() <= 200.01


def test_half_of_the_views_are_mirrored() -> None:
    images = torch.zeros(400, 32, 32, dtype=torch.uint8)
    images[:, :, :16] = 255
    views = augment(images, torch.Generator().manual_seed(0))
    left, right = views[:, :, :16].mean((1, 2)), views[:, :, 16:].mean((1, 2))
    mirrored = (right > left).float().mean()
    assert 0.4 < mirrored < 0.6


def test_colours_move_as_grey_levels_do() -> None:
    grey = _disc()
    colours = torch.stack([grey, grey // 2, 255 - grey], dim=-1)
    moved = augment(colours, torch.Generator().manual_seed(3), Augmentation(flip_up_down=True))
    alone = [
        augment(colours[..., c], torch.Generator().manual_seed(3), Augmentation(flip_up_down=True)) for c in range(3)
    ]
    assert moved.shape == colours.shape
    torch.testing.assert_close(moved, torch.stack(alone, dim=-1))
    torch.testing.assert_close(resize(moved, 20)[..., 0], resize(alone[0], 20))


def test_up_down_flips_half_of_the_views_and_edges_can_be_repeated() -> None:
    still = Augmentation(rotation=0, shift=0, zoom=0, flip=False, flip_up_down=True)
    images = torch.zeros(400, 8, 8, dtype=torch.uint8)
    images[:, :4] = 200
    flipped = augment(images, torch.Generator().manual_seed(0), still)[:, 0, 0] < 100
    assert 150 < int(flipped.sum()) < 250
    white = torch.full((20, 16, 16), 255, dtype=torch.uint8)
    far = Augmentation(shift=0.4, outside="edge")
    assert float(augment(white, torch.Generator().manual_seed(0), far).min()) > 254


def test_a_rectangle_is_rotated_without_shear() -> None:
    tall = torch.zeros(50, 96, 48, dtype=torch.uint8)
    tall[:, 24:72] = _disc()[:50, 8:56, 8:56]
    views = augment(tall, torch.Generator().manual_seed(0), Augmentation(rotation=90, shift=0, zoom=0))
    y, x = torch.meshgrid(torch.arange(96.0) - 47.5, torch.arange(48.0) - 23.5, indexing="ij")
    mass = views.sum((1, 2))
    assert ((views * y**2).sum((1, 2)) / mass - (views * x**2).sum((1, 2)) / mass).abs().max() < 1.5


def _ball() -> torch.Tensor:
    z, y, x = torch.meshgrid(*[torch.arange(24.0) - 11.5] * 3, indexing="ij")
    ball = (z**2 + y**2 + x**2 < 6**2).to(torch.uint8) * 200
    return ball.repeat(60, 1, 1, 1)


def test_a_ball_moves_along_three_axes_and_stays_a_ball() -> None:
    views = augment(_ball(), torch.Generator().manual_seed(0), Augmentation(rotation=45, shift=0.1, zoom=0.1))
    assert views.shape == (60, 24, 24, 24)
    mass = views.sum((1, 2, 3))
    for axis in (1, 2, 3):
        others = [other for other in (1, 2, 3) if other != axis]
        profile = views.sum(others)
        centre = (profile * torch.arange(24.0)).sum(1) / mass
        assert 1.5 < (centre - 11.5).abs().max() < 3**0.5 * 0.11 * 24
        spread = (profile * (torch.arange(24.0) - centre[:, None]) ** 2).sum(1) / mass
        radius = (5 * spread).sqrt()
        assert radius.min() > 0.85 * 6 and radius.max() < 1.15 * 6


@pytest.mark.parametrize(("flip", "axis"), [("flip_depth", 1), ("flip_up_down", 2), ("flip", 3)])
def test_each_axis_of_a_volume_is_flipped_by_its_own_key(flip: str, axis: int) -> None:
    still = Augmentation(**{"rotation": 0.0, "shift": 0.0, "zoom": 0.0, "flip": False, flip: True})
    volumes = torch.rand(300, 6, 6, 6, generator=torch.Generator().manual_seed(1)) * 255
    views = augment(volumes, torch.Generator().manual_seed(0), still)
    same = (views - volumes).abs().amax((1, 2, 3)) < 0.01
    turned = (views - volumes.flip(axis)).abs().amax((1, 2, 3)) < 0.01
    assert bool((same ^ turned).all()) and 100 < int(turned.sum()) < 200


def test_volumes_shrink_to_their_longest_side_and_keep_their_mean() -> None:
    volumes = torch.rand(2, 12, 24, 16) * 255
    small = resize(volumes, 12)
    assert small.shape == (2, 6, 12, 8)
    torch.testing.assert_close(small.mean((1, 2, 3)), volumes.mean((1, 2, 3)))
    assert resize(volumes, 24) is volumes
