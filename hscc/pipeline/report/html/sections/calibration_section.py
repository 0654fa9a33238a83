"""Confidence against correctness, bin by bin, from the kept logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import softmax
from scipy.stats import binomtest

from hscc.pipeline.names import network_label
from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.html.svg import GRID, MUTED, STYLE, Drawing, LegendEntry, series_colour, to_svg
from hscc.pipeline.report.table import Line, Measure, Table, cells_of, columns_of, measure, with_error
from hscc.pipeline.statistics.metrics import ECE_BINS, confidence_bins
from hscc.pipeline.statistics.predictions import Form, form_of, logits_of, predictions_of
from hscc.pipeline.statistics.schema import NetworkRow, Results

_NOT_MEASURED: dict[Form, str] = {"maps": "segmentations", "labels": "several labels per image", "values": "values"}


@dataclass(frozen=True)
class Bin:
    """The images whose top probability falls into one bin.

    Attributes
    ----------
    centre : float
        Middle of the bin, in (0, 1).
    images : int
        How many.
    confidence, accuracy : float
        Their mean top probability, and the share that is predicted rightly; NaN without images.
    low, high : float
        Wilson's 95 % interval of the accuracy.
    """

    centre: float
    images: int
    confidence: float
    accuracy: float
    low: float
    high: float


def reliability(labels: npt.NDArray[np.int64], logits: npt.NDArray[np.floating], bins: int = ECE_BINS) -> list[Bin]:
    """Sort images into bins of their top probability, the bins of the expected calibration error.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    logits : ndarray of float, shape (N, C)
        Of the network.
    bins : int
        Number of bins of (0, 1].

    Returns
    -------
    list of Bin
        One per bin, ascending, empty ones among them.
    """
    probabilities = softmax(logits.astype(np.float64), axis=1)
    index, confidence = confidence_bins(probabilities, bins), probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    return [_bin((place + 0.5) / bins, confidence[index == place], correct[index == place]) for place in range(bins)]


def _bin(centre: float, confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> Bin:
    images = len(correct)
    if not images:
        return Bin(centre, 0, *[float("nan")] * 4)
    right = int(correct.sum())
    interval = binomtest(right, images).proportion_ci(method="wilson")
    return Bin(centre, images, float(confidence.mean()), right / images, float(interval.low), float(interval.high))


def reliability_frame(networks: Mapping[str, Sequence[Bin]]) -> pd.DataFrame:
    """Tabulate the diagram for DVC's plots.

    Parameters
    ----------
    networks : mapping of str to sequence of Bin
        By name, all with the same bins.

    Returns
    -------
    pandas.DataFrame
        One row per bin: ``confidence`` (its middle), and for each network ``<name>`` (accuracy) and ``<name>_images``;
        bins without an image of any network are left out.
    """
    columns: dict[str, list[float]] = {
        "confidence": [found.centre for found in next(iter(networks.values()))],
        **{name: [found.accuracy for found in bins] for name, bins in networks.items()},
        **{f"{name}_images": [found.images for found in bins] for name, bins in networks.items()},
    }
    frame = pd.DataFrame(columns)
    return frame[frame[[f"{name}_images" for name in networks]].sum(axis=1) > 0]


_STYLES = (("o", 1), ("s", 0))  # marker, number of the colour; dense first
_SMALLEST, _LARGEST = 3.0, 11.0  # points: a bin of one image, a bin of all


def reliability_drawing(networks: Mapping[str, Sequence[Bin]], title: str) -> Drawing:
    """Draw the reliability diagram (DeGroot and Fienberg 1983) of a few networks.

    Parameters
    ----------
    networks : mapping of str to sequence of Bin
        The dense one and another, by name; bins without an image are left out.
    title : str
        Caption.

    Returns
    -------
    Drawing
        Accuracy against mean confidence, one mark per bin whose area grows with its images; bars are Wilson's 95 %
        interval, the diagonal is perfect calibration.
    """
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        for (name, bins), (marker, series) in zip(networks.items(), _STYLES, strict=False):
            colour = series_colour(series)
            filled = [found for found in bins if found.images]
            most = max(found.images for found in filled)
            xs, ys = [100 * found.confidence for found in filled], [100 * found.accuracy for found in filled]
            axes.plot(xs, ys, color=colour, linewidth=1.0, alpha=0.7)
            for x, y, found in zip(xs, ys, filled, strict=True):
                gid = f"point-{len(said)}"
                size = _SMALLEST + (_LARGEST - _SMALLEST) * (found.images / most) ** 0.5
                axes.plot([x, x], [100 * found.low, 100 * found.high], color=colour, linewidth=0.8, alpha=0.5)
                axes.plot([x], [y], linestyle="", marker=marker, color=colour, markersize=size, alpha=0.9, gid=gid)
                said[gid] = f"{name}\nconfidence {x:.0f} %, right in {y:.0f} % of {found.images} images"
        axes.set_xlim(20, 102)
        axes.set_ylim(-2, 102)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("accuracy, %")
        axes.grid(color=GRID)
    summary = f"{title}: accuracy against confidence of {' and '.join(networks)}"
    return Drawing("reliability", title, to_svg(figure, "reliability", summary, said), _legend(networks))


def _legend(names: Iterable[str]) -> tuple[LegendEntry, ...]:
    glyphs = {"o": "●", "s": "■"}
    marks = zip(names, _STYLES, strict=False)
    return tuple(LegendEntry(name, series, glyphs[marker]) for name, (marker, series) in marks)


def bins_of(row: NetworkRow, predictions: pd.DataFrame, classes: Sequence[str]) -> list[Bin]:
    """Sort the test images of a row's network into bins of confidence."""
    found = predictions_of(predictions, row.name)
    labels = pd.Categorical(found["label"], categories=pd.Index(classes)).codes.astype(np.int64)
    return reliability(labels, logits_of(found))


def calibration_section(results: Results, predictions: pd.DataFrame) -> Section | Absent:
    """Lay out reliability diagram, expected calibration error and Brier score of the dense and the chosen network."""
    form = form_of(predictions)
    if form != "classes":
        return Absent("Calibration", f"it is not measured for {_NOT_MEASURED[form]}.")
    dense, chosen = results.dense(), results.chosen()
    networks = {network_label(row): bins_of(row, predictions, results.classes) for row in (dense, chosen)}
    drawing = reliability_drawing(networks, "Reliability")
    rows = [row for row in (dense, chosen, results.int8_of(chosen)) if row is not None]
    measures: list[Measure[NetworkRow]] = [
        measure("ECE", lambda row: with_error(row.scores["ece"])),
        measure("Brier", lambda row: with_error(row.scores["brier"])),
    ]
    lines = tuple(Line(network_label(row), cells_of(row, measures)) for row in rows)
    table = Table("Calibration, ± one bootstrap standard error", "network", columns_of(measures), lines)
    return Section("calibration", "Calibration", {"drawing": drawing, "table": table}, (drawing,))
