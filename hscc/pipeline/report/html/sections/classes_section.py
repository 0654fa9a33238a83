"""Scores of each class: one bar per network, and two confusion matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from hscc.pipeline.data_spec import Texts
from hscc.pipeline.names import budget_label, network_label
from hscc.pipeline.report.html.section import Section
from hscc.pipeline.report.html.series import Mark, key_of, marks
from hscc.pipeline.report.html.svg import INK, PAPER, STYLE, Drawing, LegendEntry, series_colour, to_svg
from hscc.pipeline.report.table import Column, Line, Table, with_error
from hscc.pipeline.report.tables.seed_means import mean_over_seeds
from hscc.pipeline.score_names import score_label
from hscc.pipeline.statistics.predictions import (
    TRUTH,
    VALUE,
    Form,
    form_of,
    network_rows,
    numbers_of,
    pixel_confusion,
    predictions_of,
)
from hscc.pipeline.statistics.schema import ClassScores, Estimate, NetworkRow, Results

_WORDS: dict[Form, str] = {"classes": "class", "maps": "class", "labels": "label", "values": "value"}
_SCORES: tuple[tuple[str, Callable[[ClassScores], Estimate]], ...] = (
    ("precision", lambda found: found.precision),
    ("recall", lambda found: found.recall),
    ("F1", lambda found: found.f1),
)


def classes_section(results: Results, predictions: pd.DataFrame, texts: Texts) -> Section:
    """Lay out F1 of the methods at the chosen network's budget, and all scores of the dense and the chosen network.

    Of labels and values what there is of it.
    """
    form = form_of(predictions)
    dense, chosen = results.dense(), results.chosen()
    beside = [row for row in results.compressed() if row.budget == chosen.budget and row.role != "control"]
    rows = [mean.row for mean in mean_over_seeds([dense, *beside], results.seeds)]
    title = f"F1 of each {_WORDS[form]}, dense and at {budget_label(chosen.budget.ratios)}"
    names = [texts.name(label) for label in results.classes]
    if form == "values":
        drawing = values_drawing((dense, chosen), predictions, results.classes, names)
    else:
        drawing = f1_drawing(rows, names, title)
    confused = (dense, chosen) if form in ("classes", "maps") else ()
    content = {
        "drawing": drawing,
        "table": _table([dense, chosen], names, _WORDS[form]),
        "matrices": [_matrix(row, predictions, results.classes, names) for row in confused],
        "classes": names,
    }
    word = _WORDS[form].capitalize()
    return Section("classes", f"{word} by {_WORDS[form]}", content, (drawing,))


def f1_drawing(rows: Sequence[NetworkRow], classes: Sequence[str], title: str) -> Drawing:
    """Draw F1 and its standard error, one block per class and one bar per network; bars start at 0."""
    known = marks(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 0.6 + 0.15 * (len(rows) + 1) * len(classes)), layout="constrained")
        axes = figure.subplots()
        height = 1 / (len(rows) + 1)
        for place, row in enumerate(rows):
            axes.barh(
                np.arange(len(classes)) + (place - (len(rows) - 1) / 2) * height,
                [found.f1.value or 0.0 for found in row.classes],
                xerr=[found.f1.se or 0.0 for found in row.classes],
                height=0.82 * height,
                **_bar(known[key_of(row)]),
                error_kw={"ecolor": INK, "elinewidth": 0.9},
            )
        axes.set_yticks(np.arange(len(classes)), classes)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("F1")
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
    names = ", ".join(network_label(row) for row in rows)
    svg = to_svg(figure, "f1", f"F1 of each class with standard errors: {names}")
    return Drawing("f1", title, svg, tuple(_entry(row, known[key_of(row)]) for row in rows))


def values_drawing(
    rows: Sequence[NetworkRow], predictions: pd.DataFrame, values: Sequence[str], names: Sequence[str]
) -> Drawing:
    """Draw each network's values against the true ones, one panel per value; the diagonal is what is right."""
    colours = [series_colour(known.series) for known in marks(rows).values()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 3.4 * len(values)), layout="constrained")
        for axes, value, name in zip(figure.subplots(len(values), squeeze=False)[:, 0], values, names, strict=True):
            for row, colour in zip(rows, colours, strict=True):
                found = network_rows(predictions, row.name)
                true, given = (numbers_of(found, prefix, [value])[:, 0] for prefix in (TRUTH, VALUE))
                axes.plot(true, given, linestyle="", marker=".", markersize=4, alpha=0.6, color=colour)
                axes.plot([true.min(), true.max()], [true.min(), true.max()], color=INK, linewidth=0.8)
            axes.set_xlabel(f"{name}, true")
            axes.set_ylabel("by the network")
    said = f"Values of {' and '.join(network_label(row) for row in rows)} against the true ones"
    legend = tuple(_entry(row, mark) for row, mark in zip(rows, marks(rows).values(), strict=True))
    return Drawing("values", "Values against the true ones", to_svg(figure, "values", said), legend)


def _entry(row: NetworkRow, mark: Mark) -> LegendEntry:
    return LegendEntry(network_label(row), mark.series, "■" if mark.fill == "full" else "□")


def _bar(mark: Mark) -> dict[str, Any]:
    colour = series_colour(mark.series)
    return {"facecolor": colour if mark.fill == "full" else PAPER, "edgecolor": colour, "linewidth": 1.0}


def _table(networks: Sequence[NetworkRow], classes: Sequence[str], word: str) -> Table:
    others = networks[0].classes[0].scores
    scores = [] if word == "value" else list(_SCORES)
    scores += [(score_label(name), partial(_other, name)) for name in others if name != "label_accuracy"]
    columns = tuple(Column(f"{label}, {network_label(row)}") for label, _ in scores for row in networks)
    lines = tuple(
        Line(
            name,
            tuple(with_error(score(row.classes[place]), 2) for _, score in scores for row in networks),
        )
        for place, name in enumerate(classes)
    )
    named = [label for label, _ in scores]
    said = f"{', '.join(named[:-1])} and {named[-1]}"
    return Table(f"{said[0].upper()}{said[1:]} of each {word}, ± one standard error", word, columns, lines)


def _other(name: str, found: ClassScores) -> Estimate:
    return found.scores[name]


def _matrix(
    row: NetworkRow, predictions: pd.DataFrame, classes: Sequence[str], names: Sequence[str]
) -> Mapping[str, Any]:
    if form_of(predictions) == "maps":
        counts = pixel_confusion(network_rows(predictions, row.name), classes)
    else:
        found = predictions_of(predictions, row.name)
        counts = confusion_matrix(found["label"], found["predicted"], labels=list(classes))
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return {
        "title": network_label(row),
        "rows": [
            {"label": name, "cells": list(zip(line.tolist(), shares.tolist(), strict=True))}
            for name, line, shares in zip(names, counts, counts / totals, strict=True)
        ],
    }
