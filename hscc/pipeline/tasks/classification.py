"""Classification: one label per image."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import nn

from hscc.networks.storage import ModelCard
from hscc.outputs import Outputs
from hscc.pipeline.data.loading import balanced_sample, read_splits
from hscc.pipeline.tasks.whole_images import WholeImages
from hscc.training.agreement import agreement, split_logits
from hscc.training.finetuning import Evaluate
from hscc.training.images import Split
from hscc.training.loop import Loss
from hscc.training.supervised import balanced_weights, cross_entropy, score


class Classification(WholeImages):
    """Cross-entropy on labels; networks answer logits, shape (N, classes)."""

    name = "classification"
    outputs = Outputs("classes")
    served_as = "class"

    def splits(self, manifest: pd.DataFrame, card: ModelCard, protocol: str, workspace: Path) -> tuple[Split, Split]:
        """See `Task`; targets are class indices."""
        return read_splits(manifest, card, protocol, workspace)

    def loss(self, train: Split) -> Loss:
        """See `Task`; with the weights of ``train.class_weights``."""
        settings = self.params.train
        if settings.class_weights == "equal":
            return partial(cross_entropy, label_smoothing=settings.label_smoothing)
        weights = balanced_weights(train.labels, len(self.params.data.classes))
        return partial(cross_entropy, label_smoothing=settings.label_smoothing, class_weights=weights)

    def scores(self, val: Split) -> Evaluate:
        """See `Task`."""
        return partial(score, split=val, precision=self.params.train.precision, primary=self.score)

    def agreement(self, dense: nn.Module, val: Split) -> Evaluate:
        """See `Task`."""
        return partial(agreement, targets=split_logits(dense, val), split=val, primary=self.score)

    def sample(self, split: Split, count: int, seed: int) -> npt.NDArray[np.int64]:
        """See `Task`; balanced over the classes."""
        return balanced_sample(split.labels, count, seed)
