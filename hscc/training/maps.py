"""Training of a network that gives every pixel a class: images with masks, patches of them, loss and validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from hscc.training.answers import answered
from hscc.training.augmentation import Augmentation, augment
from hscc.training.checkpoint import Row
from hscc.training.images import Split, to_input
from hscc.training.map_scores import MAP_SCORES, MapCounts, count_maps
from hscc.training.views import Step, mixed_seed

BATCH = 4  # images at a time where nothing else is asked for: a map takes more memory than a label


@dataclass(frozen=True)
class MapSplit(Split):
    """Images and masks of one split.

    Attributes
    ----------
    masks : ndarray of uint8, shape (M, H, W)
        0 where a pixel does not count, else its class index plus 1 (a memory map), of the images' size.
    """

    masks: npt.NDArray[np.uint8] = field(kw_only=True)

    def codes(self, index: npt.NDArray[np.int64]) -> torch.Tensor:
        """Masks of the images at positions `index` of the split, as they are in `masks`, (n, H, W)."""
        return torch.from_numpy(np.ascontiguousarray(self.masks[self.rows[index]]))


def classes_of(codes: torch.Tensor) -> torch.Tensor:
    """Class index of each pixel, int64, -1 where it does not count, from codes of any type."""
    return codes.long() - 1


@dataclass(frozen=True)
class Patches:
    """Random patches of augmented images with their masks; an epoch has about as many pixels as the images.

    The images of an epoch come in groups of `batch_size`; each image is augmented once, and its patches are mixed with
    those of its group.

    Attributes
    ----------
    split : MapSplit
        What to learn from.
    batch_size : int
        Patches per batch.
    seed : int
        Of order, augmentation and places.
    augmentation : Augmentation
        How far.
    side : int or None
        Pixels per side of a patch; None for whole images.
    """

    split: MapSplit
    batch_size: int
    seed: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    side: int | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of a patch."""
        height, width = self.split.masks.shape[1:3]
        return (height, width) if self.side is None else (min(self.side, height), min(self.side, width))

    @property
    def per_image(self) -> int:
        """Patches of an image."""
        height, width = self.split.masks.shape[1:3]
        return max(1, round(int(height) * int(width) / (self.sides[0] * self.sides[1])))

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        groups, images = self._groups()
        return groups * self._batches(images)

    @property
    def settled(self) -> int:
        """First epoch of full size: the first one."""
        return 0

    def _groups(self) -> tuple[int, int]:
        """Groups of images and images of a group; those left over are for another epoch."""
        images = min(self.batch_size, len(self.split))
        return len(self.split) // images, images

    def _batches(self, images: int) -> int:
        return max(1, images * self.per_image // self.batch_size)

    def __call__(self, epoch: int) -> Iterator[Step]:
        """Yield network inputs (n, channels, h, w) and class indices (n, h, w), -1 where a pixel does not count."""
        draw = torch.Generator().manual_seed(mixed_seed(self.seed, epoch, 2))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.split))
        groups, size = self._groups()
        for group in range(groups):
            index = order[group * size : (group + 1) * size]
            images, codes = moved_alike(self.split, index, draw, self.augmentation)
            inputs, targets = to_input(images, self.split.normalisation), classes_of(codes)
            corners = [
                (image, *(int(torch.randint(most - side + 1, (1,), generator=draw)) for most, side in self._rooms()))
                for image in range(size)
                for _ in range(self.per_image)
            ]
            mixed = [corners[place] for place in torch.randperm(len(corners), generator=draw).tolist()]
            for start in range(self._batches(size)):
                chosen = mixed[start * self.batch_size : (start + 1) * self.batch_size]
                yield self._cut(inputs, chosen), self._cut(targets, chosen)

    def _rooms(self) -> list[tuple[int, int]]:
        return list(zip(self.split.masks.shape[1:3], self.sides, strict=True))

    def _cut(self, maps: torch.Tensor, corners: list[tuple[int, ...]]) -> torch.Tensor:
        height, width = self.sides
        return torch.stack([maps[image, ..., top : top + height, left : left + width] for image, top, left in corners])


def moved_alike(
    split: MapSplit, index: npt.NDArray[np.int64], draw: torch.Generator, augmentation: Augmentation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment images and their masks by the same motions; pixels that move in from outside do not count.

    Returns
    -------
    images : Tensor of float32, shape (n, H, W) or (n, H, W, 3)
        Levels 0 to 255.
    codes : Tensor of float32, shape (n, H, W)
        See `MapSplit`.
    """
    state = draw.get_state()
    images = augment(split.batch(index)[0], draw, augmentation)
    draw.set_state(state)
    outside = replace(augmentation, outside="black")
    return images, augment(split.codes(index), draw, outside, mode="nearest")


def map_loss(model: nn.Module, step: Step) -> tuple[torch.Tensor, Row]:
    """Cross-entropy of the pixels plus the soft Dice loss of the classes but the first, as the loop's loss.

    Milletari et al., "V-Net", 2016, for the Dice loss, here over all pixels of a batch.
    """
    inputs, targets = step
    logits = model(inputs).float()
    return _cross_entropy(logits, targets) + _dice_loss(logits, targets), {}


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels that count; zero where none does, such as in patches outside the field of view."""
    total = F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)


def _dice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    counted = (targets >= 0)[:, None]
    shares = logits.softmax(1)[:, 1:] * counted
    truth = F.one_hot(targets.clamp(min=0), logits.shape[1]).movedim(-1, 1)[:, 1:] * counted
    across = (0, *range(2, shares.ndim))
    both, all_ = (shares * truth).sum(across), (shares + truth).sum(across)
    return 1 - ((2 * both + 1) / (all_ + 1)).mean()


def map_batches(split: MapSplit, size: int = BATCH) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield network inputs (n, channels, H, W) and class indices (n, H, W) of a split, in order."""
    for start in range(0, len(split), size):
        index = np.arange(start, min(start + size, len(split)))
        yield to_input(split.batch(index)[0], split.normalisation), classes_of(split.codes(index))


@torch.no_grad()
def score_maps(model: nn.Module, split: MapSplit, precision: str = "fp32") -> Row:
    """Mean loss and scores of a segmentation on a split.

    Returns
    -------
    dict
        val_loss (of `map_loss`, mean over the batches) and ``val_<score>`` for each of `MAP_SCORES`.
    """
    losses, parts = [], []
    for logits, targets in answered(model, map_batches(split), precision):
        losses.append(float(_cross_entropy(logits, targets) + _dice_loss(logits, targets)))
        parts.append(count_maps(logits, targets))
    return {"val_loss": sum(losses) / len(losses), **_scores(parts)}


def map_answers(network: nn.Module, split: MapSplit) -> list[torch.Tensor]:
    """Logits of a network on a whole split, by batch, on the CPU, in half the bytes."""
    return [logits.half() for logits, _ in answered(network, map_batches(split))]


@torch.no_grad()
def map_agreement(student: nn.Module, targets: list[torch.Tensor], split: MapSplit) -> Row:
    """Divergence of a segmentation to the baseline, and its scores, on a split.

    Parameters
    ----------
    student : nn.Module
        Any network.
    targets : list of Tensor
        The baseline's logits, from `map_answers`.
    split : MapSplit
        The same images.

    Returns
    -------
    dict
        val_kl (nats per pixel that counts, baseline to student) and ``val_<score>`` for each of `MAP_SCORES`.
    """
    divergences, parts = [], []
    for (logits, truth), reference in zip(answered(student, map_batches(split)), targets, strict=True):
        divergences.append(map_divergence(logits, reference.float(), truth))
        parts.append(count_maps(logits, truth))
    return {"val_kl": float(torch.cat(divergences).mean()), **_scores(parts)}


def map_divergence(logits: torch.Tensor, reference: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence from the reference of each image, mean over its pixels that count, in nats, (N,)."""
    target = reference.log_softmax(1)
    each = (target.exp() * (target - logits.log_softmax(1))).sum(1)
    counted = truth >= 0
    return (each * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)


def _scores(parts: list[MapCounts]) -> Row:
    counts = MapCounts.join(parts)
    once = np.ones((1, len(counts.confusion)))
    return {f"val_{name}": float(score(counts, once)[0]) for name, score in MAP_SCORES.items()}


def as_map_split(split: Split) -> MapSplit:
    """A split of this task, for the type checker."""
    return cast(MapSplit, split)
