"""The HTML report: one file, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from sklearn.metrics import confusion_matrix

from hscc.evaluation import plots
from hscc.evaluation.headline import covers_zero, headline, percent, points, recommended, signed, verdict
from hscc.evaluation.names import class_label, method_label, network_label
from hscc.evaluation.networks import DENSE
from hscc.evaluation.results import (
    Row,
    batches,
    compressed_rows,
    dense_row,
    float_rows,
    quantised_rows,
)
from hscc.evaluation.seeds import summarise_seeds
from hscc.evaluation.svg import SERIES

_TEMPLATES = Path(__file__).parent / "templates"
_SEVERITIES = {"error": "Error", "warning": "Warning", "info": "Note"}


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix to show.

    Attributes
    ----------
    title : str
        Name of the network.
    counts : list of list of int
        Images, true class by predicted class.
    """

    title: str
    counts: list[list[int]]


def count_confusion(
    title: str, labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int
) -> Confusion:
    """Count how often each class is taken for each other one."""
    return Confusion(title, confusion_matrix(labels, predicted, labels=np.arange(classes)).tolist())


def render_report(
    document: Mapping[str, Any],
    confusions: Sequence[Confusion],
    histories: Mapping[str, pd.DataFrame],
    findings: Sequence[Mapping[str, Any]],
) -> str:
    """Write the report.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.
    confusions : sequence of Confusion
        Matrices to show side by side.
    histories : mapping of str to pandas.DataFrame
        Training curves by protocol; may be empty.
    findings : sequence of mapping
        What the checks found in the data (``severity``, ``title``, ``finding``, ``what_we_do``, ``images``,
        ``count``); may be empty.

    Returns
    -------
    str
        A whole HTML document.
    """
    rows: list[Row] = document["rows"]
    protocol = document["protocol"]
    own = [row for row in float_rows(rows) if row["protocol"] == protocol]
    chosen = recommended(rows, protocol)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            document=document,
            headline=_unbroken(headline(rows, protocol)),
            verdict=_unbroken(verdict(document["comparisons"], chosen) or ""),
            chosen=chosen,
            dense=dense_row(rows, protocol),
            rows=own,
            others=[row for row in float_rows(rows) if row["protocol"] != protocol],
            twins=_beside_their_source(rows),
            several_seeds=len({row["seed"] for row in own if row["method"] != DENSE}) > 1,
            seeds=summarise_seeds(compressed_rows(rows, protocol)),
            batches=batches(rows),
            torch_batches=batches(rows, "torch_latency_ms_b"),
            legend=_legend(plots.series_of(own)),
            pareto=_pareto_figures(own),
            f1=_f1_figure(own, chosen, document["classes"]),
            f1_budget=chosen["budget"],
            confusions=confusions,
            curves=_curve_figures(histories),
            curve_legend=[{"label": name, "series": index % SERIES} for index, name in enumerate(histories)],
            findings=findings,
            classes=document["classes"],
        )
    )


def _beside_their_source(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pair every int8 twin with the network that it was made from."""
    sources = {(row["method"], row["budget"], row["seed"], row["protocol"]): row for row in float_rows(rows)}
    return [
        (twin, sources[(twin["method"], twin["budget"], twin["seed"], twin["protocol"])])
        for twin in quantised_rows(rows)
    ]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {
        "method_label": method_label,
        "class_label": class_label,
        "network_label": network_label,
        "percent": percent,
        "points": points,
        "signed": signed,
        "covers_zero": covers_zero,
        "p_value": lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}",
        "severity_label": lambda severity: _SEVERITIES.get(severity, "Note"),
    }
    return environment


def _unbroken(text: str) -> str:
    """Keep figures, their errors and their units on one line."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def _legend(series: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"label": method_label(method), "series": index % SERIES, "glyph": plots.GLYPHS[index % len(plots.GLYPHS)]}
        for method, index in series.items()
    ]


def _pareto_figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    figures = [("macs_ratio", "times fewer MACs", "What the arithmetic saves")]
    figures += [
        (f"speedup_b{batch}", f"times faster, {batch} image{'s' if batch > 1 else ''} at a time", "What the clock says")
        for batch in batches(rows)[:1]
    ]
    return [
        {"title": title, "svg": Markup(plots.pareto_figure(rows, column, label))} for column, label, title in figures
    ]


def _f1_figure(rows: Sequence[Row], chosen: Row, classes: Sequence[str]) -> Markup:
    beside = [row for row in rows if row["method"] == DENSE or _same_cell(row, chosen)]
    return Markup(plots.f1_figure(beside, classes, plots.series_of(rows)))


def _same_cell(row: Row, chosen: Row) -> bool:
    return bool(row["budget"] == chosen["budget"] and row["seed"] == chosen["seed"])


def _curve_figures(histories: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    if not histories:
        return []
    return [
        {"title": "Accuracy", "svg": Markup(plots.curves_figure(histories, "accuracy", "accuracy, %", 100.0))},
        {"title": "Loss", "svg": Markup(plots.curves_figure(histories, "loss", "cross-entropy, nats"))},
    ]
