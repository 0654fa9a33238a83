"""The short summary of a report for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hscc.data.classes import CLASSES, PROTOCOLS, SPLITS

_STYLE = {"warning": "yellow", "note": "cyan"}


def print_summary(report: dict[str, Any], console: Console) -> None:
    """Print the splits as a table, then every finding.

    Parameters
    ----------
    report : dict
        Of `hscc.validation.report.report`.
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
