"""What goes into a deployed file beside the network, and the test images that it is checked on."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from PIL import Image

from hscc.errors import ExportError
from hscc.export.preprocessing import Picture, Preprocessing
from hscc.networks.storage import ModelCard
from hscc.pipeline import layout
from hscc.pipeline.data.images import rows_of
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.data_spec import DataSpec
from hscc.pipeline.statistics.results import flatten
from hscc.pipeline.statistics.schema import NetworkRow

PHANTOM = " Trained on drawn phantom images, no patient."

_PICTURES = 12
_SCORES = (
    "n_test", "{score}", "{score}_se", "macro_f1", "macro_f1_se", "kl", "macs", "params", "macs_ratio",
    "params_ratio",
)  # fmt: skip


class AboutData(TypedDict):
    """What the card of a deployed file says of the data; see `hscc.export.card.DeploymentCard`."""

    data: str
    subject: str
    class_names: dict[str, str]
    plausible: dict[str, object]
    licence: str


def about_data(spec: DataSpec) -> AboutData:
    """Pick what goes into a card out of a data spec."""
    return {
        "data": spec.texts.title,
        "subject": spec.texts.subject,
        "class_names": {name: spec.texts.name(name) for name in spec.classes},
        "plausible": spec.plausible.model_dump() if spec.plausible else {},
        "licence": spec.texts.licence,
    }


def preprocessing_of(source: DataSpec | ModelCard) -> Preprocessing:
    """What turns a picture into the input of a network of the pipeline.

    Raises
    ------
    ExportError
        If the network takes volumes.
    """
    normalisation, size = source.normalisation, source.image_size
    if not isinstance(size, int):
        if len(size) != 2:
            raise ExportError(
                "the network takes volumes, and the deployed form pictures; use the bare network, model.onnx."
            )
        size = (size[0], size[1])
    return Preprocessing(size, tuple(normalisation.mean), tuple(normalisation.std), grey=source.channels == 1)


def scores_of(row: NetworkRow) -> dict[str, float]:
    """Pick the figures of a network that go into its card."""
    columns = flatten(row)
    names = dict.fromkeys(name.format(score=row.score) for name in _SCORES)
    return {name: columns[name] for name in names if columns.get(name) is not None}


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
