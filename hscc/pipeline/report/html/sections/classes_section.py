"""F1 of each class, a bar a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from hscc.pipeline.artifacts import DENSE
from hscc.pipeline.names import class_label, network_label
from hscc.pipeline.report.html.sections.section import Column, Line, Section, Table, with_error
from hscc.pipeline.report.html.seed_means import fold
from hscc.pipeline.report.html.series import Mark, marks, role
from hscc.pipeline.report.html.svg import INK, PAPER, STYLE, Drawing, LegendEntry, series_colour, to_svg
from hscc.pipeline.statistics.predictions import predictions_of
from hscc.pipeline.statistics.results import Row, dense_row, float_rows, row_name
from hscc.pipeline.statistics.rows import CONTROL


def f1_drawing(rows: Sequence[Row], classes: Sequence[str], title: str) -> Drawing:
    """Draw F1 and its standard error, a block a class and a bar a network.

    Parameters
    ----------
    rows : sequence of dict
        The networks to show, in order.
    classes : sequence of str
        The class names.
    title : str
        Caption.

    Returns
    -------
    Drawing
        Bars start at 0; errors are one bootstrap standard error.
    """
    known = marks(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 0.6 + 0.15 * (len(rows) + 1) * len(classes)), layout="constrained")
        axes = figure.subplots()
        height = 1 / (len(rows) + 1)
        for place, row in enumerate(rows):
            axes.barh(
                np.arange(len(classes)) + (place - (len(rows) - 1) / 2) * height,
                [row[f"f1_{name}"] for name in classes],
                xerr=[row.get(f"f1_{name}_se") or 0.0 for name in classes],
                height=0.82 * height,
                **_bar(known[row["method"]]),
                error_kw={"ecolor": INK, "elinewidth": 0.9},
            )
        axes.set_yticks(np.arange(len(classes)), [class_label(name) for name in classes])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("F1")
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
    names = ", ".join(network_label(row) for row in rows)
    svg = to_svg(figure, "f1", f"F1 of each class with standard errors: {names}")
    return Drawing("f1", title, svg, tuple(_entry(row, known[row["method"]]) for row in rows))


def _entry(row: Row, mark: Mark) -> LegendEntry:
    return LegendEntry(network_label(row), mark.series, "■" if mark.fill == "full" else "□")


def _bar(mark: Mark) -> dict[str, Any]:
    colour = series_colour(mark.series)
    return {"facecolor": colour if mark.fill == "full" else PAPER, "edgecolor": colour, "linewidth": 1.0}


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
        Of `hscc.pipeline.statistics.predictions.read_predictions`.

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
