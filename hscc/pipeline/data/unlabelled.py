"""Further images without labels, for fine-tuning alone: a folder beside the data set, pinned by its hash as that is.

None of them may show what a network is judged by: a near-copy of an image outside the training split is left out, and
so is an image of a subject that has one there.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from hscc.errors import DataError, ParamsError, first_few
from hscc.files import replacing
from hscc.pipeline import layout
from hscc.pipeline.data.formats.known import images_in
from hscc.pipeline.data.formats.levels import Levels
from hscc.pipeline.data.images import load_images, rows_of
from hscc.pipeline.data.listing import SUBJECT, subject_of
from hscc.pipeline.data.manifest import inspect_files
from hscc.pipeline.data.near_duplicates import near_duplicate_groups
from hscc.pipeline.data.sources.pin import directory_hash, hash_files
from hscc.pipeline.data_spec import DataSpec, Unlabelled
from hscc.training.checkpoint import identity_of

_KEY = "compress.finetune.unlabelled"


def read_unlabelled(
    chosen: Unlabelled, manifest: pd.DataFrame, spec: DataSpec, protocol: str, fewest: int, workspace: Path
) -> Levels:
    """Decode the images of a folder that none of the validation and test images of a protocol is a near-copy of.

    Parameters
    ----------
    chosen : Unlabelled
        Folder and hash.
    manifest : pandas.DataFrame
        Of the data set.
    spec : DataSpec
        Size, channels and window of its images, groups, and how alike near-copies are.
    protocol : str
        Split protocol.
    fewest : int
        Images that a batch takes.
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    ndarray of uint8
        See `hscc.pipeline.data.images.load_images`.

    Raises
    ------
    ParamsError
        If the folder's files are not those that were pinned.
    DataError
        If the folder is missing, an image in it is damaged, or too few are left.
    """
    root = workspace / chosen.folder
    if not root.is_dir():
        raise DataError(f"the folder {root} does not exist; correct {_KEY}.folder of {workspace / layout.PARAMS}.")
    files = hash_files(root, workspace / layout.UNLABELLED / "hashes.json")
    found = directory_hash(files)
    if found != chosen.md5:
        raise ParamsError(
            f"{root} is not what {_KEY}.md5 of {workspace / layout.PARAMS} pins; "
            f"if its images are the right ones, write {found} there."
        )
    rest = manifest.iloc[np.setdiff1d(np.arange(len(manifest)), rows_of(manifest, protocol, "train"))]
    key = identity_of(found, rest["sha256"].tolist(), spec.near_duplicate, spec.group, list(spec.sides), spec.window)
    path = workspace / layout.UNLABELLED / f"{key}.csv"
    if not path.is_file():
        kept = _apart(root, images_in(root, list(files), volumes=not spec.pictures), rest, spec, workspace)
        with replacing(path, shared=True) as new:
            kept.to_csv(new, index=False)
    kept = pd.read_csv(path, dtype=str, keep_default_na=False)
    if len(kept) < fewest:
        raise DataError(
            f"{root} has {len(kept)} images that are no near-copies of validation or test images, fewer than a batch "
            f"of {fewest}; add some, or set {_KEY}: null."
        )
    return load_images(kept, root, spec.sides, workspace / layout.IMAGE_CACHE, spec.channels, spec.window)


def _apart(root: Path, images: list[str], rest: pd.DataFrame, spec: DataSpec, workspace: Path) -> pd.DataFrame:
    """Path and sha256 of the images that share neither a near-copy nor a subject with the rest of the data set."""
    new = inspect_files(root, images, len(spec.sides), spec.window)
    damaged = [path for path, fact in zip(images, new, strict=True) if not fact.decodable]
    if damaged:
        raise DataError(f"{root} holds what is no image of the data set's kind: {first_few(damaged)}; remove it.")
    known = inspect_files(workspace / layout.DATA, rest["path"].tolist(), len(spec.sides), spec.window)
    facts = [*new, *known]
    thumbnails = np.stack([fact.thumbnail for fact in facts])
    groups = near_duplicate_groups(thumbnails, [fact.sha256 for fact in facts], spec.near_duplicate)
    subjects = {*rest[SUBJECT]} - {""} if SUBJECT in rest else set()
    pattern = re.compile(spec.group) if spec.group is not None else None
    apart = [
        group not in groups[len(new) :] and (pattern is None or subject_of(pattern, path) not in subjects)
        for path, group in zip(images, groups[: len(new)].tolist(), strict=True)
    ]
    frame = pd.DataFrame({"path": images, "sha256": [fact.sha256 for fact in new]})
    return frame[apart]
