"""Names of scores for a reader.

Every score is a fraction of which more is better. It is shown in percent, and a difference of two in points
(hundredths), the area under a ROC curve included. Errors (ECE, Brier score, MAE, RMSE, distances of outlines) are shown
as they are, and networks are not judged by them.
"""

from __future__ import annotations

_LABELS = {
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "pixel_roc_auc": "pixel ROC AUC",
    "dice": "Dice",
    "iou": "IoU",
    "r2": "R²",
    "mae": "MAE",
    "rmse": "RMSE",
    "ece": "ECE",
    "brier": "Brier score",
    "surface_distance": "surface distance, pixels",
}


def score_label(name: str) -> str:
    """Name of a score in running text; an unknown one keeps its own, with spaces."""
    return _LABELS.get(name, name.replace("_", " "))


def score_title(name: str) -> str:
    """Name of a score at the start of a sentence or a heading."""
    label = score_label(name)
    return label[0].upper() + label[1:]


def better_in(name: str) -> str:
    """What a network with more of a score is, such as ``more accurate``."""
    return "more accurate" if name == "accuracy" else f"better in {score_label(name)}"
