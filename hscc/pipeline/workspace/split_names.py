"""Which names of folders, or values of a column, are a data set's own split."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hscc.pipeline.workspace.proposal import Choice

_NAMES = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst", "holdout"),
}


def find_official(names: Collection[str]) -> dict[str, str | None] | None:
    """Read an official split off names, in any case.

    Parameters
    ----------
    names : collection of str
        All top folders, or all values of a column.

    Returns
    -------
    dict or None
        The names by ``train``, ``val`` and ``test``, as section ``data.official`` has them; ``val`` is None where there
        is none. Without test images those of validation are the test. None where the names are no split.
    """
    found: dict[str, str] = {}
    for name in names:
        part = next((part for part, known in _NAMES.items() if name.strip().lower() in known), None)
        if part is None or part in found:
            return None
        found[part] = name
    if "train" not in found or len(found) < 2:
        return None
    if "test" not in found:
        return {"train": found["train"], "val": None, "test": found["val"]}
    return {"train": found["train"], "val": found.get("val"), "test": found["test"]}


def official_choice(official: Mapping[str, str | None] | None, present: str, absent: str) -> Choice:
    """Propose ``data.official``.

    Parameters
    ----------
    official : mapping or None
        From `find_official`.
    present, absent : str
        Why, where there is a split and where there is none.
    """
    if official is None:
        return Choice("data.official", None, absent)
    return Choice("data.official", official, present, "is this the split that others use")
