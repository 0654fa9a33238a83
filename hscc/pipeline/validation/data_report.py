"""Gather the report on the data set, and print its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hscc.pipeline.data.report import (
    CheckResult,
    DataReport,
    FileCounts,
    Finding,
    ImageSummary,
    NearCopies,
    Range,
    Sizes,
)
from hscc.pipeline.data.targets import has_label
from hscc.pipeline.data_spec import SPLITS, DataSpec
from hscc.pipeline.validation.near_copies import Evidence
from hscc.pipeline.validation.runner import Outcome

_STYLE = {"warning": "yellow", "note": "cyan"}


def gather_report(outcomes: Sequence[Outcome], findings: Sequence[Finding], evidence: Evidence) -> DataReport:
    """Gather all that is known of the data set.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of every check.
    findings : sequence of Finding
        What the failed ones mean.
    evidence : Evidence
        The whole manifest and the near-copies.

    Returns
    -------
    DataReport
        The same for the same data on any machine.
    """
    frame, spec = evidence.frame, evidence.spec
    parts = spec.official.names if spec.official else ()
    return DataReport(
        files=FileCounts(count=len(frame), distinct=int(frame["sha256"].nunique()), bytes=int(frame["bytes"].sum())),
        findings=tuple(findings),
        checks=tuple(
            CheckResult(
                id=outcome.check.id,
                rule=outcome.check.rule,
                severity=outcome.check.severity,
                passed=outcome.passed,
                count=len(outcome.paths),
            )
            for outcome in outcomes
        ),
        classes={
            label: _counts(frame.loc[has_label(frame, label, spec), "official_split"], parts) for label in spec.strata
        },
        splits={
            protocol: {split: _count_labels(frame[frame[f"split_{protocol}"] == split], spec) for split in SPLITS}
            for protocol in spec.protocols
        },
        near_copies=NearCopies(threshold=evidence.near_duplicate, at=tuple(evidence.near_copies)),
        images=_image_summary(frame),
    )


def print_summary(report: DataReport, spec: DataSpec, console: Console) -> None:
    """Print the splits as a table, then every finding."""
    table = Table(title=f"{report.files.count:,} images by class, protocol and split")
    for heading in ("protocol", "split"):
        table.add_column(heading)
    for heading in (*(min(spec.texts.name(label), label, key=len) for label in spec.strata), "all"):
        table.add_column(heading, justify="right")
    for protocol in spec.protocols:
        for split in SPLITS:
            counts = report.splits[protocol][split]
            table.add_row(
                protocol if split == SPLITS[0] else "",
                split,
                *(str(counts[name]) for name in (*spec.strata, "all")),
                end_section=split == SPLITS[-1],
            )
    console.print(table)
    for found in report.findings:
        console.print(f"[{_STYLE[found.severity]}]{found.severity}[/] [bold]{escape(found.title)}[/]")
        console.print(f"  {escape(found.finding)}", highlight=False)
        console.print(f"  -> {escape(found.what_we_do)}", highlight=False)


def _counts(values: pd.Series[str], names: Sequence[str]) -> dict[str, int]:
    return {name: int((values == name).sum()) for name in names} | {"all": len(values)}


def _count_labels(frame: pd.DataFrame, spec: DataSpec) -> dict[str, int]:
    return {name: int(has_label(frame, name, spec).sum()) for name in spec.strata} | {"all": len(frame)}


def _image_summary(frame: pd.DataFrame) -> ImageSummary:
    sizes = (frame["width"].astype(str) + "x" + frame["height"].astype(str)).value_counts()
    modes: Mapping[object, int] = frame["mode"].value_counts().sort_index().to_dict()
    return ImageSummary(
        width=_range(frame["width"]),
        height=_range(frame["height"]),
        bytes=_range(frame["bytes"]),
        sizes=Sizes(different=len(sizes), commonest=str(sizes.index[0]), images=int(sizes.iloc[0])),
        modes={str(mode): int(count) for mode, count in modes.items()},
    )


def _range(values: pd.Series[int]) -> Range:
    return Range(min=int(values.min()), median=float(values.median()), max=int(values.max()))
