"""Several labels per image, each present or not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.networks.storage import ModelCard
from hscc.outputs import Outputs
from hscc.pipeline.data.loading import random_sample
from hscc.pipeline.data.targets import label_sets
from hscc.pipeline.tasks.targets import TargetTask
from hscc.training.images import Split
from hscc.training.targets import Criterion, Scores, label_columns, label_criterion


class Multilabel(TargetTask):
    """Binary cross-entropy; networks answer one logit per label, shape (N, labels), each of a sigmoid of its own.

    The divergence from the dense network is that of the labels' Bernoulli distributions, added.
    """

    name = "multilabel"
    outputs = Outputs("independent")
    served_as = "labels"

    @property
    def columns(self) -> Scores:
        """See `TargetTask`."""
        return label_columns

    def targets(self, manifest: pd.DataFrame, card: ModelCard) -> npt.NDArray[np.float32]:
        """See `TargetTask`; 1 or 0."""
        return label_sets(manifest["label"], card.classes)

    def criterion(self, train: Split) -> Criterion:
        """See `TargetTask`."""
        return label_criterion

    def sample(self, split: Split, count: int, seed: int) -> npt.NDArray[np.int64]:
        """See `Task`; drawn at random."""
        return random_sample(len(split), count, seed)
