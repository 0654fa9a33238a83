"""What evaluation, quantisation and registration ask of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.pipeline.artifacts import Network
from hscc.pipeline.data.images import rows_of
from hscc.pipeline.data.loading import read_images
from hscc.pipeline.params import Params
from hscc.pipeline.statistics.bootstrap import Draws, bootstrap_weights
from hscc.pipeline.statistics.comparisons import Evidence

A = TypeVar("A")


class Assessment(ABC, Generic[A]):
    """How networks of a task are tested, on the images of one workspace.

    ``A`` is what is kept of a network's answers to N images: all that scores need, image by image, so that images can
    be drawn again.

    Parameters
    ----------
    params : Params
        Sections ``data`` and ``evaluate`` are used.
    manifest : pandas.DataFrame
        See `hscc.pipeline.data.manifest.read_manifest`.
    workspace : Path
        Folder of ``dvc.yaml``.

    Attributes
    ----------
    name : str
        As in ``data.task``.
    metrics : tuple of str
        Scores of every network.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]

    def __init__(self, params: Params, manifest: pd.DataFrame, workspace: Path) -> None:
        self.params = params
        self.manifest = manifest
        self.workspace = workspace

    def rows(self, protocol: str, split: str) -> npt.NDArray[np.int64]:
        """Positions in the manifest of the images of a split."""
        return rows_of(self.manifest, protocol, split)

    def weights(self, rows: npt.NDArray[np.int64]) -> Draws:
        """Bootstrap weights of some images, those of one group together, shape (1 + B, N)."""
        settings = self.params.evaluate
        groups = self.manifest.iloc[rows]["group"].to_numpy(np.int64)
        return bootstrap_weights(groups, settings.resamples, settings.seed)

    @cached_property
    def _images(self) -> npt.NDArray[np.uint8]:
        return read_images(self.manifest, self.params.data, self.workspace)

    @abstractmethod
    def answers(self, model: Path, dense: Path, rows: npt.NDArray[np.int64]) -> A:
        """Run an ONNX file on some images, and its dense network's where the answers are compared at once."""

    @abstractmethod
    def evidence(self, answers: A, dense: A, rows: npt.NDArray[np.int64], weights: Draws) -> Evidence:
        """Score answers, and resample the scores."""

    @abstractmethod
    def sample(self, rows: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.int64]:
        """Draw positions of `rows` that stand for all of them, at most `count`, ascending."""

    @abstractmethod
    def confusion(self, dense: A, chosen: A, rows: npt.NDArray[np.int64], name: str) -> pd.DataFrame:
        """Tabulate what DVC's confusion plot shows, see `hscc.pipeline.statistics.results.confusion_frame`."""

    @abstractmethod
    def predictions(self, answers: Mapping[Network, A]) -> pd.DataFrame:
        """Tabulate what is kept of each test image, one row per image and network."""

    def validate(self, answers: A, dense: A, rows: npt.NDArray[np.int64]) -> dict[str, float]:
        """Primary score and divergence from the dense network, as columns of a network's figures on validation."""
        found = self.evidence(answers, dense, rows, np.ones((1, len(rows))))
        names = (self.params.evaluate.score, "kl")
        return {f"val_{name}": found.scores[name].value for name in names}


AnyAssessment = Assessment[Any]
