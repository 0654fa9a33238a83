"""Training of a classifier: cross-entropy on labels, kept by a score on validation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from hscc.training.answers import answered
from hscc.training.checkpoint import Row
from hscc.training.images import Split, batches
from hscc.training.scores import SCORES
from hscc.training.views import Step


def cross_entropy(
    model: nn.Module, step: Step, *, label_smoothing: float, class_weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, Row]:
    """Cross-entropy with label smoothing (Szegedy et al., 2016) as the loop's loss, and the accuracy.

    Images count by the weight of their class, shape (classes,), where there are weights.
    """
    inputs, labels = step
    logits = model(inputs)
    accuracy = float((logits.argmax(1) == labels).float().mean())
    weights = None if class_weights is None else class_weights.to(logits.device)
    loss = F.cross_entropy(logits.float(), labels, weights, label_smoothing=label_smoothing)
    return loss, {"train_accuracy": accuracy}


def balanced_weights(labels: npt.NDArray[np.int64], classes: int) -> torch.Tensor:
    """Weights, shape (classes,), by which all classes together count alike: N / (classes times a class's images).

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        Class index of each image; a class without any gets the weight of a single image.
    classes : int
        Number of classes.
    """
    counts = np.bincount(labels, minlength=classes).clip(min=1)
    return torch.from_numpy((len(labels) / (classes * counts)).astype(np.float32))


@torch.no_grad()
def score(model: nn.Module, split: Split, precision: str = "fp32", primary: str = "accuracy") -> Row:
    """Mean cross-entropy and scores of a classifier on a split.

    Parameters
    ----------
    model : nn.Module
        The classifier; evaluated where it is.
    split : Split
        The images.
    precision : str
        "bf16", or float32 for any other.
    primary : str
        A score of `hscc.training.scores` beside accuracy.

    Returns
    -------
    dict
        val_loss (nats), val_accuracy and ``val_<primary>`` (0 to 1).
    """
    logits, labels = map(torch.cat, zip(*answered(model, batches(split), precision), strict=True))
    return {"val_loss": float(F.cross_entropy(logits, labels)), **scores_of(logits, labels, primary)}


def scores_of(logits: torch.Tensor, labels: torch.Tensor, primary: str = "accuracy") -> Row:
    """Accuracy and another score, as columns ``val_accuracy`` and ``val_<primary>``."""
    return {f"val_{name}": SCORES[name](logits, labels) for name in ("accuracy", primary)}
