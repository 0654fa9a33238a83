"""What goes into a deployed file beside the network, and the test images that it is checked on."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import pandas as pd

from hscc.export.preprocessing import Picture, Preprocessing
from hscc.networks.storage import ModelCard
from hscc.pipeline import layout
from hscc.pipeline.data.formats.known import format_of
from hscc.pipeline.data.formats.levels import decode, to_levels
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
    window: tuple[float, float] | None


def about_data(spec: DataSpec) -> AboutData:
    """Pick what goes into a card out of a data spec."""
    return {
        "data": spec.texts.title,
        "subject": spec.texts.subject,
        "class_names": {name: spec.texts.name(name) for name in spec.classes},
        "plausible": spec.plausible.model_dump() if spec.plausible else {},
        "licence": spec.texts.licence,
        "window": spec.window,
    }


def preprocessing_of(source: DataSpec | ModelCard) -> Preprocessing:
    """What turns a picture or volume into the input of a network of the pipeline."""
    normalisation = source.normalisation
    return Preprocessing(
        _numbers(source.image_size), tuple(normalisation.mean), tuple(normalisation.std), grey=source.channels == 1
    )


def _numbers(size: int | tuple[int, ...]) -> int | tuple[int, int] | tuple[int, int, int]:
    if isinstance(size, int):
        return size
    return (size[0], size[1]) if len(size) == 2 else (size[0], size[1], size[2])


def scores_of(row: NetworkRow) -> dict[str, float]:
    """Pick the figures of a network that go into its card."""
    columns = flatten(row)
    names = dict.fromkeys(name.format(score=row.score) for name in _SCORES)
    return {name: columns[name] for name in names if columns.get(name) is not None}


def sample_pictures(
    workspace: Path, spec: DataSpec | ModelCard, protocol: str, count: int = _PICTURES
) -> list[Picture]:
    """Decode test images, of as many different sizes and modes as there are; none where data/ is not there.

    Levels of a picture in its own size, of a volume in the size that a network takes.
    """
    if not (workspace / layout.DATA).is_dir():
        return []
    manifest = read_manifest(workspace / layout.MANIFEST)
    rows = manifest.iloc[rows_of(manifest, protocol, "test")]
    unlike = rows.drop_duplicates(["width", "height", "mode"])
    chosen = pd.concat([unlike, rows]).drop_duplicates("path").iloc[:count]
    return [_decode(workspace / layout.DATA / path, spec) for path in chosen["path"]]


def _decode(path: Path, spec: DataSpec | ModelCard) -> Picture:
    image = format_of(path).read(path)
    if len(spec.sides) == 3:
        return decode(image, spec.sides, spec.channels, spec.window, str(path))
    return to_levels(image, spec.window)
