"""What a proposal for labelled images has in common, however the labels are given."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hscc.errors import first_few
from hscc.pipeline.data.formats.known import format_of
from hscc.pipeline.workspace.pictures import Appearance
from hscc.pipeline.workspace.proposal import Choice, Proposal, UnsuitableDataError
from hscc.pipeline.workspace.survey import Survey

_LEAKED = 0.01  # share of official test images that are copies of training images, above which the split is not used
_BALANCED = 3.0  # largest class over smallest, up to which plain accuracy is proposed
_MANY_CLASSES = 200


@dataclass(frozen=True)
class Labelled:
    """Images with their labels, as the spec's layout finds them.

    Attributes
    ----------
    kind : str
        Of data, in words.
    paths, labels, splits : tuple of str
        One each per image; splits are "" without an official split.
    layout : tuple of Choice
        ``data.layout``, ``data.table``, ``data.official`` and ``data.group``.
    official : mapping or None
        As `hscc.pipeline.workspace.split_names.find_official` returns it.
    subject : str
        What images of one group have in common, such as patient.
    warnings : tuple of str
        Of the layout.
    """

    kind: str
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    layout: tuple[Choice, ...]
    official: Mapping[str, str | None] | None
    subject: str
    warnings: tuple[str, ...] = ()


def propose_classification(found: Survey, images: Labelled, appearance: Appearance) -> Proposal:
    """Propose all that follows from labelled images.

    Raises
    ------
    UnsuitableDataError
        If there is one class, or more than a classifier could have.
    """
    counts = Counter(images.labels)
    if len(counts) < 2:
        raise UnsuitableDataError(
            f"{found.root} has one class, {next(iter(counts))!r} ({images.kind}); a classifier needs two or more, so "
            "add a folder or a label for what is not of that class."
        )
    if len(counts) > _MANY_CLASSES:
        raise UnsuitableDataError(
            f"{found.root} would have {len(counts)} classes ({images.kind}), such as {next(iter(counts))!r}; write a "
            "CSV file with the columns path and label and put it there."
        )
    classes = Choice("data.classes", sorted(counts), f"images of each: {counted(counts)}")
    return proposed(found, images, appearance, classes, min(counts.values()), importance_of(counts))


def counted(counts: Mapping[str, int]) -> str:
    """Say how many images there are of each class or label."""
    shown = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())[:8])
    return f"{shown}{', ...' if len(counts) > 8 else ''}"


def proposed(
    found: Survey, images: Labelled, appearance: Appearance, classes: Choice, rarest: int, judged: Sequence[Choice]
) -> Proposal:
    """Propose what does not depend on the kind of labels.

    Parameters
    ----------
    found, images, appearance
        The data.
    classes : Choice
        ``data.classes``.
    rarest : int
        Images of the rarest class.
    judged : sequence of Choice
        By which networks are judged, and what else follows from the kind of labels.
    """
    protocol, why = _protocol(found, images)
    testing = sum(split == images.official["test"] for split in images.splits) if images.official else 0
    choices = [
        *images.layout,
        classes,
        *appearance.choices,
        Choice("data.protocol", protocol, why),
        *about(found, images.subject),
        Choice("data.texts.image", appearance.image),
        Choice(
            "validate.min_per_class", min(20, rarest), f"the rarest class has {rarest} images" if rarest < 20 else ""
        ),
        Choice("train.protocols", [protocol]),
        *judged,
        Choice("promote.protocol", protocol),
        Choice("promote.min_images", max(2, min(100, testing or len(images.paths) * 15 // 100))),
    ]
    return Proposal(images.kind, tuple(choices), (*images.warnings, *_warnings(images, appearance.damaged)))


def importance_of(counts: Mapping[str, int]) -> list[Choice]:
    """Score that networks are judged by, and weights in training, such that the largest class does not decide alone."""
    ratio = max(counts.values()) / min(counts.values())
    if ratio <= _BALANCED:
        return [Choice("evaluate.score", "accuracy")]
    why = f"the largest class is {ratio:.0f} times the smallest"
    return [
        Choice("evaluate.score", "balanced_accuracy", why, "is every class as important as any other"),
        Choice(
            "train.class_weights",
            "balanced",
            comment="of the images in the training loss: equal, or balanced so that all classes count alike",
        ),
    ]


def _protocol(found: Survey, images: Labelled) -> tuple[str, str]:
    if images.official is None:
        return "grouped", "there is no split of the data set's own; near-copies and groups stay together"
    copied, tested = _copies(found, images)
    if copied > _LEAKED * tested:
        return "grouped", (
            f"{copied} of {tested} test images are byte for byte among the training images, so that figures of the "
            "official split would be too good"
        )
    return "official", f"the data set has its own test images, and {copied} of {tested} are also training images"


def _copies(found: Survey, images: Labelled) -> tuple[int, int]:
    """Count test images with the bytes of a training image, and test images; only files of equal size are read."""
    assert images.official is not None
    sizes: dict[int, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    tested = 0
    for path, split in zip(images.paths, images.splits, strict=True):
        if split in (images.official["train"], images.official["test"]):
            place = int(split == images.official["test"])
            sizes[_bytes(found.root / path)][place].append(path)
            tested += place
    copied = 0
    for training, testing in sizes.values():
        if training and testing:
            known = {_digest(found.root / path) for path in training}
            copied += sum(_digest(found.root / path) in known for path in testing)
    return copied, tested


def _bytes(image: Path) -> int:
    """Bytes of a file, or of all slices in a folder."""
    return sum(file.stat().st_size for file in image.iterdir()) if image.is_dir() else image.stat().st_size


def _digest(image: Path) -> str:
    return format_of(image).content(image)[1]


def about(found: Survey, subject: str) -> list[Choice]:
    """Texts and names that the folder's name stands in for.

    Parameters
    ----------
    found : Survey
        The data.
    subject : str
        What images of one group have in common, such as patient; "" where nothing is known.
    """
    title = re.sub(r"[-_]+", " ", found.root.name).strip() or "images"
    slug = re.sub(r"[^a-z0-9]+", "-", found.root.name.lower()).strip("-") or "images"
    return [
        Choice("data.texts.title", title, "the name of the folder", "do data.texts say what the images are"),
        Choice("data.texts.modality", title),
        Choice("data.texts.image", "image"),
        Choice("data.texts.group", subject or "group"),
        Choice("data.texts.expert", "expert"),
        Choice("data.texts.classes", {}),
        Choice("data.texts.licence", "Nothing is stated about the licence of the images that it was trained on."),
        Choice("data.remarks", []),
        Choice("register.name", f"hscc-{slug}", "the name of the folder"),
    ]


def _warnings(images: Labelled, damaged: Sequence[str]) -> list[str]:
    found = []
    if damaged:
        found.append(f"{first_few(damaged)} cannot be opened as images; replace or remove them")
    if images.official is not None:
        parts = {
            part: {label for label, split in zip(images.labels, images.splits, strict=True) if split == name}
            for part, name in images.official.items()
            if name is not None
        }
        for part, labels in parts.items():
            lacking = sorted(set(images.labels) - labels)
            if lacking:
                found.append(
                    f"{images.official[part]} has no image of {first_few(lacking)}; add some, or set official: null"
                )
    return found
