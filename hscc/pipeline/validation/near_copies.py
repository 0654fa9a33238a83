"""The evidence for findings: the manifest, and the near-copies at several thresholds of similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hscc.pipeline.data.near_duplicates import correlated_pairs, near_duplicate_groups
from hscc.pipeline.data.report import NearCopyCounts
from hscc.pipeline.data_spec import DataSpec, OfficialSplit

THRESHOLDS = (0.99, 0.995, 0.999)  # correlations of thumbnails


@dataclass(frozen=True)
class Evidence:
    """The evidence for findings.

    Attributes
    ----------
    frame : pandas.DataFrame
        A whole manifest, with the column near_copies.
    spec : DataSpec
        What is known of the data set.
    near_copies : sequence of NearCopyCounts
        By rising threshold, the one above included, byte-identical files last.
    """

    frame: pd.DataFrame
    spec: DataSpec
    near_copies: Sequence[NearCopyCounts]

    @property
    def near_duplicate(self) -> float:
        """The threshold that the groups of near-copies were made with."""
        return self.spec.near_duplicate

    @property
    def chosen(self) -> NearCopyCounts:
        """The near-copies at the threshold that the groups were made with."""
        return next(row for row in self.near_copies if row.threshold == self.near_duplicate)

    @property
    def stricter(self) -> list[NearCopyCounts]:
        """The near-copies at higher thresholds, byte-identical files last."""
        return [row for row in self.near_copies if row.threshold is None or row.threshold > self.near_duplicate]


def gather_evidence(frame: pd.DataFrame, thumbnails: NDArray[np.uint8], spec: DataSpec) -> Evidence:
    """Measure the near-copies at the chosen threshold and at `THRESHOLDS`, leaving the splits as they are.

    Parameters
    ----------
    frame : pandas.DataFrame
        A whole manifest, with the column near_copies.
    thumbnails : numpy.ndarray
        (N, 256) uint8, row i of image i.
    spec : DataSpec
        What is known of the data set, the threshold that its near-copies were found with included.

    Returns
    -------
    Evidence
        For `hscc.pipeline.validation.findings.find`.
    """
    digests = frame["sha256"].tolist()
    labels = frame["label"].to_numpy(dtype=str)
    rows = []
    for threshold in sorted({*THRESHOLDS, spec.near_duplicate}):
        pairs = correlated_pairs(thumbnails, threshold)
        groups = near_duplicate_groups(thumbnails, digests, threshold)
        rows.append(
            _measure(frame, spec.official, threshold, groups, int((labels[pairs[:, 0]] != labels[pairs[:, 1]]).sum()))
        )
    identical = near_duplicate_groups(np.zeros_like(thumbnails), digests, 0.5)
    rows.append(_measure(frame, spec.official, None, identical, _contradicting_copies(digests, labels.tolist())))
    return Evidence(frame, spec, rows)


def _contradicting_copies(digests: Sequence[str], labels: Sequence[str]) -> int:
    """Count the pairs of byte-identical files with different labels: all pairs less those of one label."""
    copies = pd.Series(digests).value_counts()
    agreeing = pd.DataFrame({"digest": digests, "label": labels}).value_counts()
    return int((copies * (copies - 1) // 2).sum() - (agreeing * (agreeing - 1) // 2).sum())


def _measure(
    frame: pd.DataFrame,
    official: OfficialSplit | None,
    threshold: float | None,
    groups: NDArray[np.int64],
    contradicting_pairs: int,
) -> NearCopyCounts:
    sizes = np.bincount(groups)
    return NearCopyCounts(
        threshold=threshold,
        images=int(sizes[sizes > 1].sum()),
        groups=int((sizes > 1).sum()),
        largest=int(sizes.max()),
        contradicting_pairs=contradicting_pairs,
        leaked_testing=_leaked(groups, frame["official_split"], official.test, official.train) if official else 0,
        leaked_pooled_test=_leaked(groups, frame["split_pooled"], "test", "train"),
    )


def _leaked(groups: NDArray[np.int64], place: pd.Series[str], test: str, train: str) -> int:
    places = place.to_numpy(dtype=str)
    return int(np.isin(groups[places == test], groups[places == train]).sum())
