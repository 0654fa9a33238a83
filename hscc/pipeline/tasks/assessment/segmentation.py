"""Segmentation: of each image counts of pixels are kept, and its divergence from the dense network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.artifacts import Network
from hscc.pipeline.data.loading import normalisation_of, random_sample
from hscc.pipeline.data.masks import load_masks
from hscc.pipeline.statistics.bootstrap import Draws, Resampled
from hscc.pipeline.statistics.comparisons import Evidence
from hscc.pipeline.statistics.predictions import PIXELS, as_input, run_session
from hscc.pipeline.tasks.assessment.base import Assessment
from hscc.timing.sessions import open_session
from hscc.training.map_scores import MAP_SCORES, MapCounts, count_maps, of_each_image
from hscc.training.maps import classes_of, map_divergence
from hscc.training.surface_distance import surface_distance

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MapAnswers:
    """What is kept of a network's maps of N images.

    Attributes
    ----------
    counts : MapCounts
        Of the pixels.
    kl : ndarray of float64, shape (N,)
        Divergence from the dense network, mean over the pixels that count, in nats.
    agreement : ndarray of float64, shape (N,)
        Share of these pixels to which both networks give the same class.
    distance : ndarray of float64, shape (N,)
        Of outlines from the true ones, see `hscc.training.surface_distance`; pixels of ``data.image_size``.
    """

    counts: MapCounts
    kl: Floats
    agreement: Floats
    distance: Floats


class SegmentationAssessment(Assessment[MapAnswers]):
    """Scores are those of `hscc.training.map_scores`."""

    name = "segmentation"
    metrics = tuple(MAP_SCORES)

    @cached_property
    def _masks(self) -> npt.NDArray[np.uint8]:
        data = self.params.data
        assert data.masks is not None  # of this task
        cache = self.workspace / layout.IMAGE_CACHE
        sides = self._images.shape[1:3]
        return load_masks(self.manifest, self.workspace / layout.DATA, data.masks, sides, data.classes, cache)

    def answers(self, model: Path, dense: Path, rows: Ints) -> MapAnswers:
        """See `Assessment`; one image at a time, so that memory does not grow with the images."""
        threads = os.cpu_count() or 1
        sessions = [open_session(path, threads) for path in dict.fromkeys((model, dense))]
        normalisation = normalisation_of(self.params.data)
        counts, kl, agreement, distance = [], [], [], []
        for row in rows:
            inputs = as_input(np.array(self._images[row : row + 1]), normalisation)
            logits, *others = (torch.from_numpy(run_session(session, inputs)) for session in sessions)
            if not torch.isfinite(logits).all():
                raise ArtifactError(
                    f"{model} puts out values that are not finite; delete it and run `dvc repro` again."
                )
            reference = others[0] if others else logits
            truth = classes_of(torch.from_numpy(np.array(self._masks[row : row + 1])))
            counts.append(count_maps(logits, truth))
            kl.append(float(map_divergence(logits.double(), reference.double(), truth)))
            same = (logits.argmax(1) == reference.argmax(1))[truth >= 0]
            agreement.append(float(same.double().mean()) if len(same) else 1.0)
            outlines = (logits.argmax(1)[0].numpy(), truth[0].numpy())
            distance.append(surface_distance(*outlines, len(self.params.data.classes)))
        return MapAnswers(MapCounts.join(counts), np.asarray(kl), np.asarray(agreement), np.asarray(distance))

    def evidence(self, answers: MapAnswers, dense: MapAnswers, rows: Ints, weights: Draws) -> Evidence:
        """See `Assessment`; scores of a class are those of all pixels together."""
        counts = answers.counts
        scores = {name: Resampled.of(score(counts, weights)) for name, score in MAP_SCORES.items()}
        scores["kl"] = Resampled.mean(answers.kl, weights)
        scores["agreement"] = Resampled.mean(answers.agreement, weights)
        scores["surface_distance"] = Resampled.mean(answers.distance, weights)
        classes = self.params.data.classes
        by_class = {
            score: {name: Resampled.of(found[:, index]) for index, name in enumerate(classes)}
            for score, found in _class_scores(counts, weights).items()
        }
        return Evidence(scores, by_class, None, len(rows), self.params.evaluate.score)

    def sample(self, rows: Ints, count: int, seed: int) -> Ints:
        """See `Assessment`; drawn at random."""
        return random_sample(len(rows), count, seed)

    def confusion(self, dense: MapAnswers, chosen: MapAnswers, rows: Ints, name: str) -> pd.DataFrame:
        """See `Assessment`; without rows: pixels are counted in ``reports/predictions.parquet``."""
        return pd.DataFrame(columns=["actual", "predicted", "dense", "network"])

    def predictions(self, answers: Mapping[Network, MapAnswers]) -> pd.DataFrame:
        """See `Assessment`; the scores of each image, and its pixels by true and predicted class."""
        parts = []
        for network, found in answers.items():
            frame = self.manifest.iloc[self.rows(network.protocol, "test")]
            names = [
                f"{PIXELS}{true}|{given}" for true in self.params.data.classes for given in self.params.data.classes
            ]
            pixels = found.counts.confusion.reshape(len(frame), -1)
            parts.append(
                pd.DataFrame(
                    {
                        "path": frame["path"].to_numpy(),
                        "protocol": network.protocol,
                        "label": frame["label"].to_numpy(),
                        "group": frame["group"].to_numpy(),
                        "network": network.name,
                        **{name: of_each_image(found.counts, name) for name in MAP_SCORES},
                        "kl": found.kl,
                        "agreement": found.agreement,
                        "surface_distance": found.distance,
                        **{name: pixels[:, place] for place, name in enumerate(names)},
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)


def _class_scores(counts: MapCounts, weights: Draws) -> dict[str, Draws]:
    """Precision, recall and F1 (Dice) of each class over all pixels, each (B, C); 0 where undefined."""
    images, classes = counts.confusion.shape[:2]
    pooled = (weights @ counts.confusion.reshape(images, -1)).reshape(-1, classes, classes)
    hits, predicted, present = np.diagonal(pooled, axis1=1, axis2=2), pooled.sum(axis=1), pooled.sum(axis=2)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, present),
        "f1": _ratio(2 * hits, predicted + present),
    }


def _ratio(above: Draws, below: Draws) -> Draws:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
