"""One or several values per image."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from hscc.errors import CompressionError, DataError, ParamsError
from hscc.networks.affine import Scaled, fold_scale
from hscc.networks.storage import ModelCard
from hscc.outputs import Outputs
from hscc.pipeline.data.loading import random_sample
from hscc.pipeline.data.targets import values_of
from hscc.pipeline.tasks.targets import TargetTask
from hscc.training.images import Split
from hscc.training.targets import Criterion, Scores, as_target_split, value_columns, value_criterion


class Regression(TargetTask):
    """Mean squared error in units of the training split's standard deviations; networks answer in the values' units.

    A new network learns values of mean 0 and deviation 1; afterwards mean and deviation are folded into its last linear
    layer, so that every runtime answers in the units of the table. A network whose weights are given answers in them
    already. The divergence from the dense network is half the squared difference in units of the deviation of its
    answers.
    """

    name = "regression"
    outputs = Outputs("values")
    served_as = None

    @property
    def columns(self) -> Scores:
        """See `TargetTask`."""
        return value_columns

    def targets(self, manifest: pd.DataFrame, card: ModelCard) -> npt.NDArray[np.float32]:
        """See `TargetTask`."""
        return values_of(manifest["label"], len(card.classes))

    def criterion(self, train: Split) -> Criterion:
        """See `TargetTask`."""
        return partial(value_criterion, deviations=tuple(float(each) for each in self._moments(train)[1]))

    def learner(self, model: nn.Module, train: Split) -> nn.Module:
        """See `Task`; the network with mean and deviation behind it."""
        mean, deviation = self._moments(train)
        if self.params.train.given_weights is not None:
            model = self._folded(model, 1 / deviation, -mean / deviation)
        self._folded(model, deviation, mean)  # what cannot be folded is refused before it is trained
        return Scaled(model, deviation.tolist(), mean.tolist())

    def learnt(self, learner: nn.Module) -> nn.Module:
        """See `Task`; mean and deviation in the last layer."""
        assert isinstance(learner, Scaled)
        return self._folded(learner.network, learner.scale.numpy(), learner.shift.numpy())

    def sample(self, split: Split, count: int, seed: int) -> npt.NDArray[np.int64]:
        """See `Task`; drawn at random."""
        return random_sample(len(split), count, seed)

    def _folded(
        self, model: nn.Module, scale: npt.NDArray[np.floating], shift: npt.NDArray[np.floating]
    ) -> nn.Module:  # fmt: skip
        inputs = torch.rand(2, *self.params.data.input_shape, generator=torch.Generator().manual_seed(0))
        try:
            return fold_scale(model, scale.tolist(), shift.tolist(), inputs)
        except CompressionError as error:
            raise ParamsError(f"train.backbone {self.params.train.backbone!r}: {error}") from error

    def _moments(self, split: Split) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean and standard deviation of each value, shape (K,)."""
        values = as_target_split(split).targets.astype(np.float64)
        mean, deviation = values.mean(axis=0), values.std(axis=0)
        for name, spread in zip(self.params.data.classes, deviation, strict=True):
            if not spread > 0:
                raise DataError(
                    f"{name} is the same for all images of a split, so there is nothing to learn; remove it."
                )
        return mean, deviation
