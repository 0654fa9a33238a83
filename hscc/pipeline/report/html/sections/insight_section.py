"""Pictures inside the page: small, and nothing but what a named folder holds."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from hscc.errors import ArtifactError
from hscc.pipeline.names import class_label, network_label
from hscc.pipeline.report.html.sections.section import Absent, Column, Line, Section, Table, figure, words

LONGEST_SIDE = 640  # pixels: twice what a phone or a column of the page shows
_QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """A picture to put into the page: its address and its size in pixels."""

    address: str
    width: int
    height: int


def embed(folder: Path, name: str) -> Picture:
    """Turn a picture into an address that holds its content.

    Parameters
    ----------
    folder : Path
        Where the pictures are.
    name : str
        File name in it.

    Returns
    -------
    Picture
        WebP of at most `LONGEST_SIDE` pixels a side, as a ``data:`` address.

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
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=6)
            width, height = image.size
    except (UnidentifiedImageError, OSError) as error:
        raise ArtifactError(f"{path} is no picture; run `hscc insight` again.") from error
    return Picture(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height)


HEADING = "Insight: what survives, and where it looks"
_KINDS = {
    "lost": "Right before, wrong after",
    "gained": "Wrong before, right after",
    "other": "Wrong before, another wrong class after",
}
_CLUSTERS = 12  # of the importance table
_CELL = re.compile(r"(?P<method>\w+)-(?P<budget>[\d.]+)-\d+")


def insight_section(insight: Mapping[str, Any] | None, folder: Path) -> Section | Absent:
    """Lay out rank maps, importance of clusters, class-activation maps and flipped images.

    Parameters
    ----------
    insight : mapping or None
        Content of ``insight.json``.
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
    classes = insight["classes"]
    cams: Mapping[str, Any] = insight.get("cams") or {}
    scale = insight.get("rank_scale")
    content = {
        "network": _name(insight["network"]),
        "networks": [{**entry, "network": _name(entry["network"])} for entry in insight.get("networks") or ()],
        "brightest": None if scale is None else f"{100 * scale:.0f} %",
        "layers": [_layer(layer, folder) for layer in insight.get("layers") or ()],
        "importance": _importance(insight.get("importance") or (), classes),
        "importance_pictures": [_worth(entry, folder) for entry in insight.get("importance_pictures") or ()],
        "cams": {
            "method": cams.get("method", "class-activation maps"),
            "library": cams.get("library", ""),
            "layer": cams.get("layer", ""),
            "similarity": _similarity(cams.get("similarity") or ()),
            "pictures": [_cam(entry, folder) for entry in cams.get("pictures") or ()],
        },
        "flip_counts": _flip_counts(insight.get("flip_counts") or ()),
        "flips": _gallery(insight.get("flips") or (), folder),
    }
    return Section("insight", HEADING, content)


def _name(cell: str) -> str:
    """A cell's name in running text; any other name stays as it is."""
    found = _CELL.fullmatch(cell)
    return network_label({"method": found["method"], "budget": float(found["budget"])}) if found else cell


def _layer(layer: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    words = layer.get("words") or ""
    where = _extremes(layer["rank_map"]) if layer.get("rank_map") else ""
    return {
        "name": layer["layer"],
        "words": words,
        "alt": f"Share of the full rank at each place of layer {layer['layer']}, over the mean image: {words}{where}.",
        "picture": embed(folder, layer["picture"]) if layer.get("picture") else None,
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


def _worth(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    label = class_label(entry["class"])
    alt = f"What the regions of layer {entry['layer']} are worth to {label}, over the class's mean image."
    return {"label": label, "alt": alt, "picture": embed(folder, entry["picture"])}


def _importance(entries: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Table | None:
    """The clusters that are worth most to any class; None where none was measured."""
    if not entries:
        return None
    top = sorted(entries, key=lambda entry: -max(abs(value or 0.0) for value in entry["per_class"]))[:_CLUSTERS]
    return Table(
        f"The {len(top)} clusters of {len(entries)} that are worth most to any class: logits lost without them, ± one "
        "standard error",
        "layer, region, cluster",
        (Column("channels"), Column("rank"), *(Column(class_label(name)) for name in classes)),
        tuple(_cluster(entry) for entry in top),
    )


def _cluster(entry: Mapping[str, Any]) -> Line:
    errors = entry.get("per_class_se") or [None] * len(entry["per_class"])
    worths = (
        figure(value, 3, aside="" if error is None else f"± {error:.3f}")
        for value, error in zip(entry["per_class"], errors, strict=True)
    )
    cells = (figure(entry.get("channels"), 0), figure(entry.get("rank"), 0), *worths)
    return Line(f"{entry['layer']}, {entry['region']}, {entry['cluster']}", cells)


def _similarity(entries: Sequence[Mapping[str, Any]]) -> Table | None:
    if not entries:
        return None
    measures = {"mean": "correlation", "spearman": "rank correlation", "iou": "overlap"}
    known = {name: label for name, label in measures.items() if entries[0].get(name) is not None}
    errors = {"mean": "se", "spearman": "spearman_se", "iou": "iou_se"}
    return Table(
        "Likeness of the maps before and after compression, by true class, ± one standard error; 1 is the same map",
        "class",
        (Column("network"), Column("images"), *(Column(label) for label in known.values())),
        tuple(
            Line(
                class_label(entry["class"]),
                (
                    words(_name(entry.get("network", ""))),
                    figure(entry.get("n"), 0),
                    *(
                        figure(entry[name], 3, aside="" if entry.get(error) is None else f"± {entry[error]:.3f}")
                        for name, error in errors.items()
                        if name in known
                    ),
                ),
            )
            for entry in entries
        ),
    )


def _flip_counts(entries: Sequence[Mapping[str, Any]]) -> Table | None:
    if not entries:
        return None
    return Table(
        "Test images that a compressed network names otherwise than the dense one",
        "network",
        (Column("changed"), Column("lost"), Column("gained"), Column("other"), Column("of images")),
        tuple(
            Line(
                _name(entry["network"]),
                tuple(figure(entry[name], 0) for name in ("flips", "lost", "gained", "other", "images")),
            )
            for entry in entries
        ),
    )


def _cam(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    label, dense, small = (class_label(entry[name]) for name in ("label", "dense_predicted", "small_predicted"))
    example = f"{entry['example']}, " if entry.get("example") else ""
    said = f"{example}likeness {entry['similarity']:.2f}; dense says {dense}, compressed {small}"
    return {
        "label": label,
        "network": _name(entry.get("network", "")),
        "said": said,
        "alt": f"Slice of {label}, and where the dense and the compressed network look in it: {said}.",
        "path": entry.get("path", ""),
        "picture": embed(folder, entry["picture"]),
    }


def _gallery(flips: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Flipped images by network and kind, in the order in which they come."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for flip in flips:
        groups.setdefault((flip.get("network", ""), flip["kind"]), []).append(_flip(flip, folder))
    return [
        {"network": _name(network), "heading": _KINDS.get(kind, kind), "flips": shown}
        for (network, kind), shown in groups.items()
    ]


def _flip(flip: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    label = class_label(flip["label"])
    dense, small = (max(flip[name], key=flip[name].__getitem__) for name in ("dense", "small"))
    said = (
        f"dense says {class_label(dense)} at {100 * flip['dense'][dense]:.0f} %, compressed "
        f"{class_label(small)} at {100 * flip['small'][small]:.0f} %"
    )
    return {
        "label": label,
        "alt": f"MRI slice of {label}: {said}.",
        "path": flip.get("path", ""),
        "picture": embed(folder, flip["picture"]),
        "bars": [
            {
                "label": class_label(name),
                "dense": p,
                "small": flip["small"].get(name, 0.0),
                "true": name == flip["label"],
            }
            for name, p in flip["dense"].items()
        ],
    }
