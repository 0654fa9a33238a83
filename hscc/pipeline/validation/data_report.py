"""The machine-readable report on the data set (``reports/data.json``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hscc.pipeline.data.classes import CLASSES, OFFICIAL_SPLITS, PROTOCOLS, SPLITS
from hscc.pipeline.validation.findings import Finding
from hscc.pipeline.validation.near_copies import Evidence
from hscc.pipeline.validation.runner import Outcome


def report(outcomes: Sequence[Outcome], findings: Sequence[Finding], evidence: Evidence) -> dict[str, Any]:
    """Gather all that is known of the data set; nothing in it depends on time or machine.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of every check.
    findings : sequence of Finding
        What the failed ones mean.
    evidence : Evidence
        The manifest and the near-copies.

    Returns
    -------
    dict
        JSON-ready: files, findings, checks, classes, splits, near_copies, images.
    """
    frame = evidence.frame
    return {
        "files": {
            "count": len(frame),
            "distinct": int(frame["sha256"].nunique()),
            "bytes": int(frame["bytes"].sum()),
        },
        "findings": [asdict(finding) for finding in findings],
        "checks": [
            {
                "id": outcome.check.id,
                "rule": outcome.check.rule,
                "severity": outcome.check.severity,
                "passed": outcome.passed,
                "count": len(outcome.paths),
            }
            for outcome in outcomes
        ],
        "classes": class_counts(frame),
        "splits": split_counts(frame),
        "near_copies": {
            "threshold": evidence.near_duplicate,
            "at": [asdict(row) for row in evidence.near_copies],
        },
        "images": image_summary(frame),
    }


def class_counts(frame: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count the images of each class in each official folder.

    Parameters
    ----------
    frame : pandas.DataFrame
        A manifest.

    Returns
    -------
    dict
        Class name -> Training, Testing, all -> images.
    """
    counts = {}
    for label in CLASSES:
        folders = frame.loc[frame["label"] == label, "official_split"]
        counts[label] = {name: int((folders == name).sum()) for name in OFFICIAL_SPLITS} | {"all": len(folders)}
    return counts


def split_counts(frame: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Count the images of each class in each split of each protocol.

    Parameters
    ----------
    frame : pandas.DataFrame
        A whole manifest.

    Returns
    -------
    dict
        Protocol -> train, val, test, excluded -> class name or all -> images.
    """
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for protocol in PROTOCOLS:
        counts[protocol] = {}
        for split in SPLITS:
            labels = frame.loc[frame[f"split_{protocol}"] == split, "label"]
            counts[protocol][split] = {name: int((labels == name).sum()) for name in CLASSES} | {"all": len(labels)}
    return counts


def image_summary(frame: pd.DataFrame) -> dict[str, Any]:
    """Summarise sizes and pixel modes.

    Parameters
    ----------
    frame : pandas.DataFrame
        A manifest.

    Returns
    -------
    dict
        width and height (pixels) and bytes, each with min, median and max; sizes (how many different ones,
        the commonest and its images); modes (mode -> images).
    """
    sizes = (frame["width"].astype(str) + "x" + frame["height"].astype(str)).value_counts()
    summary: dict[str, Any] = {
        name: {"min": int(frame[name].min()), "median": float(frame[name].median()), "max": int(frame[name].max())}
        for name in ("width", "height", "bytes")
    }
    summary["sizes"] = {"different": len(sizes), "commonest": str(sizes.index[0]), "images": int(sizes.iloc[0])}
    summary["modes"] = {str(mode): int(count) for mode, count in frame["mode"].value_counts().sort_index().items()}
    return summary


_STYLE = {"warning": "yellow", "note": "cyan"}


def print_summary(report: dict[str, Any], console: Console) -> None:
    """Print the splits as a table, then every finding.

    Parameters
    ----------
    report : dict
        Of `hscc.pipeline.validation.data_report.report`.
    console : rich.console.Console
        Where to.
    """
    table = Table(title=f"{report['files']['count']:,} images by class, protocol and split")
    for heading in ("protocol", "split"):
        table.add_column(heading)
    for heading in (*CLASSES, "all"):
        table.add_column(heading.removesuffix("_tumor"), justify="right")
    for protocol in PROTOCOLS:
        for split in SPLITS:
            counts = report["splits"][protocol][split]
            table.add_row(
                protocol if split == SPLITS[0] else "",
                split,
                *(str(counts[name]) for name in (*CLASSES, "all")),
                end_section=split == SPLITS[-1],
            )
    console.print(table)
    for finding in report["findings"]:
        severity = finding["severity"]
        console.print(f"[{_STYLE[severity]}]{severity}[/] [bold]{escape(finding['title'])}[/]")
        console.print(f"  {escape(finding['finding'])}", highlight=False)
        console.print(f"  -> {escape(finding['what_we_do'])}", highlight=False)
