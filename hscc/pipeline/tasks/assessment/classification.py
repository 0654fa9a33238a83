"""Classification: the logits of each image are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.pipeline.artifacts import Network
from hscc.pipeline.data.images import labels_of
from hscc.pipeline.data.loading import balanced_sample, normalisation_of
from hscc.pipeline.statistics.bootstrap import Draws
from hscc.pipeline.statistics.comparisons import Evidence, gather
from hscc.pipeline.statistics.metrics import SCORES
from hscc.pipeline.statistics.predictions import Logits, predict, predictions_frame
from hscc.pipeline.statistics.results import confusion_frame
from hscc.pipeline.tasks.assessment.base import Assessment

Ints = npt.NDArray[np.int64]


class ClassificationAssessment(Assessment[Logits]):
    """Answers are logits, shape (N, classes)."""

    name = "classification"
    metrics = SCORES

    @cached_property
    def _labels(self) -> Ints:
        return labels_of(self.manifest, self.params.data.classes)

    def answers(self, model: Path, dense: Path, rows: Ints) -> Logits:
        """See `Assessment`."""
        return predict(model, os.cpu_count() or 1, self._images, rows, normalisation_of(self.params.data))

    def evidence(self, answers: Logits, dense: Logits, rows: Ints, weights: Draws) -> Evidence:
        """See `Assessment`; with the metrics of ``evaluate.metrics``."""
        settings, classes = self.params.evaluate, self.params.data.classes
        metrics = (*self.metrics, *settings.metrics)
        groups = self.manifest["group"].to_numpy(np.int64)[rows]
        return gather(self._labels[rows], answers, dense, weights, classes, metrics, settings.score, groups)

    def sample(self, rows: Ints, count: int, seed: int) -> Ints:
        """See `Assessment`; balanced over the classes."""
        return balanced_sample(self._labels[rows], count, seed)

    def confusion(self, dense: Logits, chosen: Logits, rows: Ints, name: str) -> pd.DataFrame:
        """See `Assessment`."""
        predicted = [found.argmax(axis=1) for found in (dense, chosen)]
        return confusion_frame(self._labels[rows], predicted[0], predicted[1], name, self.params.data.classes)

    def predictions(self, answers: Mapping[Network, Logits]) -> pd.DataFrame:
        """See `Assessment`; logits by class."""
        protocols = {network.protocol for network in answers}
        frames = {protocol: self.manifest.iloc[self.rows(protocol, "test")] for protocol in protocols}
        return predictions_frame(frames, answers, self.params.data.classes)
