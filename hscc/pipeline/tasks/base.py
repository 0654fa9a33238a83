"""What training, calibration, compression and fine-tuning ask of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import nn

from hscc.networks.storage import ModelCard
from hscc.outputs import Outputs
from hscc.pipeline.params import Params
from hscc.pipeline.score_names import score_label
from hscc.training.checkpoint import Row
from hscc.training.finetuning import Evaluate
from hscc.training.images import Split
from hscc.training.loop import Loss
from hscc.training.views import Epochs


class TrainingViews(Epochs, Protocol):
    """Batches by epoch, the last of which are like those that are evaluated."""

    @property
    def settled(self) -> int:
        """First epoch of such batches."""


class Task(ABC):
    """A task of one data spec.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``train`` and ``evaluate.score`` are used.

    Attributes
    ----------
    name : str
        As in ``data.task``.
    outputs : Outputs
        What counts of the networks' answers.
    served_as : str or None
        Column of a served answer before those of ``data.classes``: what was decided; None where there are values only.
    batch : int
        Images at a time where nothing else is asked for.
    keeps_answers : bool
        Whether the dense network's answers to all batches of a fine-tuning are small enough to be kept for all cells.
    score : str
        Name of the primary score; its column on validation is ``val_<score>``.
    """

    name: ClassVar[str]
    outputs: ClassVar[Outputs]
    served_as: ClassVar[str | None]
    batch: ClassVar[int]
    keeps_answers: ClassVar[bool]

    def __init__(self, params: Params) -> None:
        self.params = params
        self.score = params.evaluate.score

    @property
    def column(self) -> str:
        """Column of the primary score on validation."""
        return f"val_{self.score}"

    @property
    @abstractmethod
    def answer_shape(self) -> tuple[int, ...]:
        """Shape of a network's answer to one image."""

    @abstractmethod
    def splits(self, manifest: pd.DataFrame, card: ModelCard, protocol: str, workspace: Path) -> tuple[Split, Split]:
        """Read the training and the validation split, images and targets."""

    @abstractmethod
    def training(self, train: Split) -> TrainingViews:
        """Augmented inputs and targets for the baseline's training."""

    @abstractmethod
    def views(self, train: Split, batch_size: int, seed: int) -> Epochs:
        """Augmented inputs, of the size that is evaluated, for fine-tuning; their steps begin with the inputs."""

    @abstractmethod
    def loss(self, train: Split) -> Loss:
        """Loss of the baseline's training on a split: a function, or `functools.partial` of one."""

    def learner(self, model: nn.Module, train: Split) -> nn.Module:
        """Make of a new network what is trained in its place; by default the network itself."""
        return model

    def learnt(self, learner: nn.Module) -> nn.Module:
        """Return the network of a trained `learner`, with the same answers."""
        return learner

    @abstractmethod
    def scores(self, val: Split) -> Evaluate:
        """Validation columns of the baseline's training: val_loss, `column` and others."""

    @abstractmethod
    def agreement(self, dense: nn.Module, val: Split) -> Evaluate:
        """Validation columns of a compressed network: val_kl to the dense network, `column` and others."""

    @abstractmethod
    def sample(self, split: Split, count: int, seed: int) -> npt.NDArray[np.int64]:
        """Draw positions of a split that stand for the whole of it, at most `count`, ascending."""

    def short(self, row: Row) -> str:
        """Say in a few words what the validation columns say."""
        kl = f"val KL {row['val_kl']:.4f}  " if "val_kl" in row else ""
        return f"{kl}val {score_label(self.score)} {row[self.column]:.1%}"
