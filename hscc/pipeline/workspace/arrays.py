"""NumPy archives of a whole data set, as MedMNIST's: pictures or volumes, one per row."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hscc.errors import DataError
from hscc.pipeline.data.formats.npz import ARRAYS, labels_of, splits_of
from hscc.pipeline.workspace.classification import about, importance_of
from hscc.pipeline.workspace.proposal import Choice, Proposal, UnsuitableDataError
from hscc.pipeline.workspace.split_names import find_official, official_choice
from hscc.pipeline.workspace.survey import Survey
from hscc.pipeline.workspace.volumes import volume_settings

_SAMPLE = 256  # rows that levels are measured on
_FULL = {"uint8": 255.0, "uint16": 65535.0}  # the level that is scaled to 1


def propose_arrays(found: Survey) -> Proposal | None:
    """Read splits, classes, sizes and levels off the arrays; None where no archive holds images and labels.

    Raises
    ------
    UnsuitableDataError
        If there is one class, or the arrays' shape is of neither pictures nor volumes.
    DataError
        If images have no labels, or another number of them.
    """
    files = [path for path in found.ending_in((".npz",)) if splits_of(found.root / path)]
    if not files:
        return None
    labels: list[tuple[str, str]] = []
    for file in files:
        for split in splits_of(found.root / file):
            labels += [(split, label) for label in labels_of(found.root / file, split, ())]
    counts = Counter(label for _, label in labels)
    if len(counts) < 2:
        raise UnsuitableDataError(f"{found.root} has one class, {next(iter(counts), '')!r}; a classifier needs two.")
    official = find_official({split for split, _ in labels})
    numbers = sorted(counts, key=lambda label: (len(label), label))
    named = not all(label.isdigit() for label in numbers)
    classes = sorted(counts) if named else [f"class_{label}" for label in numbers]
    array = _first(found.root / files[0])
    sides, grey = _sides(array, files[0])
    volume = len(sides) == 3
    protocol = "official" if official else "grouped"
    tested = sum(split == official["test"] for split, _ in labels) if official else len(labels) * 15 // 100
    shown = ", ".join(f"{name} {counts[label]}" for name, label in zip(classes, numbers, strict=True))
    rarest = min(counts.values())
    choices = [
        Choice("data.task", "classification"),
        Choice("data.layout", "arrays", f"{', '.join(files)} holds {len(labels)} labelled images, one per row"),
        Choice("data.table", None),
        official_choice(official, "the words before _images are a split", "the arrays are no training and test split"),
        Choice("data.group", None),
        Choice("data.classes", classes, f"images of each: {shown}", "" if named else "what do the numbers mean"),
        Choice("data.channels", 1 if grey else 3, f"rows have shape {'x'.join(map(str, array.shape[1:]))}"),
        Choice("data.image_size", list(sides) if volume or len(set(sides)) > 1 else sides[0]),
        *_normalisation(array, volume),
        Choice("data.plausible", None),
        Choice("data.protocol", protocol),
        *about(found, "patient"),
        Choice("data.texts.image", "volume" if volume else "image"),
        Choice("validate.min_side", min(sides)),
        Choice("validate.max_side", max(sides)),
        Choice("validate.modes", [array.dtype.name]),
        Choice("validate.min_per_class", min(20, rarest)),
        Choice("train.protocols", [protocol]),
        Choice("train.backbone", "resnet18" if min(sides) >= 64 else "smallcnn"),
        *importance_of(counts),
        Choice("promote.protocol", protocol),
        Choice("promote.min_images", max(2, min(100, tested))),
    ]
    if volume:
        choices += volume_settings(len(labels))
    return Proposal(f"arrays of {'volumes' if volume else 'pictures'}", tuple(choices))


def _first(file: Path) -> np.ndarray[Any, Any]:
    """The array of training images, or the first one."""
    splits = splits_of(file)
    official = find_official(set(splits))
    split = official["train"] if official else splits[0]
    return ARRAYS.array(file, f"{split}_images" if split else "images")


def _sides(array: np.ndarray[Any, Any], file: str) -> tuple[tuple[int, ...], bool]:
    """Slices, rows and columns of a row, and whether it is grey."""
    shape = array.shape[1:]
    if len(shape) == 3 and shape[-1] == 3:
        return shape[:2], False
    if len(shape) in (2, 3) and min(shape) >= 2:
        return shape, True
    raise UnsuitableDataError(
        f"images of {file} have shape {shape}; write (rows, columns), (rows, columns, 3) or (slices, rows, columns)."
    )


def _normalisation(array: np.ndarray[Any, Any], volume: bool) -> list[Choice]:
    """Mean and deviation of the levels; pictures keep those of ImageNet."""
    if not volume:
        return []
    full = _FULL.get(array.dtype.name)
    if full is None:
        raise DataError(f"images of type {array.dtype} need data.window; write a spec and pass it with --spec.")
    rows = array[:: -(-len(array) // _SAMPLE)] / full
    mean, deviation = round(float(rows.mean()), 3), round(max(float(rows.std()), 1e-3), 3)
    why = f"levels of {len(rows)} volumes have mean {mean} and standard deviation {deviation}"
    return [Choice("data.normalisation.mean", [mean], why), Choice("data.normalisation.std", [deviation])]
