"""Segmentation: one mask per image."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import nn

from hscc.networks.storage import ModelCard
from hscc.outputs import Outputs
from hscc.pipeline import layout
from hscc.pipeline.data.images import rows_of
from hscc.pipeline.data.loading import augmentation_of, random_sample, read_images
from hscc.pipeline.data.masks import load_masks
from hscc.pipeline.data_spec import MaskSpec
from hscc.pipeline.tasks.base import Task, TrainingViews
from hscc.training.finetuning import Evaluate
from hscc.training.images import Split
from hscc.training.loop import Loss
from hscc.training.maps import BATCH, MapSplit, Patches, as_map_split, map_agreement, map_answers, map_loss, score_maps
from hscc.training.views import Epochs


class Segmentation(Task):
    """Cross-entropy and Dice loss of pixels; networks answer logits, shape (N, classes, H, W).

    The baseline is trained on patches. It is calibrated, compressed and fine-tuned on whole images, for regions are
    parts of these.
    """

    name = "segmentation"
    outputs = Outputs("classes")
    served_as = "mask"
    batch = BATCH
    keeps_answers = False

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """See `Task`; one logit per class and pixel."""
        return (len(self.params.data.classes), *self.params.data.sides)

    def splits(self, manifest: pd.DataFrame, card: ModelCard, protocol: str, workspace: Path) -> tuple[Split, Split]:
        """See `Task`; targets are class indices of pixels."""
        train, val = (rows_of(manifest, protocol, split) for split in ("train", "val"))
        images = read_images(manifest, card, workspace)
        masks = load_masks(
            manifest,
            workspace / layout.DATA,
            self._masks,
            images.shape[1:3],
            card.classes,
            workspace / layout.IMAGE_CACHE,
        )
        return (
            MapSplit(images, train, np.zeros(len(train), dtype=np.int64), card.normalisation, masks=masks),
            MapSplit(images, val, np.zeros(len(val), dtype=np.int64), card.normalisation, masks=masks),
        )

    @property
    def _masks(self) -> MaskSpec:
        assert self.params.data.masks is not None  # of this task
        return self.params.data.masks

    def training(self, train: Split) -> TrainingViews:
        """See `Task`; patches of ``train.patch`` pixels per side."""
        settings = self.params.train
        augmentation = augmentation_of(self.params.data)
        return Patches(as_map_split(train), settings.batch_size, settings.seed, augmentation, settings.patch)

    def views(self, train: Split, batch_size: int, seed: int) -> Epochs:
        """See `Task`; whole images."""
        return Patches(as_map_split(train), batch_size, seed, augmentation_of(self.params.data))

    def loss(self, train: Split) -> Loss:
        """See `Task`."""
        return map_loss

    def scores(self, val: Split) -> Evaluate:
        """See `Task`; all scores of `hscc.training.map_scores`."""
        return partial(score_maps, split=as_map_split(val), precision=self.params.train.precision)

    def agreement(self, dense: nn.Module, val: Split) -> Evaluate:
        """See `Task`."""
        split = as_map_split(val)
        return partial(map_agreement, targets=map_answers(dense, split), split=split)

    def sample(self, split: Split, count: int, seed: int) -> npt.NDArray[np.int64]:
        """See `Task`; drawn at random."""
        return random_sample(len(split), count, seed)
