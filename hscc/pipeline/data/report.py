"""Schema of ``reports/data.json``: what is known of the data set after its validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hscc.errors import ArtifactError


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(_Record):
    """One thing to know about the data set.

    Attributes
    ----------
    id : str
        The check's id, or the note's.
    severity : str
        ``warning`` for what was measured, ``note`` for what is only reported by others.
    title, finding, what_we_do : str
        A heading, plain sentences with the numbers, and what the pipeline does about it.
    images : tuple of str
        The first paths (at most 20).
    count : int
        How many there are in all.
    """

    id: str
    severity: Literal["warning", "note"]
    title: str
    finding: str
    what_we_do: str
    images: tuple[str, ...]
    count: int


class CheckResult(_Record):
    """One check: its rule as a sentence, and how many rows of its table break it."""

    id: str
    rule: str
    severity: Literal["error", "warning"]
    passed: bool
    count: int


class FileCounts(_Record):
    """Number of files, of different ones among them, and bytes in all."""

    count: int
    distinct: int
    bytes: int


class NearCopyCounts(_Record):
    """Near-copies at one threshold.

    Attributes
    ----------
    threshold : float or None
        Correlation of 16x16 thumbnails above which two images are near-copies; None for byte-identical files only.
    images, groups, largest : int
        Images in groups of two or more, such groups, and images of the largest.
    contradicting_pairs : int
        Pairs above the threshold (or byte-identical) whose labels differ.
    leaked_testing : int
        Images of the official test split with a near-copy among its training images.
    leaked_pooled_test : int
        Test images of the pooled split with a near-copy in its train split.
    """

    threshold: float | None
    images: int
    groups: int
    largest: int
    contradicting_pairs: int
    leaked_testing: int
    leaked_pooled_test: int


class NearCopies(_Record):
    """The threshold of the groups, and the counts at it and at others."""

    threshold: float
    at: tuple[NearCopyCounts, ...]


class Range(_Record):
    """Smallest, median and largest value."""

    min: int
    median: float
    max: int


class Sizes(_Record):
    """Number of different image sizes, the commonest (``WIDTHxHEIGHT``, pixels) and how many images have it."""

    different: int
    commonest: str
    images: int


class ImageSummary(_Record):
    """Width and height (pixels), bytes, sizes, and images by pixel mode."""

    width: Range
    height: Range
    bytes: Range
    sizes: Sizes
    modes: dict[str, int]


class DataReport(_Record):
    """All that is known of the data set; nothing in it depends on time or machine.

    Attributes
    ----------
    classes : dict
        Class -> part of the official split (such as Training), or all -> images.
    splits : dict
        Protocol -> train, val, test or excluded -> class or all -> images.
    """

    files: FileCounts
    findings: tuple[Finding, ...]
    checks: tuple[CheckResult, ...]
    classes: dict[str, dict[str, int]]
    splits: dict[str, dict[str, dict[str, int]]]
    near_copies: NearCopies
    images: ImageSummary


def write_data_report(report: DataReport, path: Path) -> None:
    """Write a report as JSON."""
    path.write_text(json.dumps(report.model_dump(), indent=2) + "\n", encoding="utf-8")


def read_data_report(path: Path) -> DataReport:
    """Read a report.

    Raises
    ------
    ArtifactError
        If the file is missing or is no such report.
    """
    try:
        return DataReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); run `hscc validate`.") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the document"
        raise ArtifactError(f"{path} is no data report ({where}: {fault['msg']}); run `hscc validate`.") from error
