from __future__ import annotations

import numpy as np
import torch

from hscc.networks.normalisation import IMAGENET, Normalisation
from hscc.training.images import Split, batches, to_input

LEVELS = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)


def test_grey_is_given_three_times() -> None:
    found = to_input(LEVELS[..., 0])
    for channel, (mean, std) in enumerate(zip(IMAGENET.mean, IMAGENET.std, strict=True)):
        expected = (torch.from_numpy(LEVELS[..., 0]) / 255.0 - mean) / std
        torch.testing.assert_close(found[:, channel], expected)


def test_colours_are_normalised_each_by_its_own_statistics() -> None:
    own = Normalisation((0.1, 0.2, 0.3), (0.5, 0.4, 0.2))
    found = to_input(LEVELS, own)
    assert found.shape == (5, 3, 6, 6)
    assert found.is_contiguous()  # a network may need its channels first, see `lay_out`
    expected = (torch.from_numpy(LEVELS[..., 2]) / 255.0 - 0.3) / 0.2
    torch.testing.assert_close(found[:, 2], expected)


def test_a_split_normalises_by_its_own_statistics() -> None:
    own = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    split = Split(LEVELS, np.array([3, 1]), np.array([0, 1]), own)
    ((inputs, labels),) = batches(split)
    assert labels.tolist() == [0, 1]
    torch.testing.assert_close(inputs, to_input(LEVELS[[3, 1]], own))


def test_a_grey_volume_fills_as_many_channels_as_the_normalisation_has_numbers() -> None:
    volumes = np.random.default_rng(1).integers(0, 256, (2, 4, 6, 5), dtype=np.uint8)
    one = to_input(volumes, Normalisation((0.5,), (0.25,)))
    assert one.shape == (2, 1, 4, 6, 5)
    torch.testing.assert_close(one[:, 0], (torch.from_numpy(volumes) / 255.0 - 0.5) / 0.25)
    assert to_input(volumes).shape == (2, 3, 4, 6, 5)
    assert to_input(LEVELS[..., 0], Normalisation((0.5,), (0.25,))).shape == (5, 1, 6, 6)
