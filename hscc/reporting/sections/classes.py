"""Class by class: F1 of the methods side by side, scores and confusion of the dense and the recommended network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from hscc.evaluation.kept_logits import predictions_of
from hscc.evaluation.names import class_label, network_label
from hscc.evaluation.networks import DENSE
from hscc.evaluation.results import Row, dense_row, float_rows, row_name
from hscc.evaluation.rows import CONTROL
from hscc.reporting.figures.classes import f1_drawing
from hscc.reporting.folding import fold
from hscc.reporting.sections.section import Section
from hscc.reporting.series import role
from hscc.reporting.tables import Column, Line, Table, with_error

_SCORES = ("precision", "recall", "f1")
_LABELS = {"precision": "precision", "recall": "recall", "f1": "F1"}


def classes_section(document: Mapping[str, Any], chosen: Row, predictions: pd.DataFrame) -> Section:
    """Lay out the scores of each class.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.
    chosen : dict
        The recommended network.
    predictions : pandas.DataFrame
        Of `hscc.evaluation.kept_logits.read_predictions`.

    Returns
    -------
    Section
        A figure of F1, a table of the three scores, two confusion matrices.
    """
    rows, classes = document["rows"], document["classes"]
    dense = dense_row(rows, document["protocol"])
    own = [row for row in float_rows(rows) if row["protocol"] == document["protocol"]]
    beside = [
        row
        for row in fold(own, document.get("seeds") or ())
        if row["method"] == DENSE or (row["budget"] == chosen["budget"] and role(row) != CONTROL)
    ]
    drawing = f1_drawing(beside, classes, f"F1 of each class, dense and at {chosen['budget']:g}×")
    content = {
        "drawing": drawing,
        "table": _table([dense, chosen], classes),
        "matrices": [_matrix(row, predictions, classes) for row in (dense, chosen)],
        "classes": [class_label(name) for name in classes],
    }
    return Section("classes", "Class by class", content, (drawing,))


def _table(networks: list[Row], classes: list[str]) -> Table:
    columns = tuple(Column(f"{_LABELS[score]}, {network_label(row)}") for score in _SCORES for row in networks)
    lines = tuple(
        Line(
            class_label(name),
            tuple(with_error(row, f"{score}_{name}", 2) for score in _SCORES for row in networks),
        )
        for name in classes
    )
    return Table("Precision, recall and F1 of each class, ± one standard error", "class", columns, lines)


def _matrix(row: Row, predictions: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    found = predictions_of(predictions, row_name(row))
    counts = confusion_matrix(found["label"], found["predicted"], labels=classes)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return {
        "title": network_label(row),
        "rows": [
            {"label": class_label(name), "cells": list(zip(line.tolist(), shares.tolist(), strict=True))}
            for name, line, shares in zip(classes, counts, counts / totals, strict=True)
        ],
    }
