"""How often a network is right when it says that it is so sure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from hscc.reporting.reliability import Bin
from hscc.reporting.svg import GRID, MUTED, STYLE, Drawing, LegendEntry, series_colour, to_svg

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
        Accuracy against mean confidence, a mark a bin whose area grows with its images; bars are Wilson's 95 %
        interval, the diagonal is honest confidence.
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
                said[gid] = f"{name}\nsays {x:.0f} %, is right in {y:.0f} % of {found.images} images"
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
