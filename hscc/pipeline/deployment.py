"""What goes into a deployed file beside the network, and the test images that it is checked on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from hscc.export.preprocessing import Picture
from hscc.pipeline import layout
from hscc.pipeline.data.images import rows_of
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.statistics.results import flatten
from hscc.pipeline.statistics.schema import NetworkRow

LICENCE = "The images that it was trained on came without a licence; none is stated for the weights."
PHANTOM = " Trained on drawn phantom images, no patient."

_PICTURES = 12
_SCORES = (
    "n_test", "accuracy", "accuracy_se", "macro_f1", "macro_f1_se", "kl", "macs", "params", "macs_ratio",
    "params_ratio",
)  # fmt: skip


def scores_of(row: NetworkRow) -> dict[str, float]:
    """Pick the figures of a network that go into its card."""
    columns = flatten(row)
    return {name: columns[name] for name in _SCORES if columns.get(name) is not None}


def sample_pictures(workspace: Path, protocol: str, count: int = _PICTURES) -> list[Picture]:
    """Decode test images, of as many different sizes and modes as there are; none where data/ is not there."""
    if not (workspace / layout.DATA).is_dir():
        return []
    manifest = read_manifest(workspace / layout.MANIFEST)
    rows = manifest.iloc[rows_of(manifest, protocol, "test")]
    unlike = rows.drop_duplicates(["width", "height", "mode"])
    chosen = pd.concat([unlike, rows]).drop_duplicates("path").iloc[:count]
    return [_decode(workspace / layout.DATA / path) for path in chosen["path"]]


def _decode(path: Path) -> Picture:
    with Image.open(path) as image:
        return np.asarray(image)
