"""Whether the networks are as sure as they are right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from hscc.evaluation.kept_logits import logits_of, predictions_of
from hscc.evaluation.names import network_label
from hscc.evaluation.results import Row, dense_row, row_name, twins_of
from hscc.reporting.figures.reliability import reliability_drawing
from hscc.reporting.reliability import Bin, reliability
from hscc.reporting.sections.section import Section
from hscc.reporting.tables import Column, Line, Table, with_error


def bins_of(row: Row, predictions: pd.DataFrame, classes: list[str]) -> list[Bin]:
    """Sort the test images of a row's network into bins of confidence."""
    found = predictions_of(predictions, row_name(row))
    labels = pd.Categorical(found["label"], categories=classes).codes.astype(np.int64)
    return reliability(labels, logits_of(found))


def calibration_section(document: Mapping[str, Any], chosen: Row, predictions: pd.DataFrame) -> Section:
    """Lay out reliability diagram, expected calibration error and Brier score.

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
        With the diagram of the dense and of the recommended network.
    """
    dense = dense_row(document["rows"], document["protocol"])
    networks = {network_label(row): bins_of(row, predictions, document["classes"]) for row in (dense, chosen)}
    drawing = reliability_drawing(networks, "Reliability")
    shown = [dense, chosen, *twins_of(chosen, document["rows"])]
    table = Table(
        "Calibration, ± one bootstrap standard error",
        "network",
        (Column("ECE"), Column("Brier")),
        tuple(Line(network_label(row), (with_error(row, "ece"), with_error(row, "brier"))) for row in shown),
    )
    content = {"drawing": drawing, "table": table}
    return Section("calibration", "Calibration", content, (drawing,))
