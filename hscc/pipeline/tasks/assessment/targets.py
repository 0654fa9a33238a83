"""Tasks whose networks answer several numbers per image: the numbers of each image are kept, and the true ones."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from hscc.outputs import Outputs
from hscc.pipeline.artifacts import Network
from hscc.pipeline.data.loading import normalisation_of, random_sample
from hscc.pipeline.data.targets import label_sets, values_of
from hscc.pipeline.statistics.bootstrap import Draws, Resampled, resampled_mean
from hscc.pipeline.statistics.comparisons import Evidence
from hscc.pipeline.statistics.predictions import LABEL_LOGIT, VALUE, Logits, predict, target_frame
from hscc.pipeline.tasks.assessment.base import Assessment
from hscc.training.target_scores import (
    LABEL_SCORES,
    VALUE_SCORES,
    PerOutput,
    label_scores,
    over_outputs,
    value_scores,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class TargetAssessment(Assessment[Logits]):
    """Answers are numbers, shape (N, K).

    Attributes
    ----------
    outputs : Outputs
        What they are.
    means : mapping of str to str
        Scores of a network: their name, and of which score of the outputs they are the mean.
    column : str
        Before the name of an output, in the table of predictions.
    """

    outputs: ClassVar[Outputs]
    means: ClassVar[Mapping[str, str]]
    column: ClassVar[str]

    @cached_property
    @abstractmethod
    def truth(self) -> Floats:
        """True numbers of all images, shape (M, K)."""

    @abstractmethod
    def of_outputs(self, answers: Logits, truth: Floats, weights: Draws) -> PerOutput:
        """Score each output, see `hscc.training.target_scores`."""

    @abstractmethod
    def alike(self, answers: Logits, dense: Logits, weights: Draws) -> Draws:
        """How much of the answers is as the dense network's, in every resample: 1 for all."""

    def answers(self, model: Path, dense: Path, rows: Ints) -> Logits:
        """See `Assessment`."""
        return predict(model, os.cpu_count() or 1, self._images, rows, normalisation_of(self.params.data))

    def evidence(self, answers: Logits, dense: Logits, rows: Ints, weights: Draws) -> Evidence:
        """See `Assessment`."""
        figures = self.of_outputs(answers, self.truth[rows], weights)
        scores = {name: Resampled.of(over_outputs(figures[own])) for name, own in self.means.items()}
        found, reference = (torch.from_numpy(each).double() for each in (answers, dense))
        scores["kl"] = Resampled.mean(self.outputs.divergence(found, reference).clamp(min=0).numpy(), weights)
        scores["agreement"] = Resampled.of(self.alike(answers, dense, weights))
        by_class = {
            score: {name: Resampled.of(of_all[:, place]) for place, name in enumerate(self.params.data.classes)}
            for score, of_all in figures.items()
        }
        return Evidence(scores, by_class, None, len(rows), self.params.evaluate.score)

    def sample(self, rows: Ints, count: int, seed: int) -> Ints:
        """See `Assessment`; drawn at random."""
        return random_sample(len(rows), count, seed)

    def confusion(self, dense: Logits, chosen: Logits, rows: Ints, name: str) -> pd.DataFrame:
        """See `Assessment`; without rows: an image is of no one class."""
        return pd.DataFrame(columns=["actual", "predicted", "dense", "network"])

    def predictions(self, answers: Mapping[Network, Logits]) -> pd.DataFrame:
        """See `Assessment`; what each output is and should be."""
        protocols = {network.protocol for network in answers}
        rows = {protocol: self.rows(protocol, "test") for protocol in protocols}
        frames = {protocol: self.manifest.iloc[rows[protocol]] for protocol in protocols}
        truth = {protocol: self.truth[rows[protocol]] for protocol in protocols}
        return target_frame(frames, truth, answers, self.params.data.classes, self.column)

    def validate(self, answers: Logits, dense: Logits, rows: Ints) -> dict[str, float]:
        """See `Assessment`; 0 where a score is undefined, as in training."""
        return {name: float(np.nan_to_num(value)) for name, value in super().validate(answers, dense, rows).items()}


class MultilabelAssessment(TargetAssessment):
    """Answers are logits; agreement is the share of labels that are decided alike."""

    name = "multilabel"
    metrics = tuple(LABEL_SCORES)
    outputs = Outputs("independent")
    means = LABEL_SCORES
    column = LABEL_LOGIT

    @cached_property
    def truth(self) -> Floats:
        """See `TargetAssessment`; 1 or 0."""
        return label_sets(self.manifest["label"], self.params.data.classes)

    def of_outputs(self, answers: Logits, truth: Floats, weights: Draws) -> PerOutput:
        """See `TargetAssessment`."""
        return label_scores(answers, truth, weights)

    def alike(self, answers: Logits, dense: Logits, weights: Draws) -> Draws:
        """See `TargetAssessment`."""
        return resampled_mean(((answers > 0) == (dense > 0)).mean(axis=1), weights)


class RegressionAssessment(TargetAssessment):
    """Answers are values; agreement is the share of the variance of the dense network's answers that they explain."""

    name = "regression"
    metrics = tuple(VALUE_SCORES)
    outputs = Outputs("values")
    means = VALUE_SCORES
    column = VALUE

    @cached_property
    def truth(self) -> Floats:
        """See `TargetAssessment`; in the unit of the table."""
        return values_of(self.manifest["label"], len(self.params.data.classes))

    def of_outputs(self, answers: Logits, truth: Floats, weights: Draws) -> PerOutput:
        """See `TargetAssessment`."""
        return value_scores(answers, truth, weights)

    def alike(self, answers: Logits, dense: Logits, weights: Draws) -> Draws:
        """See `TargetAssessment`."""
        return over_outputs(value_scores(answers, dense, weights)["r2"])
