"""Training curves of the dense networks, one colour per protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.html.svg import STYLE, Drawing, LegendEntry, series_colour, to_svg

_SERIES = (0, 2, 3, 4, 5, 6, 7)  # the accent first


def curves_drawing(histories: Mapping[str, pd.DataFrame], quantity: str, label: str, factor: float = 1.0) -> Drawing:
    """Draw one training curve per protocol: validation solid, training dashed.

    Parameters
    ----------
    histories : mapping of str to pandas.DataFrame
        By protocol; columns ``epoch``, ``train_<quantity>``, ``val_<quantity>``.
    quantity : str
        ``accuracy`` or ``loss``.
    label : str
        Of the vertical axis.
    factor : float
        What the values are multiplied by.

    Returns
    -------
    Drawing
        Named ``training-<quantity>``.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 2.6), layout="constrained")
        axes = figure.subplots()
        for index, history in enumerate(histories.values()):
            colour = series_colour(_SERIES[index % len(_SERIES)])
            axes.plot(history["epoch"], factor * history[f"val_{quantity}"], color=colour)
            axes.plot(history["epoch"], factor * history[f"train_{quantity}"], color=colour, linestyle=(0, (2, 2)))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    name = f"training-{quantity}"
    return Drawing(
        name,
        quantity.capitalize(),
        to_svg(figure, name, f"{label} by epoch, {', '.join(histories)}"),
        _legend(histories),
    )


def _legend(names: Iterable[str]) -> tuple[LegendEntry, ...]:
    return tuple(LegendEntry(name, _SERIES[index % len(_SERIES)], "━") for index, name in enumerate(names))


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
