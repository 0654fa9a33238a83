"""What images look like, and what follows for the spec: channels, sizes, pixel modes, plausible input."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from hscc.pipeline.data.formats.base import Image as Values
from hscc.pipeline.data.formats.base import UnreadableError
from hscc.pipeline.data.formats.dicom import Dicom
from hscc.pipeline.data.formats.levels import to_levels
from hscc.pipeline.workspace.proposal import Choice, UnsuitableDataError

HEADERS = 20_000  # files whose header is read, at most, evenly spaced
SAMPLE = 96  # files that are decoded
DICOM = 500  # DICOM files, which are read whole
SIDES = (32, 48, 64, 96, 128, 160, 192, 224)
_GREY = 1.0  # mean spread of red, green and blue below which a picture is grey, 0 to 255
_DARK = 50  # grey level below which the border is dark
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
_DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Header(NamedTuple):
    """Width and height in pixels, and Pillow's mode."""

    width: int
    height: int
    mode: str


@dataclass(frozen=True)
class Pixels:
    """One decoded picture: spread of its colours, contrast (both 0 to 255) and dark share of its border."""

    colour: float
    contrast: float
    dark_border: float


@dataclass(frozen=True)
class Pictures:
    """Headers of many images and pixels of some; files that could not be opened; what DICOM files say of themselves."""

    headers: tuple[Header, ...]
    pixels: tuple[Pixels, ...]
    damaged: tuple[str, ...]
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Appearance:
    """What the images themselves decide of a spec, the files that could not be read, and the word for an image."""

    choices: tuple[Choice, ...]
    damaged: tuple[str, ...]
    image: str = "image"


def look(root: Path, paths: Sequence[str]) -> Pictures:
    """Open images evenly spaced over a list.

    Raises
    ------
    UnsuitableDataError
        If none can be opened.
    """
    dicom = [path for path in paths if Dicom().takes(root / path)]
    held = set(dicom)
    others = [path for path in paths if path not in held]
    chosen, few = spaced(others, HEADERS), spaced(others, SAMPLE)
    with ThreadPoolExecutor() as pool:
        headers = dict(zip(chosen, pool.map(lambda path: _header(root / path), chosen), strict=True))
        pixels = [found for found in pool.map(lambda path: _pixels(root / path), few) if found is not None]
        whole = spaced(dicom, DICOM)
        images = dict(zip(whole, pool.map(lambda path: _dicom(root / path), whole), strict=True))
    headers |= {path: None if image is None else _header_of(image) for path, image in images.items()}
    slices = [image for image in images.values() if image is not None]
    pixels += [_pixels_of(image) for image in slices[:SAMPLE]]
    read = tuple(header for header in headers.values() if header is not None)
    if not read or not pixels:
        raise UnsuitableDataError(
            f"none of the images in {root} can be opened (the first is {paths[0]}); convert them to PNG."
        )
    return Pictures(
        read,
        tuple(pixels),
        tuple(path for path, header in headers.items() if header is None),
        tuple(sorted({image.modality for image in slices if image.modality})),
        tuple(sorted({image.body_part for image in slices if image.body_part})),
    )


def picture_appearance(root: Path, paths: Sequence[str]) -> Appearance:
    """Open pictures evenly spaced over a list, and propose what they decide.

    Raises
    ------
    UnsuitableDataError
        If none can be opened.
    """
    pictures = look(root, paths)
    return Appearance(tuple(picture_choices(pictures)), pictures.damaged)


def picture_choices(pictures: Pictures) -> list[Choice]:
    """Propose what images alone decide: channels, size, border, plausible input and limits of validation."""
    headers, pixels = pictures.headers, pictures.pixels
    colour = median(picture.colour for picture in pixels)
    grey = colour <= _GREY
    shorter = sorted(min(header.width, header.height) for header in headers)
    longer = max(max(header.width, header.height) for header in headers)
    oblong = max(max(header[:2]) / min(header[:2]) for header in headers)
    side = next((side for side in reversed(SIDES) if side <= median(shorter)), 16 * max(1, int(median(shorter)) // 16))
    dark = median(picture.dark_border for picture in pixels)
    contrast = min(picture.contrast for picture in pixels)
    modes = Counter(header.mode for header in headers)
    sizes = Counter(header[:2] for header in headers)
    same = f"all are {headers[0].width} x {headers[0].height}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    others = sorted(set(modes) - {"L", "RGB"})
    deep = sum(count for mode, count in modes.items() if mode.startswith(("I", "F")) or mode.endswith("16"))
    return [
        Choice(
            "data.channels",
            1 if grey else 3,
            f"red, green and blue {'are equal' if grey else f'differ by {colour:.0f} of 255 on average'} in a sample "
            f"of {len(pixels)} images",
        ),
        Choice(
            "data.image_size",
            side,
            f"half of the images have at least {median(shorter):.0f} pixels on the shorter side ({same})",
            "is what matters visible at this size; time grows with its square, and 128 is often enough without a GPU",
        ),
        Choice(
            "data.augmentation.outside",
            "black" if dark >= 0.3 else "edge",
            f"{dark:.0%} of the border of an image is dark",
            "is a mirrored or turned image still one that could occur (data.augmentation)",
        ),
        Choice("data.plausible.modalities", list(pictures.modalities)),
        Choice("data.plausible.body_parts", list(pictures.body_parts)),
        Choice("data.plausible.sides", [min(64, shorter[0]), max(4096, longer)]),
        Choice("data.plausible.max_oblong", max(2.0, math.ceil(2 * oblong) / 2)),
        Choice("data.plausible.max_colour", 8.0 if grey else None),
        Choice("data.plausible.min_contrast", float(min(15, math.floor(contrast / 2)))),
        Choice("data.plausible.min_dark_border", None),
        Choice("data.plausible.max_corner", None),
        Choice("validate.min_side", min(64, shorter[0]), f"the shortest is {shorter[0]} pixels" * (shorter[0] < 64)),
        Choice("validate.max_side", max(4096, longer), f"the longest is {longer} pixels" * (longer > 4096)),
        Choice(
            "validate.modes",
            ["L", "RGB", *others],
            ", ".join(f"{modes[mode]} images are {mode}" for mode in others),
            f"{deep} images have more than 8 bits; do data.window and docs/data.md say how they are shown"
            if deep
            else "",
        ),
    ]


def spaced(paths: Sequence[str], count: int) -> list[str]:
    """Take so many of a list, evenly spaced, or all of a shorter one."""
    if len(paths) <= count:
        return list(paths)
    return [paths[int(place)] for place in np.linspace(0, len(paths) - 1, count)]


def _header(path: Path) -> Header | None:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return Header(image.width, image.height, image.mode)
    except _DAMAGE:
        return None


def _pixels(path: Path) -> Pixels | None:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            colour = np.asarray(image.convert("RGB"), dtype=np.float32)
            grey = np.asarray(image.convert("L"), dtype=np.float32)
    except _DAMAGE:
        return None
    return _measured(float((colour.max(2) - colour.min(2)).mean()), grey)


def _measured(spread: float, grey: npt.NDArray[np.floating]) -> Pixels:
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return Pixels(spread, float(grey.std()), float((border < _DARK).mean()))


def _dicom(path: Path) -> Values | None:
    try:
        image = Dicom().read(path)
    except UnreadableError:
        return None
    return image if image.dimensions == 2 and image.finite else None


def _header_of(image: Values) -> Header:
    return Header(image.sides[1], image.sides[0], image.mode)


def _pixels_of(image: Values) -> Pixels:
    levels = to_levels(image).astype(np.float32)
    if levels.ndim == 2:
        return _measured(0.0, levels)
    return _measured(float((levels.max(2) - levels.min(2)).mean()), levels.mean(2))
