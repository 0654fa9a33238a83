"""The batches of each epoch: drawn from a seed and the epoch alone, so that a resumed run sees the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from hscc.training.augmentation import Augmentation, augment, mix, resize
from hscc.training.images import Split, to_input

Step = tuple[Any, ...]  # what one step sees: the network's inputs (a `hscc.networks.inputs.Batch`), then targets


class Epochs(Protocol):
    """Batches by epoch."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""

    def __call__(self, epoch: int) -> Iterable[Step]:
        """Draw the batches of an epoch from 0, the same whenever it is asked for."""


@dataclass(frozen=True)
class Views:
    """Augmented images of a split in a new order each epoch, with their labels.

    Attributes
    ----------
    split : Split
        What to learn from.
    batch_size : int
        Images per batch; the last ones of an epoch, fewer than that, are left out.
    seed : int
        Of order and augmentation.
    augmentation : Augmentation
        How far.
    sizes : tuple of int
        Pixels of the longest side in equal parts of `epochs`, such as (128, 128, 176, 224): early epochs on small
        images take less time (progressive resizing; Tan and Le, 2021, EfficientNetV2). Images never grow; empty for
        the size as given.
    epochs : int
        That the sizes are spread over.
    """

    split: Split
    batch_size: int
    seed: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    sizes: tuple[int, ...] = ()
    epochs: int = 1

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return max(1, len(self.split) // self.batch_size)

    def size(self, epoch: int) -> int | None:
        """Pixels of the longest side in an epoch; None for the size as given."""
        return self.sizes[epoch * len(self.sizes) // self.epochs] if self.sizes else None

    @property
    def settled(self) -> int:
        """First epoch on images of the last size."""
        return -(-self.epochs * (len(self.sizes) - 1) // len(self.sizes)) if self.sizes else 0

    def __call__(self, epoch: int) -> Iterator[Step]:
        """Yield network inputs (n, channels, ...) and labels (n,)."""
        draw = torch.Generator().manual_seed(mixed_seed(self.seed, epoch, 2))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.split))
        for step in range(self.steps):
            images, labels = self.split.batch(order[step * self.batch_size : (step + 1) * self.batch_size])
            views = resize(augment(images, draw, self.augmentation), self.size(epoch))
            inputs = to_input(views, self.split.normalisation)
            yield inputs, labels


@dataclass(frozen=True)
class Joined:
    """The batches of several epochs as one epoch, in a new order each time.

    Attributes
    ----------
    parts : tuple of Epochs
        Their steps begin with the inputs.
    seed : int
        Of the order.
    """

    parts: tuple[Epochs, ...]
    seed: int

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return sum(part.steps for part in self.parts)

    def __call__(self, epoch: int) -> Iterator[Step]:
        """Yield each part's steps in their order, those of the others between them."""
        turns = np.repeat(np.arange(len(self.parts)), [part.steps for part in self.parts])
        drawn = [iter(part(epoch)) for part in self.parts]
        for turn in np.random.default_rng((self.seed, epoch, 4)).permutation(turns):
            yield next(drawn[turn])


@dataclass(frozen=True)
class Mixed:
    """Inputs of other epochs, each mixed with another of its batch (mixup; Zhang et al., 2018), without labels.

    Attributes
    ----------
    epochs : Epochs
        Their steps begin with the inputs.
    alpha : float
        Of the Beta distribution that a pair's weights are drawn from; 0 mixes nothing.
    seed : int
        Of pairs and weights.
    """

    epochs: Epochs
    alpha: float
    seed: int

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.epochs.steps

    def __call__(self, epoch: int) -> Iterator[Step]:
        """Yield inputs."""
        draw = torch.Generator().manual_seed(mixed_seed(self.seed, epoch, 3))
        for inputs, *_ in self.epochs(epoch):
            yield (mix(inputs, draw, self.alpha) if self.alpha else inputs,)


def mixed_seed(*parts: int) -> int:
    """Combine numbers to a seed of 32 bits."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
