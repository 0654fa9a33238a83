"""What is decided of a network's answers, and how they are laid out as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.outputs import Kind
from hscc.pipeline.data_spec import NO_LABEL, SEPARATOR
from hscc.pipeline.serving.masks import mask_png, shares_of_classes

Probabilities = npt.NDArray[np.float64]


def decided(found: Probabilities, names: Sequence[str], kind: Kind) -> str:
    """Say what is decided of one picture.

    Parameters
    ----------
    found : ndarray of float64, shape (K,)
        Probabilities or values.
    names : sequence of str
        Of the K outputs.
    kind : {"classes", "independent", "values"}
        What they are.

    Returns
    -------
    str
        The most probable class; labels of at least one half, with `SEPARATOR` between them, or `NO_LABEL`; "" for
        values.
    """
    if kind == "classes":
        return names[int(found.argmax())]
    if kind == "values":
        return ""
    return SEPARATOR.join(name for name, chance in zip(names, found, strict=True) if chance >= 0.5) or NO_LABEL


def answer_table(found: Probabilities, names: Sequence[str], kind: Kind) -> pd.DataFrame:
    """Lay out answers, one row per picture.

    Parameters
    ----------
    found : ndarray of float64, shape (N, K) or (N, K, H, W)
        Probabilities or values.
    names, kind
        As for `decided`.

    Returns
    -------
    pandas.DataFrame
        ``class``, ``labels`` or, of maps, ``mask`` (a PNG file), and a column for each of the names.
    """
    if found.ndim > 2:
        table = pd.DataFrame(shares_of_classes(found), columns=list(names))
        table.insert(0, "mask", [mask_png(probabilities) for probabilities in found])
        return table
    table = pd.DataFrame(found, columns=list(names))
    if kind != "values":
        table.insert(0, "class" if kind == "classes" else "labels", [decided(row, names, kind) for row in found])
    return table
