"""What was found inside the networks: rank maps, importance of clusters, class-activation maps, changed answers."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from hscc.errors import ArtifactError
from hscc.pipeline.data_spec import Texts
from hscc.pipeline.insight.changed_answers import GAINED, LOST, OTHER
from hscc.pipeline.insight.schema import (
    ActivationMaps,
    ClusterImportance,
    FlipCount,
    FlippedImage,
    ImportancePicture,
    Insight,
    LayerMap,
    MapOverlay,
    MapPicture,
    MapSimilarity,
)
from hscc.pipeline.names import cell_label
from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.table import Cell, Line, Measure, Table, cells_of, columns_of, figure, measure, words
from hscc.pipeline.score_names import score_label

LONGEST_SIDE = 640  # pixels: twice what a phone or a column of the page shows
_QUALITY = 80

HEADING = "Insight: which ranks are kept, and where the networks look"
_KINDS = {
    LOST: "Right before, wrong after",
    GAINED: "Wrong before, right after",
    OTHER: "Wrong before, another wrong class after",
}
_CLUSTERS = 12  # of the importance table


def insight_section(insight: Insight | None, folder: Path, texts: Texts) -> Section | Absent:
    """Lay out rank maps, importance of clusters, class-activation maps and changed answers.

    Parameters
    ----------
    insight : Insight or None
        What the stage wrote.
    folder : Path
        Where its pictures are.

    Returns
    -------
    Section or Absent
        Absent where the stage was not run.

    Raises
    ------
    ArtifactError
        If a picture that it names is missing.
    """
    if insight is None:
        return Absent(HEADING, "reports/insight.json is not there (dvc repro insight).")
    content = {
        "network": cell_label(insight.network),
        "networks": [(cell_label(entry.network), entry.words) for entry in insight.networks],
        "brightest": f"{100 * insight.rank_scale:.0f} %",
        "layers": [_layer(layer, folder) for layer in insight.layers],
        "importance": _importance(insight.importance, insight.classes, texts),
        "importance_pictures": [_importance_picture(entry, folder, texts) for entry in insight.importance_pictures],
        "cams": _maps(insight.cams, folder, texts) if insight.cams else None,
        "overlays": [_overlay(entry, insight.score, folder, texts) for entry in insight.overlays],
        "flip_counts": _flip_counts(insight.flip_counts),
        "flips": _gallery(insight.flips, folder, texts),
    }
    return Section("insight", HEADING, content)


@dataclass(frozen=True)
class Picture:
    """A picture to put into the page: its address and its size in pixels."""

    address: str
    width: int
    height: int


def embed(folder: Path, name: str, longest: int = LONGEST_SIDE) -> Picture:
    """Turn a picture into an address that holds its content.

    Parameters
    ----------
    folder : Path
        Where the pictures are.
    name : str
        File name in it.
    longest : int
        Pixels of its longest side, at most.

    Returns
    -------
    Picture
        WebP, as a ``data:`` address.

    Raises
    ------
    ArtifactError
        If the name leads out of the folder, or there is no such picture.
    """
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise ArtifactError(f"{folder} holds no picture {name}; run `hscc insight` again.")
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.thumbnail((longest, longest))
            image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=6)
            width, height = image.size
    except (UnidentifiedImageError, OSError) as error:
        raise ArtifactError(f"{path} is no picture; run `hscc insight` again.") from error
    return Picture(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height)


def _layer(layer: LayerMap, folder: Path) -> Mapping[str, Any]:
    said = layer.words + (_extremes(layer.rank_map) if layer.rank_map else "")
    return {
        "name": layer.layer,
        "words": layer.words,
        "alt": f"Share of the full rank at each place of layer {layer.layer}, over the mean image: {said}.",
        "picture": embed(folder, layer.picture) if layer.picture else None,
    }


def _extremes(rank_map: Sequence[Sequence[float]]) -> str:
    """Where a map is highest and lowest, in words; nothing for a flat one."""
    kept = np.asarray(rank_map, dtype=float)
    if kept.size < 2 or kept.min() == kept.max():
        return ""
    highest, lowest = (divmod(int(place), kept.shape[1]) for place in (kept.argmax(), kept.argmin()))
    return (
        f"; most {_place(highest, kept.shape)}, {100 * kept.max():.0f} %, least {_place(lowest, kept.shape)}, "
        f"{100 * kept.min():.0f} %"
    )


def _place(index: tuple[int, int], shape: tuple[int, ...]) -> str:
    """Third of the picture in which a cell lies, in words."""
    down = ("at the top", "in the middle", "at the bottom")[int(3 * (index[0] + 0.5) / shape[0])]
    across = ("left", "centre", "right")[int(3 * (index[1] + 0.5) / shape[1])]
    return f"{down} {across}"


def _importance_picture(entry: ImportancePicture, folder: Path, texts: Texts) -> Mapping[str, Any]:
    label = texts.name(entry.label)
    alt = f"Importance of the regions of layer {entry.layer} to {label}, over the class's mean image."
    return {"label": label, "alt": alt, "picture": embed(folder, entry.picture)}


def _importance(entries: Sequence[ClusterImportance], classes: Sequence[str], texts: Texts) -> Table | None:
    """Tabulate the clusters that matter most to any class; None where none was measured."""
    if not entries:
        return None
    top = sorted(entries, key=lambda entry: -max(abs(value or 0.0) for value in entry.per_class))[:_CLUSTERS]
    measures: list[Measure[ClusterImportance]] = [
        measure("channels", lambda entry: figure(entry.channels, 0)),
        measure("rank", lambda entry: figure(entry.rank, 0)),
        *(measure(texts.name(name), _importance_to(place)) for place, name in enumerate(classes)),
    ]
    lines = tuple(Line(f"{entry.layer}, {entry.region}, {entry.cluster}", cells_of(entry, measures)) for entry in top)
    caption = (
        f"The {len(top)} clusters of {len(entries)} that matter most to any class: logits lost without them, ± one "
        "standard error"
    )
    return Table(caption, "layer, region, cluster", columns_of(measures), lines)


def _importance_to(place: int) -> Callable[[ClusterImportance], Cell]:
    return lambda entry: _with_error(entry.per_class[place], entry.per_class_se[place])


def _with_error(value: float | None, error: float | None) -> Cell:
    return figure(value, 3, aside="" if error is None else f"± {error:.3f}")


def _maps(cams: ActivationMaps, folder: Path, texts: Texts) -> Mapping[str, Any]:
    return {
        "method": cams.method,
        "library": cams.library,
        "layer": cams.layer,
        "similarity": _similarity(cams.similarity, texts) if cams.similarity else None,
        "pictures": [_map_picture(entry, folder, texts) for entry in cams.pictures],
    }


def _similarity(entries: Sequence[MapSimilarity], texts: Texts) -> Table:
    measures: list[Measure[MapSimilarity]] = [
        measure("network", lambda entry: words(cell_label(entry.network))),
        measure("images", lambda entry: figure(entry.n, 0)),
        measure("correlation", lambda entry: _with_error(entry.mean, entry.se)),
        measure("rank correlation", lambda entry: _with_error(entry.spearman, entry.spearman_se)),
        measure("overlap", lambda entry: _with_error(entry.iou, entry.iou_se)),
    ]
    lines = tuple(Line(texts.name(entry.label), cells_of(entry, measures)) for entry in entries)
    caption = "Similarity of the maps before and after compression, by true class, ± one standard error; 1 is the same"
    return Table(caption, "class", columns_of(measures), lines)


def _map_picture(entry: MapPicture, folder: Path, texts: Texts) -> Mapping[str, Any]:
    label, dense, small = (texts.name(name) for name in (entry.label, entry.dense_predicted, entry.small_predicted))
    said = f"{entry.example}, similarity {entry.similarity:.2f}; dense: {dense}, compressed: {small}"
    return {
        "label": label,
        "network": cell_label(entry.network),
        "said": said,
        "alt": f"{_begun(texts.subject)} of {label}, and where both networks look in it: {said}.",
        "path": entry.path,
        "picture": embed(folder, entry.picture),
    }


def _overlay(entry: MapOverlay, score: str, folder: Path, texts: Texts) -> Mapping[str, Any]:
    said = f"{score_label(score)} {100 * entry.dense:.1f} % dense, {100 * entry.small:.1f} % compressed"
    return {
        "network": cell_label(entry.network),
        "said": said,
        "alt": f"{_begun(texts.subject)} as it is, with the dense and with the compressed network's mask: {said}.",
        "path": entry.path,
        "picture": embed(folder, entry.picture, 2 * LONGEST_SIDE),
    }


def _flip_counts(entries: Sequence[FlipCount]) -> Table | None:
    if not entries:
        return None
    measures: list[Measure[FlipCount]] = [
        measure("changed", lambda entry: figure(entry.flips, 0)),
        measure("lost", lambda entry: figure(entry.lost, 0)),
        measure("gained", lambda entry: figure(entry.gained, 0)),
        measure("other", lambda entry: figure(entry.other, 0)),
        measure("of images", lambda entry: figure(entry.images, 0)),
    ]
    lines = tuple(Line(cell_label(entry.network), cells_of(entry, measures)) for entry in entries)
    caption = "Test images to which a compressed network gives another class than the dense one"
    return Table(caption, "network", columns_of(measures), lines)


def _gallery(flips: Sequence[FlippedImage], folder: Path, texts: Texts) -> list[Mapping[str, Any]]:
    """Images with another answer, by network and kind, in the order in which they come."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for flip in flips:
        groups.setdefault((flip.network, flip.kind), []).append(_flip(flip, folder, texts))
    return [
        {"network": cell_label(network), "heading": _KINDS[kind], "flips": shown}
        for (network, kind), shown in groups.items()
    ]


def _flip(flip: FlippedImage, folder: Path, texts: Texts) -> Mapping[str, Any]:
    label = texts.name(flip.label)
    dense, small = (max(found, key=found.__getitem__) for found in (flip.dense, flip.small))
    said = (
        f"dense: {texts.name(dense)} at {100 * flip.dense[dense]:.0f} %, compressed: {texts.name(small)} at "
        f"{100 * flip.small[small]:.0f} %"
    )
    return {
        "label": label,
        "alt": f"{_begun(texts.subject)} of {label}; {said}.",
        "path": flip.path,
        "picture": embed(folder, flip.picture),
        "bars": [
            {"label": texts.name(name), "dense": p, "small": flip.small[name], "true": name == flip.label}
            for name, p in flip.dense.items()
        ],
    }


def _begun(words: str) -> str:
    """Begin a sentence with these words; `str.capitalize` would make an X-ray an x-ray."""
    return words[:1].upper() + words[1:]
