"""Worths of clusters as rows of a table, and by region as pictures over the mean image of each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hscc.evaluation.bootstrap import Draws, resample, resampled_mean, standard_error
from hscc.insight.clusters import Cluster
from hscc.insight.importance import Worths
from hscc.insight.pictures import Grey, Pictures, cells_over
from hscc.insight.rank_maps import RankMap

Row = dict[str, Any]
Ints = npt.NDArray[np.int64]


def importance_rows(
    clusters: Sequence[Cluster],
    worths: Worths,
    labels: Ints,
    groups: Ints,
    classes: Sequence[str],
    resamples: int,
    seed: int,
) -> list[Row]:
    """Average worths over the images of each class.

    Parameters
    ----------
    clusters : sequence of Cluster
        Rows of `worths`.
    worths : ndarray of float64, shape (clusters, N)
        From `hscc.insight.importance.cluster_worths`.
    labels, groups : ndarray of int64, shape (N,)
        Class index and group of near-copies of each image.
    classes : sequence of str
        The class names.
    resamples, seed : int
        Of the bootstrap over groups.

    Returns
    -------
    list of dict
        A row a cluster; None for a class without images.
    """
    drawn: dict[int, tuple[Ints, Draws]] = {}
    for index in range(len(classes)):
        members = np.flatnonzero(labels == index)
        if members.size:
            drawn[index] = members, resample(groups[members], resamples, seed)
    rows = []
    for cluster, worth in zip(clusters, worths, strict=True):
        means: list[float | None] = [None] * len(classes)
        errors: list[float | None] = [None] * len(classes)
        for index, (members, weights) in drawn.items():
            error = standard_error(resampled_mean(worth[members], weights))
            means[index] = round(float(worth[members].mean()), 4)
            errors[index] = round(error, 4) if math.isfinite(error) else None
        where = {"layer": cluster.layer, "region": cluster.region, "cluster": cluster.cluster}
        place = {"tiles": [list(tile) for tile in cluster.tiles], "cells": cluster.cells}
        size = {"channels": cluster.channels, "rank": cluster.rank}
        rows.append({**where, **place, **size, "per_class": means, "per_class_se": errors})
    return rows


def importance_pictures(
    rows: Sequence[Row], maps: Sequence[RankMap], classes: Sequence[str], means: Mapping[str, Grey]
) -> tuple[list[Row], Pictures]:
    """Draw the last layer that has regions, a picture a class.

    Parameters
    ----------
    rows : sequence of dict
        From `importance_rows`.
    maps : sequence of RankMap
        Of the network's layers.
    classes : sequence of str
        The class names.
    means : mapping of str to ndarray of uint8, shape (S, S)
        Mean image by class; classes without one are left out.

    Returns
    -------
    index : list of dict
        ``layer``, ``class``, ``picture``; empty where no layer has regions.
    pictures : dict of str to Image
        By file name; a number in a region is the fall of the class's centred logit, its clusters added.
    """
    regional = [found for found in maps if not found.is_flat]
    if not regional:
        return [], {}
    last = regional[-1]
    worth = np.zeros((int(last.region.max()) + 1, len(classes)))
    for row in rows:
        if row["layer"] == last.layer.name:
            worth[row["region"]] += [value or 0.0 for value in row["per_class"]]
    index, pictures = [], {}
    for number, name in enumerate(classes):
        if name in means:
            own = worth[:, number]
            texts = [f"{round(value, 2) + 0.0:+.2f}" for value in own]  # never minus zero; the font has no true minus
            picture = f"importance-{last.layer.name}-{name}.png"
            pictures[picture] = cells_over(means[name], own[last.region], last.region, texts, float(worth.max()))
            index.append({"layer": last.layer.name, "class": name, "picture": picture})
    return index, pictures
