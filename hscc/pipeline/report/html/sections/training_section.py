"""Training curves of the dense networks, one colour per protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.html.svg import STYLE, Drawing, LegendEntry, series_colour, to_svg
from hscc.pipeline.score_names import score_label, score_title

_SERIES = (0, 2, 3, 4, 5, 6, 7)  # the accent first


def curves_drawing(histories: Mapping[str, pd.DataFrame], quantity: str, label: str, factor: float = 1.0) -> Drawing:
    """Draw one training curve per protocol: validation solid, training dashed.

    Parameters
    ----------
    histories : mapping of str to pandas.DataFrame
        By protocol; columns ``epoch``, ``val_<quantity>`` and, where it was recorded, ``train_<quantity>``.
    quantity : str
        ``loss`` or the name of a score.
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
            if f"train_{quantity}" in history:
                axes.plot(history["epoch"], factor * history[f"train_{quantity}"], color=colour, linestyle=(0, (2, 2)))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    name = f"training-{quantity}"
    return Drawing(
        name,
        score_title(quantity),
        to_svg(figure, name, f"{label} by epoch, {', '.join(histories)}"),
        _legend(histories),
    )


def _legend(names: Iterable[str]) -> tuple[LegendEntry, ...]:
    return tuple(LegendEntry(name, _SERIES[index % len(_SERIES)], "━") for index, name in enumerate(names))


HEADING = "Training of the dense network"


def training_section(histories: Mapping[str, pd.DataFrame], score: str = "accuracy") -> Section | Absent:
    """Draw the training curves: of the primary score and of the loss.

    Parameters
    ----------
    histories : mapping of str to pandas.DataFrame
        By protocol.
    score : str
        Name of the primary score.

    Returns
    -------
    Section or Absent
        Absent where there is no curve.
    """
    histories = {name: history for name, history in histories.items() if f"val_{score}" in history}
    if not histories:
        return Absent(HEADING, "reports/train holds no curve.")
    drawings = (
        curves_drawing(histories, score, f"{score_label(score)}, %", 100.0),
        curves_drawing(histories, "loss", "loss, nats"),
    )
    return Section("training", HEADING, {"drawings": drawings, "legend": drawings[0].legend}, drawings)
