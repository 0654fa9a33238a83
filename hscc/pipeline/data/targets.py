"""What is to be learnt of each image, as text in the manifest, and how images are counted and split by it.

The column ``label`` of a manifest holds the class of an image; of several labels those that it has, in the order of
``data.classes`` with `SEPARATOR` between them, or `NO_LABEL`; of values the numbers, likewise. Near-copies whose texts
differ contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.errors import DataError, first_few
from hscc.pipeline.data_spec import IMAGE_LABEL, NO_LABEL, SEPARATOR, DataSpec, LabelTable

_PRESENT = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_FEWEST = 7  # images of a stratum; fewer cannot be dealt to train, val and test


def read_labels(rows: pd.DataFrame, table: LabelTable, spec: DataSpec, path: str) -> list[str]:
    """Read the text of each image off the columns of a table.

    Parameters
    ----------
    rows : pandas.DataFrame
        The table's columns, as text.
    table : LabelTable
        Which of them hold labels.
    spec : DataSpec
        Task and classes.
    path : str
        The table, for messages.

    Raises
    ------
    DataError
        If a cell is no label, 0 or 1, or number, as the task has it.
    """
    cells = rows[list(table.labels)].apply(lambda column: column.str.strip())
    if spec.task == "regression":
        return _numbers(cells, rows[table.path], path)
    if spec.task != "multilabel":
        return list(cells[table.labels[0]])
    if table.separator is None:
        return _marked(cells, spec.classes, rows[table.path], path)
    listed = cells[table.labels[0]].tolist()
    return [
        "" if not cell and table.no_label != "" else _listed(cell, table, table.separator, spec.classes, name, path)
        for cell, name in zip(listed, rows[table.path], strict=True)
    ]


def _numbers(cells: pd.DataFrame, names: pd.Series[str], path: str) -> list[str]:
    found = {str(name): pd.to_numeric(cells[name], errors="coerce").to_numpy(np.float64) for name in cells}
    for column, numbers in found.items():
        wrong = (cells[column] != "").to_numpy() & ~np.isfinite(numbers)
        refuse_rows(names[wrong], f"{path}: column {column} holds no number for", "write one, or remove the rows")
    empty = (cells == "").any(axis=1)
    return [
        "" if lacks else SEPARATOR.join(f"{value:.12g}" for value in row)
        for row, lacks in zip(np.stack(list(found.values()), axis=1).tolist(), empty, strict=True)
    ]


def _marked(cells: pd.DataFrame, classes: Sequence[str], names: pd.Series[str], path: str) -> list[str]:
    known = cells.apply(lambda column: column.str.lower().map(_PRESENT))
    for column in map(str, cells):
        wrong = (cells[column] != "") & known[column].isna()
        refuse_rows(names[wrong.to_numpy()], f"{path}: column {column} is neither 0 nor 1 for", "write one of them")
    empty = (cells == "").any(axis=1)
    return [
        "" if lacks else _joined([name for name, present in zip(classes, row, strict=True) if present])
        for row, lacks in zip(known.to_numpy(), empty, strict=True)
    ]


def _listed(cell: str, table: LabelTable, separator: str, classes: Sequence[str], name: str, path: str) -> str:
    if cell == table.no_label:
        return NO_LABEL
    found = {label.strip() for label in cell.split(separator)}
    unknown = sorted(found - set(classes))
    if unknown:
        raise DataError(
            f"{path}: {table.labels[0]} of {name} names {unknown[0]!r}, which is none of {', '.join(classes)}; correct "
            "the table or data.classes, or name in data.table.no_label what stands for no label."
        )
    return _joined([label for label in classes if label in found])


def _joined(labels: Sequence[str]) -> str:
    return SEPARATOR.join(labels) or NO_LABEL


def refuse_rows(names: pd.Series[str], fault: str, fix: str) -> None:
    """Raise a `DataError` that names the images with this fault and how to fix it; none have it, none is raised."""
    if len(names):
        raise DataError(f"{fault} {first_few(names.tolist())}; {fix}.")


def label_sets(labels: Sequence[str] | pd.Series[str], classes: Sequence[str]) -> npt.NDArray[np.float32]:
    """Read which labels each image has.

    Parameters
    ----------
    labels : sequence of str
        Column ``label`` of a manifest.
    classes : sequence of str
        The K labels.

    Returns
    -------
    ndarray of float32, shape (N, K)
        1 or 0.
    """
    place = {name: index for index, name in enumerate(classes)}
    found = np.zeros((len(labels), len(classes)), dtype=np.float32)
    for row, text in enumerate(labels):
        for name in text.split(SEPARATOR):
            if name in place:
                found[row, place[name]] = 1
    return found


def values_of(labels: Sequence[str] | pd.Series[str], count: int) -> npt.NDArray[np.float32]:
    """Read the values of each image, float32 (N, K), off the column ``label`` of a manifest; K is `count`."""
    rows = [[float(number) for number in text.split(SEPARATOR)] for text in labels]
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), count)


def has_label(frame: pd.DataFrame, label: str, spec: DataSpec) -> pd.Series[bool]:
    """Whether each image of a manifest is counted under a label of `DataSpec.counted`, or has none (`NO_LABEL`)."""
    if spec.task == "multilabel":
        return frame["label"].map(lambda text: label in text.split(SEPARATOR)).astype(bool)
    return strata_of(frame, spec) == label


def strata_of(frame: pd.DataFrame, spec: DataSpec) -> pd.Series[str]:
    """Label of `DataSpec.strata` that each image of a manifest is split as.

    Its class; of several labels the rarest that it has, whose shares matter most, so that a rare label is in each
    split (where too few images are counted as one, they join the largest stratum); one for all where images have
    values.
    """
    if spec.task == "regression":
        return pd.Series(IMAGE_LABEL, index=frame.index, dtype=str)
    if spec.task != "multilabel":
        return frame["label"]
    present = label_sets(frame["label"], spec.classes)
    counts = present.sum(axis=0)
    rarest = np.where(present > 0, counts, np.inf).argmin(axis=1)
    names = np.where(present.any(axis=1), np.asarray(spec.classes)[rarest], NO_LABEL)
    kinds, held = np.unique(names, return_counts=True)
    if len(kinds):
        names[np.isin(names, kinds[held < _FEWEST])] = kinds[held.argmax()]
    return pd.Series(names, index=frame.index, dtype=str)
