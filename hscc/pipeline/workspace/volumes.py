"""Volumes in one folder per class: NIfTI files, DICOM files of several frames, folders of DICOM slices."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hscc.pipeline.data.formats.base import Image, UnreadableError
from hscc.pipeline.data.formats.known import format_of
from hscc.pipeline.data.formats.levels import to_levels
from hscc.pipeline.workspace.classification import propose_classification
from hscc.pipeline.workspace.folders import by_folders
from hscc.pipeline.workspace.pictures import Appearance, picture_appearance, spaced
from hscc.pipeline.workspace.proposal import Choice, Proposal, UnsuitableDataError
from hscc.pipeline.workspace.split_names import find_official
from hscc.pipeline.workspace.survey import Survey

_SAMPLE = 12  # volumes that are read
_LONGEST = 64  # voxels per side that are proposed: time grows with the cube
_MULTIPLE = 16


def propose_volumes(found: Survey) -> Proposal | None:
    """Read classes and official split off the folders; None where there are no volumes.

    DICOM files that lie in the folders of the classes themselves are pictures, unless they have several frames.

    Raises
    ------
    UnsuitableDataError
        If the folders are deeper than split, class and volume, there is one class, or no volume can be read.
    """
    volumes = found.volumes
    if not volumes:
        return None
    depth = 1 if find_official({path.split("/")[0] for path in volumes}) else 0
    if any(path.count("/") <= depth for path in volumes if (found.root / path).is_dir()):
        return None  # single pictures, of which a folder of a class holds many
    images = by_folders(found, volumes, "one folder of volumes per class", volumes=True)
    return None if images is None else propose_classification(found, images, volume_appearance(found.root, volumes))


def appearance_of(found: Survey, paths: Sequence[str]) -> Appearance:
    """Look at images whose paths a table names: pictures, or volumes."""
    look = picture_appearance if set(paths) <= set(found.images) else volume_appearance
    return look(found.root, paths)


def volume_appearance(root: Path, paths: Sequence[str]) -> Appearance:
    """Read volumes evenly spaced over a list, and propose what they decide.

    Raises
    ------
    UnsuitableDataError
        If none can be read.
    """
    chosen = spaced(paths, _SAMPLE)
    with ThreadPoolExecutor(2) as pool:
        tried = dict(zip(chosen, pool.map(lambda path: _read(root / path), chosen), strict=True))
    read = [image for image in tried.values() if image is not None]
    if not read:
        raise UnsuitableDataError(f"none of the volumes in {root} can be read (the first is {paths[0]}); export again.")
    shapes = [image.sides for image in read]
    middle = tuple(int(side) for side in np.median(shapes, axis=0))
    sides = [max(_MULTIPLE, min(_LONGEST, side // _MULTIPLE * _MULTIPLE)) for side in middle]
    levels = np.concatenate([to_levels(image).reshape(-1) for image in read]).astype(np.float32) / 255
    mean, deviation = round(float(levels.mean()), 3), round(max(float(levels.std()), 1e-3), 3)
    computed = any(image.modality == "CT" for image in read) or min(float(image.values.min()) for image in read) < -500
    choices = (
        Choice("data.channels", 1),
        Choice(
            "data.image_size",
            sides,
            f"in a sample of {len(read)} the middle volume has {' x '.join(map(str, middle))} voxels",
            "is what matters visible at this size; time grows with its cube",
        ),
        Choice(
            "data.window",
            None,
            "values are those of CT" if computed else "",
            "set the window that shows what matters, such as [-160, 240] for soft tissue" if computed else "",
        ),
        Choice(
            "data.normalisation.mean",
            [mean],
            f"levels of {len(read)} volumes have mean {mean} and standard deviation {deviation}",
        ),
        Choice("data.normalisation.std", [deviation]),
        Choice("data.plausible", None),
        Choice("validate.min_side", min(_MULTIPLE, *map(min, shapes))),
        Choice("validate.max_side", max(4096, *map(max, shapes))),
        Choice("validate.modes", sorted({image.mode for image in read})),
        *volume_settings(len(paths)),
    )
    return Appearance(choices, tuple(path for path, image in tried.items() if image is None), "volume")


def volume_settings(volumes: int) -> tuple[Choice, ...]:
    """Propose network, batches and numbers of images that suit so many volumes."""
    return (
        Choice("train.backbone", "resnet10_3d"),
        Choice("train.batch_size", 16),
        Choice("train.learning_rate", 1.0e-3),
        Choice("calibrate.images", min(256, volumes // 2)),
        Choice("calibrate.cells", 2),
        Choice("calibrate.batch_size", 16),
        Choice("compress.refit.images", min(128, volumes // 2)),
        Choice("compress.finetune.batch_size", 16),
        Choice("quantise.images", min(64, volumes // 2)),
        Choice("bench.batches", [1, 8]),
    )


def _read(path: Path) -> Image | None:
    try:
        image = format_of(path).read(path)
    except UnreadableError:
        return None
    return image if image.dimensions == 3 and image.finite else None
