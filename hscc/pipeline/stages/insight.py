"""Stage insight: reads the baseline, some cells, the kept logits and images; writes pictures and their figures.

Pictures go to ``artifacts/insight/``, figures to ``reports/insight.json`` (`hscc.pipeline.insight.schema.Insight`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from hscc.errors import ArtifactError
from hscc.files import replace_text, replacing
from hscc.networks.backbones import pick_device
from hscc.networks.folding import fold_batch_norms
from hscc.networks.storage import ModelCard, load_dense
from hscc.pipeline import layout
from hscc.pipeline.data.images import labels_of, rows_of
from hscc.pipeline.data.loading import balanced_sample, read_images
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.data.masks import load_masks
from hscc.pipeline.insight.changed_answers import Flip, count_flips, find_flips
from hscc.pipeline.insight.class_activation import (
    LIBRARY,
    METHOD,
    Answers,
    cam_pictures,
    examples,
    grad_cam,
    last_feature_map,
)
from hscc.pipeline.insight.cluster_importance import cluster_importances, importance_pictures, importance_rows
from hscc.pipeline.insight.map_overlays import most_changed, overlay_pictures
from hscc.pipeline.insight.opened_cells import OpenedCell, list_clusters, open_cells
from hscc.pipeline.insight.pictures import Pictures, mean_image, plain, write_png
from hscc.pipeline.insight.rank_maps import rank_rows, rank_scale, summary
from hscc.pipeline.insight.schema import (
    ActivationMaps,
    ClusterCount,
    ClusterImportance,
    FlipCount,
    FlippedImage,
    ImageCounts,
    ImportancePicture,
    Insight,
    LayerMap,
    MapOverlay,
    MapPicture,
    MapSimilarity,
    NetworkInWords,
)
from hscc.pipeline.insight.similarity import by_class, pearson
from hscc.pipeline.params import Params
from hscc.pipeline.statistics.predictions import Form, form_of, logits_of, network_rows, read_predictions
from hscc.pipeline.statistics.schema import network_name, write_record
from hscc.pipeline.tracking import data_hash, git_commit, stage_run
from hscc.training.images import to_input

FLIP_SIDE = 192  # pixels; there are dozens of them
OVERLAYS = 4  # pictures of changed masks per cell, at most: they are large
BATCH = 32  # images at a time, with the outputs of all cluster modules kept

Ints = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Images:
    """Some of the images, and their rows of the manifest."""

    pixels: npt.NDArray[np.uint8]
    rows: Ints
    frame: pd.DataFrame
    card: ModelCard

    @property
    def labels(self) -> Ints:
        return labels_of(self.frame, self.card.classes)

    @property
    def groups(self) -> Ints:
        return self.frame["group"].to_numpy(np.int64)

    def batches(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        device, labels = pick_device(), torch.from_numpy(self.labels)
        spans = [slice(start, start + BATCH) for start in range(0, len(self.rows), BATCH)]
        return [
            (to_input(self.pixels[self.rows[span]], self.card.normalisation).to(device), labels[span].to(device))
            for span in spans
        ]


@dataclass(frozen=True)
class _Material:
    """Inputs of all parts of the stage; `logits` of the test images by network, or `masks`, as `form` has it."""

    params: Params
    classes: tuple[str, ...]
    train: _Images
    val: _Images
    test: _Images
    dense: nn.Module
    cells: dict[str, OpenedCell]
    logits: dict[str, Logits]
    kept: pd.DataFrame
    masks: npt.NDArray[np.uint8] | None
    form: Form
    sweep: tuple[ClusterCount, ...]

    @property
    def dense_logits(self) -> Logits:
        """Of the baseline on the test images."""
        return self.logits[network_name(None, self.params.data.protocol)]


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
        structure = _structure(material)
        answers = _answers_in_pictures(material)
        pictures = structure.pictures | answers.pictures
        found = Insight(
            protocol=protocol,
            data_hash=data_hash(workspace),
            git_commit=git_commit(workspace),
            classes=material.classes,
            network=structure.network,
            networks=structure.networks,
            sweep=material.sweep,
            images=structure.images,
            rank_scale=structure.rank_scale,
            layers=structure.layers,
            importance=structure.importance,
            importance_pictures=structure.importance_pictures,
            score=params.evaluate.score,
            cams=answers.cams,
            flip_counts=answers.flip_counts,
            flips=answers.flips,
            overlays=answers.overlays,
        )
        _write(workspace, found, pictures)
        tracked.artifact(workspace / layout.INSIGHT_JSON)
        tracked.metrics({"pictures": len(pictures), "seconds": time.monotonic() - started})
    print(f"looked into {', '.join(material.cells)}: {len(pictures)} pictures in {time.monotonic() - started:.0f} s")


def _gather(params: Params, workspace: Path) -> _Material:
    protocol = params.data.protocol
    dense, card = load_dense(workspace / layout.baseline(protocol) / "model.safetensors")
    opened = open_cells(params, workspace)
    kept = read_predictions(workspace / layout.PREDICTIONS)
    manifest = read_manifest(workspace / layout.MANIFEST)
    pixels = read_images(manifest, card, workspace)

    def images(split: str) -> _Images:
        rows = rows_of(manifest, protocol, split)
        return _Images(pixels, rows, manifest.iloc[rows], card)

    test = images("test")
    names = (network_name(None, protocol), *(cell.name for cell in opened))
    answers = {name: _answers_of(kept, name, test) for name in names}
    form = form_of(kept)
    masks = _masks(params, manifest, pixels, workspace)
    logits = {name: logits_of(found) for name, found in answers.items()} if form == "classes" else {}
    for cell in opened:
        cell.model.to(pick_device())
    folded = fold_batch_norms(dense).to(pick_device())  # as its cells are, so that the same layer does the same
    splits = (images("train"), images("val"), test)
    sweep = tuple(ClusterCount.model_validate(counts) for counts in list_clusters(params, workspace))
    cells = {cell.name: cell for cell in opened}
    return _Material(params, params.data.classes, *splits, folded, cells, logits, kept, masks, form, sweep)


def _masks(
    params: Params, manifest: pd.DataFrame, pixels: npt.NDArray[np.uint8], workspace: Path
) -> npt.NDArray[np.uint8] | None:
    """Masks of all images; None where images have no masks."""
    data = params.data
    if data.masks is None:
        return None
    cache = workspace / layout.IMAGE_CACHE
    return load_masks(manifest, workspace / layout.DATA, data.masks, pixels.shape[1:3], data.classes, cache)


def _answers_of(kept: pd.DataFrame, network: str, test: _Images) -> pd.DataFrame:
    answers = network_rows(kept, network)
    if answers["path"].tolist() != test.frame["path"].tolist():
        raise ArtifactError(
            f"{layout.PREDICTIONS} is not about the test images of {layout.MANIFEST}; run `hscc evaluate` again."
        )
    return answers


class _Structure(NamedTuple):
    """Rank maps and importance of clusters of one cell; fields as of `Insight`."""

    network: str
    networks: tuple[NetworkInWords, ...]
    images: ImageCounts
    rank_scale: float
    layers: tuple[LayerMap, ...]
    importance: tuple[ClusterImportance, ...]
    importance_pictures: tuple[ImportancePicture, ...]
    pictures: Pictures


def _structure(material: _Material) -> _Structure:
    """Look into the first cell in which a layer has regions."""
    cells = list(material.cells.values())
    shown = next((cell for cell in cells if cell.has_regions), cells[0])
    train = material.train
    layers, pictures = rank_rows(shown.maps, mean_image(train.pixels, train.rows))
    if material.form == "classes":
        images, importance, importance_index, drawn = _importance(material, shown)
    else:
        images, importance, importance_index, drawn = 0, [], [], {}
    return _Structure(
        network=shown.name,
        networks=tuple(NetworkInWords(network=cell.name, words=summary(cell.maps)) for cell in cells),
        images=ImageCounts(mean=len(train.rows), importance=images, test=len(material.test.rows)),
        rank_scale=rank_scale(shown.maps),
        layers=tuple(LayerMap.model_validate(row) for row in layers),
        importance=tuple(ClusterImportance.model_validate(row) for row in importance),
        importance_pictures=tuple(
            ImportancePicture(layer=row["layer"], label=row["class"], picture=row["picture"])
            for row in importance_index
        ),
        pictures=pictures | drawn,
    )


def _importance(
    material: _Material, shown: OpenedCell
) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]], Pictures]:
    """Weigh the clusters of a cell by the classes of images: how many images, a row per cluster, and pictures."""
    train, labels = material.train, material.train.labels
    settings = material.params.insight, material.params.evaluate
    sample = balanced_sample(material.val.labels, settings[0].images, settings[1].seed)
    sampled = replace(material.val, rows=material.val.rows[sample], frame=material.val.frame.iloc[sample])
    clusters, importances = cluster_importances(shown.model, shown.plan, sampled.batches())
    drawing = (material.classes, settings[1].resamples, settings[1].seed)
    importance = importance_rows(clusters, importances, sampled.labels, sampled.groups, *drawing)
    means = {
        name: mean_image(train.pixels, train.rows[labels == index])
        for index, name in enumerate(material.classes)
        if (labels == index).any()
    }
    index, drawn = importance_pictures(importance, shown.maps, material.classes, means)
    return len(sample), importance, index, drawn


class _Answers(NamedTuple):
    """What compression changed in the answers; fields as of `Insight`."""

    pictures: Pictures
    cams: ActivationMaps | None = None
    flip_counts: tuple[FlipCount, ...] = ()
    flips: tuple[FlippedImage, ...] = ()
    overlays: tuple[MapOverlay, ...] = ()


def _answers_in_pictures(material: _Material) -> _Answers:
    """Show what compression changed, where it can be shown: not of several labels or values."""
    if material.form == "classes":
        return _of_classes(material)
    return _Answers({}) if material.masks is None else _of_maps(material, material.masks)


def _of_classes(material: _Material) -> _Answers:
    """Where each image has a class: what the networks look at, and the images with another answer."""
    cams, flips = _cams(material), _flips(material)
    return _Answers(cams.pictures | flips.pictures, cams.maps, flips.counts, flips.images)


def _of_maps(material: _Material, masks: npt.NDArray[np.uint8]) -> _Answers:
    """Where each pixel has a class: the masks of the images whose score changed most."""
    test, params = material.test, material.params
    dense = network_name(None, params.data.protocol)
    rows: list[MapOverlay] = []
    pictures: Pictures = {}
    for name, cell in material.cells.items():
        found = most_changed(material.kept, dense, name, params.evaluate.score, min(params.insight.gallery, OVERLAYS))
        places = test.rows[found.index.to_numpy()]
        images = [np.array(test.pixels[place]) for place in places]
        inputs = [to_input(image[None], test.card.normalisation) for image in images]
        networks = (material.dense, cell.model)
        more, drawn = overlay_pictures(name, found, images, [masks[place] for place in places], inputs, networks)
        rows += more
        pictures |= drawn
    return _Answers(pictures, overlays=tuple(rows))


class _Cams(NamedTuple):
    maps: ActivationMaps
    pictures: Pictures


def _cams(material: _Material) -> _Cams:
    """Map the evidence for the true class, by the baseline and by each cell."""
    test, classes, settings = material.test, material.classes, material.params.evaluate
    batches = test.batches()
    where = last_feature_map(material.dense, batches[0][0][:1])
    dense = grad_cam(material.dense, where.at, batches)
    similarity: list[MapSimilarity] = []
    rows: list[MapPicture] = []
    pictures: Pictures = {}
    for name, cell in material.cells.items():
        logits = material.logits[name]
        small = grad_cam(cell.model, where.at, batches)
        similarity += by_class(name, dense, small, test.labels, test.groups, classes, settings.resamples, settings.seed)
        chosen = examples(pearson(dense, small), test.labels)
        answers = [_answers(material, position, logits) for position, _ in chosen]
        images = [test.pixels[test.rows[position]] for position, _ in chosen]
        more, drawn = cam_pictures(name, images, chosen, dense, small, answers, material.params.data.texts.image)
        rows += more
        pictures |= drawn
    maps = ActivationMaps(
        layer=where.layer,
        at=where.at,
        method=METHOD,
        library=LIBRARY,
        similarity=tuple(similarity),
        pictures=tuple(rows),
    )
    return _Cams(maps, pictures)


def _answers(material: _Material, position: int, logits: Logits) -> Answers:
    entry = material.test.frame.iloc[position]
    dense, small = (material.classes[found[position].argmax()] for found in (material.dense_logits, logits))
    return Answers(str(entry["path"]), str(entry["label"]), dense, small)


class _Flips(NamedTuple):
    counts: tuple[FlipCount, ...]
    images: tuple[FlippedImage, ...]
    pictures: Pictures


def _flips(material: _Material) -> _Flips:
    """Find test images that a cell answers otherwise than the baseline; an image of several cells is drawn once."""
    test, counts = material.test, []
    images: list[FlippedImage] = []
    pictures: Pictures = {}
    for name in material.cells:
        flips = find_flips(test.labels, material.dense_logits, material.logits[name])
        counts.append(count_flips(name, len(test.rows), flips))
        for flip in flips[: material.params.insight.gallery]:
            picture = f"flip-{flip.image}.png"
            pictures[picture] = plain(test.pixels[test.rows[flip.image]], FLIP_SIDE)
            images.append(_flipped(material, name, flip, picture))
    return _Flips(tuple(counts), tuple(images), pictures)


def _flipped(material: _Material, network: str, flip: Flip, picture: str) -> FlippedImage:
    entry = material.test.frame.iloc[flip.image]
    return FlippedImage(
        network=network,
        path=entry["path"],
        label=entry["label"],
        dense=_by_name(material.classes, flip.dense),
        small=_by_name(material.classes, flip.small),
        kind=flip.kind,
        picture=picture,
    )


def _by_name(classes: Sequence[str], probabilities: npt.NDArray[np.float64]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(classes, probabilities, strict=True)}


def _write(workspace: Path, found: Insight, pictures: Pictures) -> None:
    """Replace the pictures as a whole, then the figures."""
    with replacing(workspace / layout.INSIGHT) as new:
        new.mkdir()
        for name, picture in pictures.items():
            write_png(picture, new / name)
    replace_text(workspace / layout.INSIGHT_JSON, write_record(found))
