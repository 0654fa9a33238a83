"""Stage insight: the baseline, some cells, the kept logits and images in; pictures and their figures out.

Pictures lie in ``artifacts/insight/``, figures in ``reports/insight.json``, which holds (``picture`` is a file name in
that folder, or null where there is nothing to draw; shares and similarities are fractions, importances are logits):

protocol, data_hash, git_commit, classes
    Where the figures come from; every ``per_class`` has the order of the classes.
networks : {network, words}
    The cells of ``insight.cells``, and what their plans made of the layers.
network : str
    The first of them in which a layer has several regions, else the first: what ``layers`` and ``importance`` show.
sweep : {network, layers, clusters, kept}
    Every cell of the sweep in which layers have several clusters: how many such layers, their clusters, and how many of
    those kept a rank.
images : {mean, importance, test}
    How many training images are under the maps, validation images in ``importance``, test images in the rest.
rank_scale : float
    Share of the full rank that has the brightest colour in the pictures.
layers : {layer, kind, regions, clusters, kept, positions, grid, full_rank, rank_map, words, picture}
    ``rank_map``: rank / full rank over the cells of the feature map, row by row; null where a layer has no such rank.
    ``clusters`` and ``kept`` count those of all regions.
importance : {layer, region, cluster, tiles, cells, channels, rank, per_class, per_class_se}
    A row a cluster of the layers that have several, see `cluster_importance`. Tiles are [first row, end row, first
    column, end column] of the region, in a grid of ``cells`` a side.
importance_pictures : {layer, class, picture}
    The last layer with regions, the importances of a region's clusters added, over the mean image of the class.
cams : {layer, at, method, library, similarity, pictures}
    ``at``: the module whose outputs are mapped. ``similarity``: a row {network, class, n, mean, se, spearman,
    spearman_se, iou, iou_se, chance} a network and class, see `by_class`. ``pictures``: the
    median and the least alike image of each, {network, path, label, dense_predicted, small_predicted, similarity,
    example, picture}.
flip_counts : {network, images, flips, lost, gained, other}
    How many test images each network answers otherwise than the baseline, see `hscc.pipeline.insight.changed_answers`.
flips : {network, path, label, dense: {class: p}, small: {class: p}, kind, picture}
    The first ``insight.gallery`` of them a network.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from hscc.errors import ArtifactError
from hscc.files import replace_text, replacing
from hscc.networks.backbones import pick_device
from hscc.networks.folding import fold_batch_norms
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.data.images import labels_of, load_images, rows_of
from hscc.pipeline.data.loading import balanced_sample
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.insight.changed_answers import Flip, count_flips, find_flips
from hscc.pipeline.insight.class_activation import LIBRARY, METHOD, cam_pictures, examples, grad_cam, last_feature_map
from hscc.pipeline.insight.cluster_importance import cluster_importances, importance_pictures, importance_rows
from hscc.pipeline.insight.opened_cells import OpenedCell, list_clusters, open_cells
from hscc.pipeline.insight.pictures import Pictures, mean_image, plain, write_png
from hscc.pipeline.insight.rank_maps import rank_rows, rank_scale, summary
from hscc.pipeline.insight.similarity import by_class, pearson
from hscc.pipeline.params import Params
from hscc.pipeline.statistics.predictions import classes_of, logits_of, predictions_of, read_predictions
from hscc.pipeline.statistics.results import to_json
from hscc.pipeline.statistics.schema import network_name
from hscc.pipeline.tracking import data_hash, git_commit, stage_run
from hscc.training.images import to_input

FLIP_SIDE = 192  # pixels; there are dozens of them
BATCH = 32  # images at a time, with the outputs of all cluster modules kept

Ints = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
Document = dict[str, Any]


@dataclass(frozen=True)
class _Slices:
    """Some of the images, and what the manifest says of them."""

    pixels: npt.NDArray[np.uint8]
    rows: Ints
    frame: pd.DataFrame

    @property
    def labels(self) -> Ints:
        return labels_of(self.frame)

    @property
    def groups(self) -> Ints:
        return self.frame["group"].to_numpy(np.int64)

    def batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        device, labels = pick_device(), torch.from_numpy(self.labels)
        spans = [slice(start, start + BATCH) for start in range(0, len(self.rows), BATCH)]
        return [(to_input(self.pixels[self.rows[span]]).to(device), labels[span].to(device)) for span in spans]


@dataclass(frozen=True)
class _Material:
    """What all parts of the stage look at."""

    params: Params
    classes: tuple[str, ...]
    train: _Slices
    val: _Slices
    test: _Slices
    dense: nn.Module
    dense_logits: Logits
    cells: dict[str, tuple[OpenedCell, Logits]]
    sweep: list[Document]


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Look into the cells that ``insight.cells`` names.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``compress``, ``evaluate`` and ``insight`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    ArtifactError
        If a network, the kept logits or the manifest is missing or does not fit; earlier outputs stay then.
    """
    started = time.monotonic()
    protocol = params.data.protocol
    material = _gather(params, workspace)
    with stage_run("insight", protocol, params.insight.model_dump(), {"protocol": protocol}, workspace) as tracked:
        document: Document = {
            "protocol": protocol,
            "data_hash": data_hash(workspace),
            "git_commit": git_commit(workspace),
            "classes": list(material.classes),
        }
        pictures: Pictures = {}
        for part in (_structure, _cams, _flips):
            found, drawn = part(material)
            document |= found
            pictures |= drawn
        _write(workspace, document, pictures)
        tracked.artifact(workspace / layout.INSIGHT_JSON)
        tracked.metrics({"pictures": len(pictures), "seconds": time.monotonic() - started})
    print(f"looked into {', '.join(material.cells)}: {len(pictures)} pictures in {time.monotonic() - started:.0f} s")


def _gather(params: Params, workspace: Path) -> _Material:
    protocol = params.data.protocol
    dense, card = load_dense(workspace / layout.baseline(protocol) / "model.safetensors")
    opened = open_cells(params, workspace)
    kept = read_predictions(workspace / layout.PREDICTIONS)
    answers = predictions_of(kept, network_name(None, protocol))
    manifest = read_manifest(workspace / layout.MANIFEST)
    pixels = load_images(manifest, workspace / layout.DATA, card.image_size, workspace / layout.IMAGE_CACHE)

    def slices(split: str) -> _Slices:
        rows = rows_of(manifest, protocol, split)
        return _Slices(pixels, rows, manifest.iloc[rows])

    test = slices("test")
    cells = {cell.name: (cell, _logits(predictions_of(kept, cell.name), test)) for cell in opened}
    for cell in opened:
        cell.model.to(pick_device())
    folded = fold_batch_norms(dense).to(pick_device())  # as its cells are, so that the same layer does the same
    splits = (slices("train"), slices("val"), test)
    logits = _logits(answers, test)
    return _Material(params, classes_of(kept), *splits, folded, logits, cells, list_clusters(params, workspace))


def _logits(answers: pd.DataFrame, test: _Slices) -> Logits:
    if answers["path"].tolist() != test.frame["path"].tolist():
        raise ArtifactError(
            f"{layout.PREDICTIONS} is not about the test images of {layout.MANIFEST}; run `hscc evaluate` again."
        )
    return logits_of(answers)


def _structure(material: _Material) -> tuple[Document, Pictures]:
    """Rank maps and importances of the first cell in which a layer has regions."""
    cells = [cell for cell, _ in material.cells.values()]
    shown = next((cell for cell in cells if cell.has_regions), cells[0])
    train, labels = material.train, material.train.labels
    layers, pictures = rank_rows(shown.maps, mean_image(train.pixels, train.rows))
    settings = material.params.insight, material.params.evaluate
    sample = balanced_sample(material.val.labels, settings[0].images, settings[1].seed)
    weighed = _Slices(material.val.pixels, material.val.rows[sample], material.val.frame.iloc[sample])
    clusters, importances = cluster_importances(shown.model, shown.plan, weighed.batches())
    drawing = (material.classes, settings[1].resamples, settings[1].seed)
    importance = importance_rows(clusters, importances, weighed.labels, weighed.groups, *drawing)
    means = {
        name: mean_image(train.pixels, train.rows[labels == index])
        for index, name in enumerate(material.classes)
        if (labels == index).any()
    }
    index, drawn = importance_pictures(importance, shown.maps, material.classes, means)
    return {
        "network": shown.name,
        "networks": [{"network": cell.name, "words": summary(cell.maps)} for cell in cells],
        "sweep": material.sweep,
        "images": {"mean": len(train.rows), "importance": len(sample), "test": len(material.test.rows)},
        "rank_scale": rank_scale(shown.maps),
        "layers": layers,
        "importance": importance,
        "importance_pictures": index,
    }, pictures | drawn


def _cams(material: _Material) -> tuple[Document, Pictures]:
    """Maps of the evidence for the true class, by the baseline and by each cell."""
    test, classes, settings = material.test, material.classes, material.params.evaluate
    batches = test.batches()
    where = last_feature_map(material.dense, batches[0][0][:1])
    dense = grad_cam(material.dense, where.at, batches)
    similarity: list[Document] = []
    rows: list[Document] = []
    pictures: Pictures = {}
    for name, (cell, logits) in material.cells.items():
        small = grad_cam(cell.model, where.at, batches)
        found = by_class(dense, small, test.labels, test.groups, classes, settings.resamples, settings.seed)
        similarity += [{"network": name, **row} for row in found]
        chosen = examples(pearson(dense, small), test.labels)
        facts = [_facts(material, position, logits) for position, _ in chosen]
        images = [test.pixels[test.rows[position]] for position, _ in chosen]
        more, drawn = cam_pictures(name, images, chosen, dense, small, facts)
        rows += more
        pictures |= drawn
    cams = {**where._asdict(), "method": METHOD, "library": LIBRARY, "similarity": similarity, "pictures": rows}
    return {"cams": cams}, pictures


def _facts(material: _Material, position: int, logits: Logits) -> Document:
    entry, classes = material.test.frame.iloc[position], material.classes
    said, says = (classes[values[position].argmax()] for values in (material.dense_logits, logits))
    return {"path": entry["path"], "label": entry["label"], "dense_predicted": said, "small_predicted": says}


def _flips(material: _Material) -> tuple[Document, Pictures]:
    """Test images that a cell answers otherwise than the baseline; an image of several cells is drawn once."""
    test, counts = material.test, []
    rows: list[Document] = []
    pictures: Pictures = {}
    for name, (_, logits) in material.cells.items():
        flips = find_flips(test.labels, material.dense_logits, logits)
        counts.append({"network": name, "images": len(test.rows), **count_flips(flips)})
        for flip in flips[: material.params.insight.gallery]:
            picture = f"flip-{flip.image}.png"
            pictures[picture] = plain(test.pixels[test.rows[flip.image]], FLIP_SIDE)
            rows.append({"network": name, **_told(material, flip), "picture": picture})
    return {"flip_counts": counts, "flips": rows}, pictures


def _told(material: _Material, flip: Flip) -> Document:
    entry = material.test.frame.iloc[flip.image]
    dense, small = (_by_name(material.classes, values) for values in (flip.dense, flip.small))
    return {"path": entry["path"], "label": entry["label"], "dense": dense, "small": small, "kind": flip.kind}


def _by_name(classes: Sequence[str], probabilities: npt.NDArray[np.float64]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(classes, probabilities, strict=True)}


def _write(workspace: Path, document: Document, pictures: Pictures) -> None:
    """Replace the pictures as a whole, then the figures."""
    with replacing(workspace / layout.INSIGHT) as new:
        new.mkdir()
        for name, picture in pictures.items():
            write_png(picture, new / name)
    replace_text(workspace / layout.INSIGHT_JSON, to_json(document))
