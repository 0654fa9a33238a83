"""How the dense networks were trained."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from hscc.reporting.figures.training import curves_drawing
from hscc.reporting.sections.section import Absent, Section

HEADING = "Training of the dense network"


def training_section(histories: Mapping[str, pd.DataFrame]) -> Section | Absent:
    """Draw the training curves.

    Parameters
    ----------
    histories : mapping of str to pandas.DataFrame
        By protocol.

    Returns
    -------
    Section or Absent
        Absent where there is no curve.
    """
    if not histories:
        return Absent(HEADING, "reports/train holds no curve.")
    drawings = (
        curves_drawing(histories, "accuracy", "accuracy, %", 100.0),
        curves_drawing(histories, "loss", "cross-entropy, nats"),
    )
    return Section("training", HEADING, {"drawings": drawings, "legend": drawings[0].legend}, drawings)
