"""Check that a spec which the user brings describes the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hscc.errors import DataError
from hscc.pipeline.data.listing import list_images
from hscc.pipeline.data.targets import has_label
from hscc.pipeline.data_spec import DataSpec


def check_given_spec(root: Path, spec: DataSpec, file: Path) -> None:
    """Compare classes and official split of a spec with what the data folder holds.

    Parameters
    ----------
    root : Path
        The data folder.
    spec : DataSpec
        Section ``data`` of `file`.
    file : Path
        Named in messages.

    Raises
    ------
    DataError
        If the layout does not fit, or a class or a part of the split is in one of the two only.
    """
    images = list_images(root, spec)
    if spec.counted == spec.classes:  # the classes of masks are levels of pixels, those of values their names
        found = [label for label in spec.classes if has_label(images, label, spec).any()]
        found += [] if spec.task == "multilabel" else sorted(set(images["label"]) - set(found))
        _same(found, spec.classes, "class", f"data.classes of {file}", root)
    if spec.official is not None:
        parts = images["official_split"].unique().tolist()
        _same(parts, spec.official.names, spec.place, f"data.official of {file}", root)


def _same(found: Sequence[str], named: Sequence[str], what: str, key: str, root: Path) -> None:
    problems = [
        *_lacking(found, named, f"{root} has the {what} {{}}, which {key} lacks"),
        *_lacking(named, found, f"{key} has the {what} {{}}, of which {root} holds no image"),
    ]
    if problems:
        raise DataError(f"{problems[0]}; correct the spec or the data.")


def _lacking(some: Sequence[str], others: Sequence[str], text: str) -> Iterator[str]:
    yield from (text.format(repr(name)) for name in sorted(set(some) - set(others)))
