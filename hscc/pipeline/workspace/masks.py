"""Images with one mask each, in folders side by side: segmentation."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from hscc.pipeline.workspace.classification import about
from hscc.pipeline.workspace.pictures import look, picture_choices
from hscc.pipeline.workspace.proposal import Choice, Proposal, UnsuitableDataError
from hscc.pipeline.workspace.split_names import find_official, official_choice
from hscc.pipeline.workspace.survey import IMAGES, Survey

_PICTURES = ("image", "images", "img", "imgs")  # names of folders beside those of masks
_MASKS = ("mask", "manual", "segmentation", "annotation", "groundtruth", "ground_truth", "label", "fov")
_ENDINGS = (*IMAGES, ".gif")
_SAMPLE = 12  # masks that are opened
_MOST_CLASSES = 20
_ALIKE = 0.9999  # correlation above which thumbnails are copies
_FEW = 200  # images up to which the parameters are those for few
_LONGEST = 512  # pixels, of the sides that are proposed
_MULTIPLE = 16  # of the sides, for the U-Net


@dataclass(frozen=True)
class _Masks:
    """One folder of masks.

    Attributes
    ----------
    folder : str
        Name, beside that of the images.
    template : str
        Path of the mask of an image, with groups of the expression of the images.
    paths : tuple of str
        Of all masks, in the order of the images.
    levels : tuple of int
        Grey levels in a sample of them, ascending.
    share : float
        Of their pixels that are not 0.
    """

    folder: str
    template: str
    paths: tuple[str, ...]
    levels: tuple[int, ...]
    share: float


def propose_masks(found: Survey) -> Proposal | None:
    """Find which folder holds images and which their masks; None where no folders are named so.

    Raises
    ------
    UnsuitableDataError
        If no mask belongs to every image, or masks hold too many grey levels.
    """
    folders: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # by folder, by what is above it
    for path in found.ending_in(_ENDINGS):
        *above, folder, name = path.split("/") if path.count("/") else ("", path)
        if folder:
            folders[folder]["".join(f"{part}/" for part in above)].append(name)
    pictures = next((name for name in sorted(folders) if name.lower() in _PICTURES), None)
    others = [name for name in sorted(folders) if any(word in name.lower() for word in _MASKS)]
    if pictures is None or not others:
        return None
    images = [f"{above}{pictures}/{name}" for above, names in sorted(folders[pictures].items()) for name in names]
    expression = _expression(pictures, images)
    kept = [masks for name in others if (masks := _belonging(found, expression, images, name)) is not None]
    if not kept:
        raise UnsuitableDataError(
            f"{found.root} has images in {pictures} and no folder of {', '.join(others)} holds one mask for each of "
            "them, named by the image's name or first number; rename them, or pass a spec with --spec."
        )
    masks, field = _told_apart(kept)
    if len(masks.levels) > _MOST_CLASSES:
        raise UnsuitableDataError(
            f"the masks in {masks.folder} of {found.root} hold {len(masks.levels)} grey levels; write them as PNG with "
            "one level per class."
        )
    return _proposal(found, expression, images, masks, field)


def _expression(folder: str, images: Sequence[str]) -> str:
    """Expression of the images; groups: what is above their folder, the name, a number that all names begin with."""
    endings = "|".join(sorted({re.escape(PurePosixPath(path).suffix[1:]) for path in images}))
    numbered = all(re.match(r"\d+", PurePosixPath(path).name) for path in images)
    name = r"(\d+)[^/]*" if numbered else r"[^/]+"
    return rf"^(.*){re.escape(folder)}/({name})\.(?:{endings})$"


def _belonging(found: Survey, expression: str, images: Sequence[str], folder: str) -> _Masks | None:
    """The masks of a folder, where each image has one that is named by the same rule."""
    files = set(found.files)
    pattern = re.compile(expression)
    for template in _templates(found, pattern, images[0], folder):
        paths = tuple(_expanded(pattern, image, template) for image in images)
        if len(set(paths)) == len(paths) and files.issuperset(paths):
            return _Masks(folder, template, paths, *_opened(found, paths))
    return None


def _templates(found: Survey, pattern: re.Pattern[str], image: str, folder: str) -> Iterator[str]:
    """Rules that give some mask in the folder for the first image: its name, or number, and a constant rest."""
    matched = pattern.match(image)
    assert matched is not None
    beside = f"{matched[1]}{folder}/"
    for group in range(2, pattern.groups + 1):
        start = f"{beside}{matched[group]}"
        for path in found.files:
            rest = path.removeprefix(start)
            if path.startswith(start) and "/" not in rest and "\\" not in rest and not rest[:1].isdigit():
                yield rf"\g<1>{folder}/\g<{group}>{rest}"


def _expanded(pattern: re.Pattern[str], image: str, template: str) -> str:
    matched = pattern.match(image)
    assert matched is not None
    return matched.expand(template)


def _opened(found: Survey, paths: Sequence[str]) -> tuple[tuple[int, ...], float]:
    levels, shares = set(), []
    for path in [paths[int(place)] for place in np.linspace(0, len(paths) - 1, min(_SAMPLE, len(paths)))]:
        try:
            with Image.open(found.root / path) as opened:
                mask = np.asarray(opened.convert("L"))
        except (OSError, SyntaxError, ValueError) as error:
            raise UnsuitableDataError(f"{found.root / path} cannot be opened ({error}); replace it.") from error
        levels |= set(np.unique(mask).tolist())
        shares.append(float((mask > 0).mean()))
    return tuple(sorted(levels)), float(np.mean(shares))


def _told_apart(kept: Sequence[_Masks]) -> tuple[_Masks, _Masks | None]:
    """The masks, and those of the field of view: of several with two levels the ones that cover most."""
    fields = [masks for masks in kept if len(masks.levels) == 2]
    if len(kept) < 2 or not fields:
        return kept[0], None
    field = max(fields, key=lambda masks: masks.share)
    return next(masks for masks in kept if masks is not field), field


def _proposal(
    found: Survey, expression: str, images: Sequence[str], masks: _Masks, field: _Masks | None
) -> Proposal:  # fmt: skip
    classes = ["background", "foreground"] if len(masks.levels) == 2 else [f"level_{level}" for level in masks.levels]
    official = find_official({path.split("/")[0] for path in images})
    pictures = look(found.root, images)
    sizes = [min(header.width, header.height) for header in pictures.headers]
    side = min(_LONGEST, min(sizes)) // _MULTIPLE * _MULTIPLE
    few = len(images) <= _FEW
    values = {"images": expression, "mask": masks.template, "field": field.template if field else None}
    named = f"{masks.folder} holds one mask per image, not 0 in {masks.share:.0%} of it"
    covered = f"; {field.folder} covers {field.share:.0%} and is taken as the field of view" if field else ""
    held = Counter(path.split("/")[0] for path in images)
    shown = ", ".join(f"{name} {held[name]}" for name in (official or {}).values() if name is not None)
    tested = held[official["test"] or ""] if official else len(images) * 15 // 100
    choices = [
        Choice("data.task", "segmentation", f"{len(images)} images have a mask each", comment="one mask per image"),
        Choice("data.layout", "folders"),
        Choice("data.table", None),
        Choice(
            "data.masks",
            {**values, "values": dict(zip(classes, masks.levels, strict=True))},
            f"{named}{covered}",
            "are these the masks, and which class is which grey level",
        ),
        official_choice(
            official, f"the top folders are named as a split ({shown})", "no folders are named as training and test"
        ),
        Choice("data.group", None),
        Choice("data.classes", classes, f"the masks hold the grey levels {', '.join(map(str, masks.levels))}"),
        *(choice for choice in picture_choices(pictures) if choice.key != "data.image_size"),
        Choice(
            "data.image_size",
            max(_MULTIPLE, side),
            f"the shortest side is {min(sizes)} pixels; a multiple of {_MULTIPLE} for the U-Net",
            "is what matters visible at this size; time grows with its square",
        ),
        Choice(
            "data.near_duplicate",
            _ALIKE,
            "images of one organ, or of one round field, look alike when they are small",
            "does `hscc validate` find near-copies that are none",
        ),
        Choice("data.protocol", "official" if official else "grouped"),
        *about(found, ""),
        Choice("train.protocols", ["official" if official else "grouped"]),
        Choice("train.backbone", "unet"),
        Choice("train.patch", _patch(side), comment="pixels per side of the random patches; null for whole images"),
        Choice("train.batch_size", 8),
        Choice("train.learning_rate", 2.0e-3),
        Choice("train.label_smoothing", 0),
        Choice("calibrate.images", min(64, len(images))),
        Choice("calibrate.cells", 2 if few else 4),
        Choice("calibrate.batch_size", 2),
        Choice("compress.refit.images", max(8, min(64, len(images) // 4))),
        Choice("compress.finetune.batch_size", 2),
        Choice("compress.finetune.mixup", 0),
        Choice("latency.batches", [1]),
        Choice("quantise.images", min(32, len(images))),
        Choice("bench.batches", [1]),
        Choice("tradeoff.batches", [1]),
        Choice("evaluate.score", "dice"),
        Choice("insight.images", 8),
        Choice("promote.protocol", "official" if official else "grouped"),
        Choice("promote.min_images", max(2, min(100, tested))),
        Choice("validate.min_per_class", min(20, len(images))),
    ]
    return Proposal("one mask per image", tuple(choices))


def _patch(side: int) -> int | None:
    """Half of large images."""
    half = side // 2 // _MULTIPLE * _MULTIPLE
    return half if side >= 256 else None
