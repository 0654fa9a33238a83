"""Images whose labels are in a CSV or Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from hscc.pipeline.workspace.classification import Labelled, propose_classification
from hscc.pipeline.workspace.groups import SUBJECTS, find_grouping
from hscc.pipeline.workspace.proposal import Choice, Proposal, UnsuitableDataError
from hscc.pipeline.workspace.split_names import find_official, official_choice
from hscc.pipeline.workspace.survey import Survey
from hscc.pipeline.workspace.targets import Targets, find_labels, find_values, propose_targets
from hscc.pipeline.workspace.volumes import appearance_of

_FILES = 10  # tables that are tried
_LARGEST = 500_000_000  # bytes
_LABELS = ("label", "class", "diagnosis", "dx", "target", "category", "finding", "disease", "y")
_MOST_LABELS = 100


@dataclass(frozen=True)
class _Table:
    """A table, and the column of its paths."""

    file: str
    rows: pd.DataFrame
    path: str
    present: int  # rows whose image is there


def propose_table(found: Survey) -> Proposal | None:
    """Find a table one of whose columns holds paths of images; None where there is none.

    Raises
    ------
    UnsuitableDataError
        If a table names images without their folder or ending, or has no column that could be the label.
    """
    images = {*found.images, *found.volumes}
    read = [table for file in found.tables[:_FILES] if (table := _read(found, file, images)) is not None]
    if not read:
        return None
    table = max(read, key=lambda table: table.present)
    rows = table.rows[table.rows[table.path].isin(images)].drop_duplicates(table.path)
    columns = [name for name in map(str, rows) if name != table.path]
    split, official = _split(rows, columns)
    group = _named(columns, SUBJECTS)
    others = [name for name in columns if name not in (split, group)]
    label = _label(rows, others)
    targets = _targets(rows, others, label)
    if label is None and targets is None:
        raise UnsuitableDataError(
            f"{found.root / table.file} has no column with 2 to {_MOST_LABELS} different labels (columns: "
            f"{', '.join(columns)}); add a column named label."
        )
    named = [label] if targets is None and label is not None else _columns_of(targets)
    spec = {"file": table.file, "path": table.path, "label": named[0], "split": split, "group": group}
    grouping = find_grouping(rows[table.path].tolist()) if group is None else None
    layout = (
        Choice("data.layout", "table", f"{table.present} rows of {table.file} name images in the folder"),
        Choice("data.table", spec, "columns by their names and values", "is each the column that it should be"),
        official_choice(official, f"values of {split}", "no column holds the names of a split"),
        Choice(
            "data.group",
            None,
            ""
            if grouping is None
            else f"{grouping.pattern} on file names may be a person's number "
            f"({grouping.groups} groups in {grouping.files} names)",
            "" if grouping is None else "if so, set it",
        ),
    )
    labelled = Labelled(
        kind=f"labels in {table.file}",
        paths=tuple(rows[table.path]),
        labels=tuple(rows[named[0]].str.strip()) if targets is None else ("",) * len(rows),
        splits=tuple(rows[split].str.strip()) if split else ("",) * len(rows),
        layout=layout,
        official=official,
        subject=next((word for word in SUBJECTS if group and word in group.lower()), ""),
        warnings=_warnings(table, () if targets and targets.columns.get("no_label") == "" else named),
    )
    appearance = appearance_of(found, labelled.paths)
    if targets is None:
        return propose_classification(found, labelled, appearance)
    return propose_targets(found, labelled, appearance, targets)


def _read(found: Survey, file: str, images: set[str]) -> _Table | None:
    path = found.root / file
    if path.stat().st_size > _LARGEST:
        return None
    try:
        if path.suffix.lower() == ".parquet":
            rows = pd.read_parquet(path)
        else:
            rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, OSError):
        return None
    rows = rows.astype("object").where(rows.notna(), "").astype(str)
    rows.columns = [str(name) for name in rows.columns]
    counted = {name: int(rows[name].isin(images).sum()) for name in map(str, rows)}
    if not counted or max(counted.values()) == 0:
        _refuse_stems(path, rows, images)
        return None
    column = max(counted, key=lambda name: counted[name])
    return _Table(file, rows, column, counted[column])


def _refuse_stems(path: Path, rows: pd.DataFrame, images: set[str]) -> None:
    """Say what is wrong with a table that names images by less than their path."""
    short: dict[str, str] = {}
    for image in images:
        pure = PurePosixPath(image)
        short |= {pure.name: image, pure.stem: image}
    for name in rows:
        hit = next((value for value in rows[name].head(1000) if value in short), None)
        if hit is not None:
            raise UnsuitableDataError(
                f"{path}: column {name} says {hit!r} for the image {short[hit]}; write paths relative to the data "
                "folder into it."
            )


def _split(rows: pd.DataFrame, columns: Sequence[str]) -> tuple[str | None, dict[str, str | None] | None]:
    for name in columns:
        values = set(rows[name].str.strip())
        if 2 <= len(values) <= 3 and (official := find_official(values)) is not None:
            return name, official
    return None, None


def _label(rows: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """Column of that name, else the one with the fewest different texts."""
    kinds = {name: rows[name].nunique() for name in columns}
    usable = [name for name in columns if 2 <= kinds[name] <= min(_MOST_LABELS, max(2, len(rows) // 2))]
    named = _named(usable, _LABELS)
    return named or min(usable, key=lambda name: kinds[name], default=None)


def _targets(rows: pd.DataFrame, columns: Sequence[str], label: str | None) -> Targets | None:
    """Several labels per image, or values; None where a column is named as one label, or a value would be a guess."""
    found = find_labels(rows, columns)
    if label is None:
        return found or find_values(rows, columns)
    named = label.lower() in _LABELS or (_named([label], _LABELS) is not None and label not in _columns_of(found))
    return None if named and label not in _columns_of(found, lists_only=True) else found


def _columns_of(targets: Targets | None, lists_only: bool = False) -> list[str]:
    """Columns of labels; with `lists_only` none of 0 and 1."""
    label = targets.columns["label"] if targets is not None else []
    if isinstance(label, str):
        return [label]
    return list(label) if isinstance(label, list) and not lists_only else []


def _named(columns: Sequence[str], words: Sequence[str]) -> str | None:
    """Column whose name is one of some words, or holds one."""
    for test in (str.__eq__, str.__contains__):
        for word in words:
            for name in columns:
                if test(name.lower(), word) and (len(word) > 1 or name.lower() == word):
                    return name
    return None


def _warnings(table: _Table, labels: Sequence[str]) -> tuple[str, ...]:
    absent = len(table.rows) - table.present
    found = []
    if absent:
        found.append(f"{absent} rows of {table.file} name images that are not there; add the files or remove the rows")
    for label in labels:
        if (table.rows[label].str.strip() == "").any():
            found.append(f"{table.file} leaves {label} empty in some rows; fill them in")
    if table.rows[table.path].duplicated().any():
        found.append(f"{table.file} names some images twice; leave one row of each")
    return tuple(found)
