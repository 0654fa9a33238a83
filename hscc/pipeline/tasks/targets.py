"""What tasks have in common whose networks answer several numbers per image."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import nn

from hscc.networks.storage import ModelCard
from hscc.pipeline.data.images import rows_of
from hscc.pipeline.data.loading import read_images
from hscc.pipeline.tasks.whole_images import WholeImages
from hscc.training.agreement import split_logits
from hscc.training.finetuning import Evaluate
from hscc.training.images import Split
from hscc.training.loop import Loss
from hscc.training.targets import (
    Criterion,
    Scores,
    TargetSplit,
    as_target_split,
    score_targets,
    target_agreement,
    target_loss,
)


class TargetTask(WholeImages):
    """Networks answer one number for each of ``data.classes``, shape (N, K)."""

    @abstractmethod
    def targets(self, manifest: pd.DataFrame, card: ModelCard) -> npt.NDArray[np.float32]:
        """Read the targets of all images, shape (M, K)."""

    @property
    @abstractmethod
    def columns(self) -> Scores:
        """Validation columns of answers and targets: a function."""

    @abstractmethod
    def criterion(self, train: Split) -> Criterion:
        """Loss of answers, in units that the training split gives."""

    def splits(self, manifest: pd.DataFrame, card: ModelCard, protocol: str, workspace: Path) -> tuple[Split, Split]:
        """See `Task`; the labels of the splits are all 0."""
        images, targets = read_images(manifest, card, workspace), self.targets(manifest, card)
        train, val = (
            TargetSplit(images, rows, np.zeros(len(rows), np.int64), card.normalisation, targets=targets[rows])
            for rows in (rows_of(manifest, protocol, split) for split in ("train", "val"))
        )
        return train, val

    def loss(self, train: Split) -> Loss:
        """See `Task`."""
        return partial(target_loss, criterion=self.criterion(train))

    def scores(self, val: Split) -> Evaluate:
        """See `Task`; all scores."""
        return partial(
            score_targets,
            split=as_target_split(val),
            criterion=self.criterion(val),
            scores=self.columns,
            precision=self.params.train.precision,
        )

    def agreement(self, dense: nn.Module, val: Split) -> Evaluate:
        """See `Task`."""
        answers = split_logits(dense, val)
        return partial(
            target_agreement,
            answers=answers,
            split=as_target_split(val),
            outputs=self.outputs,
            scores=self.columns,
        )
