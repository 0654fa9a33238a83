"""Tables with several labels per image, or with values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from hscc.pipeline.data_spec import SEPARATOR
from hscc.pipeline.workspace.classification import Labelled, counted, proposed
from hscc.pipeline.workspace.pictures import Appearance
from hscc.pipeline.workspace.proposal import Choice, Proposal
from hscc.pipeline.workspace.survey import Survey

_MARKS = {"0", "1", "0.0", "1.0", "true", "false"}
_SEPARATORS = ("|", ";")
_NOTHING = ("no finding", "no findings", "none", "normal", "healthy", "negative")
_LEAST, _MOST = 2, 100  # labels
_NAME = re.compile(r"[\w.\- /]+")  # what a class may be called
_FEW = 12  # different numbers, up to which they are taken as grades
_VALUES = ("value", "age", "score", "volume", "size", "weight", "measure")


@dataclass(frozen=True)
class Targets:
    """What a table says of each image beside one class.

    Attributes
    ----------
    task : str
        ``multilabel`` or ``regression``.
    columns : mapping of str to object
        What follows for ``data.table``: label, and separator and no_label where there are.
    names : tuple of str
        Of labels or values.
    held : mapping of str to int
        Images with each label.
    why, check : str
        For the user.
    """

    task: str
    columns: Mapping[str, object]
    names: tuple[str, ...]
    held: Mapping[str, int]
    why: str
    check: str


def find_labels(rows: pd.DataFrame, columns: Sequence[str]) -> Targets | None:
    """Find several labels per image: a column of lists, or several columns of 0 and 1; None where there are none."""
    listed = next((found for name in columns if (found := _listed(rows[name].str.strip(), name)) is not None), None)
    return listed or _marked(rows, columns)


def find_values(rows: pd.DataFrame, columns: Sequence[str]) -> Targets | None:
    """Find a column of numbers that are no grades, the one that is named as a value first; None without one."""
    usable = [name for name in columns if _measured(rows[name].str.strip())]
    if not usable:
        return None
    named = next((name for word in _VALUES for name in usable if word in name.lower()), usable[0])
    others = f"; {', '.join(name for name in usable if name != named)} would do too" if len(usable) > 1 else ""
    return Targets(
        "regression",
        {"label": [named]},
        (_called(named),),
        {},
        f"{named} holds {rows[named].nunique()} different numbers{others}",
        "is it what is to be measured in the images",
    )


def propose_targets(found: Survey, images: Labelled, appearance: Appearance, targets: Targets) -> Proposal:
    """Propose all that follows from several labels per image, or from values."""
    task = Choice("data.task", targets.task, targets.why, targets.check, comment=_COMMENTS[targets.task])
    layout = tuple(
        replace(choice, value={**choice.value, **targets.columns})
        if choice.key == "data.table" and isinstance(choice.value, dict)
        else choice
        for choice in images.layout
    )
    judged = [Choice("train.label_smoothing", 0)]
    if targets.task == "multilabel":
        classes = Choice("data.classes", list(targets.names), f"images with each: {counted(targets.held)}")
        judged.append(Choice("evaluate.score", "roc_auc", comment="roc_auc | average_precision | macro_f1"))
        why = "the rarest labels may be found in no image at a probability of one half"
        judged.append(Choice("promote.min_recall", 0.0, why, "what recall does each label need"))
    else:
        classes = Choice("data.classes", list(targets.names))
        judged.append(Choice("evaluate.score", "r2", comment="share of the variance that is explained"))
        judged.append(Choice("promote.min_recall", 0.0))
    rarest = min(targets.held.values(), default=len(images.paths))
    proposal = proposed(found, replace(images, layout=(task, *layout)), appearance, classes, rarest, judged)
    return replace(proposal, kind=f"{'several labels' if targets.task == 'multilabel' else 'values'} per image")


_COMMENTS = {"multilabel": "several labels per image, each there or not", "regression": "values"}


def _listed(cells: pd.Series[str], column: str) -> Targets | None:
    """Read a column of lists, in which some cell holds several labels."""
    separator = next((each for each in _SEPARATORS if cells.str.contains(each, regex=False).any()), None)
    if separator is None:
        return None
    lists = [[part.strip() for part in cell.split(separator)] for cell in cells if cell]
    held = Counter(name for names in lists for name in set(names))
    alone = {names[0] for names in lists if len(names) == 1} - {
        name for names in lists if len(names) > 1 for name in names
    }
    nothing = next((name for name in sorted(alone) if name.lower() in _NOTHING), None)
    names = tuple(sorted(name for name in held if name != nothing))
    usual = _LEAST <= len(names) <= min(_MOST, len(cells) // 3)  # else it is a remark
    if not usual or not all(_NAME.fullmatch(name) for name in names):
        return None
    empty = "" if (cells == "").any() else None
    return Targets(
        "multilabel",
        {"label": column, "separator": separator, "no_label": empty if nothing is None else nothing},
        names,
        {name: held[name] for name in names},
        f"{column} lists labels with {separator} between them",
        "may an image have several of them",
    )


def _marked(rows: pd.DataFrame, columns: Sequence[str]) -> Targets | None:
    """Read columns of 0 and 1, each with both."""
    marks = {
        name: cells.isin({"1", "1.0", "true"})
        for name in columns
        if set(cells := rows[name].str.strip().str.lower()) <= _MARKS and cells.nunique() > 1
    }
    if not _LEAST <= len(marks) <= _MOST:
        return None
    held = {_called(name): int(found.sum()) for name, found in marks.items()}
    if len(held) < len(marks):
        return None
    one = pd.DataFrame(marks).sum(axis=1).eq(1).all()
    check = "each image has just one, so one column of its class and task classification would do" if one else ""
    return Targets(
        "multilabel",
        {"label": list(marks)},
        tuple(held),
        held,
        f"{len(marks)} columns hold 0 and 1 only",
        check or "is each of them a label of the images",
    )


def _measured(cells: pd.Series[str]) -> bool:
    numbers = pd.to_numeric(cells, errors="coerce")
    return (
        bool(numbers.notna().all()) and numbers.nunique() > max(_FEW, len(cells) // 100) and not _counts_rows(numbers)
    )


def _counts_rows(numbers: pd.Series[float]) -> bool:
    """Whether they number the rows, as an index does."""
    return bool(numbers.nunique() == len(numbers) and (numbers.sort_values().diff().dropna() == 1).all())


def _called(column: str) -> str:
    """Name of a label or value for a column."""
    return " ".join(re.sub(r"[^\w.\- /]+|" + re.escape(SEPARATOR), " ", column).split()) or "value"
