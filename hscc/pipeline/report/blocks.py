"""Marked places in a Markdown file, ``<!-- figures: NAME -->`` to ``<!-- end -->`` each, filled by their block."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console

from hscc.errors import ArtifactError
from hscc.pipeline.report.paper_claims import claims_table, judge_claims, paper_table
from hscc.pipeline.report.renderings import to_markdown, to_rich
from hscc.pipeline.report.sentences import findings, headline, limits
from hscc.pipeline.report.tables.comparison_tables import (
    ablation_table,
    comparison_table,
    protocols_table,
    seeds_table,
)
from hscc.pipeline.report.tables.results_table import brief_note, brief_table, summary_table
from hscc.pipeline.report.tables.structure_tables import structures_table
from hscc.pipeline.statistics.robustness import LEAKY
from hscc.pipeline.statistics.schema import Results
from hscc.pipeline.statistics.structure_schema import StructureGrid

_BLOCK = re.compile(r"(<!-- figures: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MARK = re.compile(r"<!-- (?:figures: [\w-]+|end) -->")


def fill(text: str, blocks: Mapping[str, Callable[[], str]], file: str) -> str:
    """Print every marked block anew.

    Parameters
    ----------
    text : str
        Markdown.
    blocks : mapping of str to callable
        By name, what prints the block.
    file : str
        For messages.

    Returns
    -------
    str
        The text with its blocks replaced; the same when they agree.

    Raises
    ------
    ArtifactError
        If a mark has no partner, or names no block.
    """
    if len(_MARK.findall(text)) != 2 * len(_BLOCK.findall(text)):
        raise ArtifactError(f"a mark of figures in {file} has no partner; close each block with <!-- end -->.")

    def renew(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in blocks:
            raise ArtifactError(f"{file} marks figures {name!r}, which no block prints; fix the name.")
        return f"{found[1]}\n{blocks[name]()}\n\n{found[3]}"

    return _BLOCK.sub(renew, text)


_WIDTH = 120  # columns of the text, and of a table that is shown as on a terminal
_NO_TRADEOFF = "Not run yet: `dvc repro tradeoff` writes `reports/tradeoff.json`."
_NO_POOLED = f"Not run yet: `make protocols` writes `reports/protocols/{LEAKY}.json`."


@dataclass(frozen=True)
class Reports:
    """What the blocks are printed from.

    Attributes
    ----------
    protocols : mapping of str to Results
        Of `hscc.pipeline.statistics.robustness.read_protocols`.
    tradeoff : StructureGrid or None
        None where the stage was not run.
    """

    protocols: Mapping[str, Results]
    tradeoff: StructureGrid | None

    @property
    def results(self) -> Results:
        """Results of the repository's own protocol."""
        return next(iter(self.protocols.values()))


def _results(reports: Reports) -> str:
    """Print the table as `hscc results` does."""
    console = Console(file=io.StringIO(), width=_WIDTH, highlight=False, color_system=None)
    console.print(to_rich(brief_table(reports.results), brief_note(reports.results)))
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "```\n" + "\n".join(line.rstrip() for line in shown.splitlines()) + "\n```"


def _findings(reports: Reports) -> str:
    return "\n".join(_wrapped(f"- {sentence}", "  ") for sentence in findings(reports.results))


def _paper(reports: Reports) -> str:
    results = reports.protocols.get(LEAKY)
    if results is None:
        return _NO_POOLED
    return f"Data {results.data_hash[:12]}, commit {results.git_commit[:12]}.\n\n{to_markdown(paper_table(results))}"


def _claims(reports: Reports) -> str:
    """Judge the paper's claims; all of them need its own protocol."""
    if LEAKY not in reports.protocols:
        return _NO_POOLED
    return to_markdown(claims_table(judge_claims(reports.protocols)))


def _ablation(reports: Reports) -> str:
    rows = reports.results.ablation
    return to_markdown(ablation_table(rows)) if rows else "The results have no ablation: `dvc repro evaluate`."


def _seeds(reports: Reports) -> str:
    rows = reports.results.seeds
    return to_markdown(seeds_table(rows)) if rows else "One seed: nothing to average."


def _tradeoff(reports: Reports) -> str:
    """Answer the claims that the trade-off tests."""
    claims = reports.tradeoff.claims if reports.tradeoff else ()
    if not claims:
        return _NO_TRADEOFF
    return "\n".join(["| claim | answer |", "| --- | --- |", *(f"| {each.claim} | {each.answer} |" for each in claims)])


def _structures(reports: Reports) -> str:
    grid = reports.tradeoff
    return to_markdown(structures_table(grid)) if grid and grid.rows else _NO_TRADEOFF


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


BLOCKS: dict[str, Callable[[Reports], str]] = {
    "headline": lambda reports: _wrapped(headline(reports.results)),
    "summary": lambda reports: to_markdown(summary_table(reports.results)),
    "limits": lambda reports: _wrapped(limits(reports.results)),
    "results": _results,
    "findings": _findings,
    "comparisons": lambda reports: to_markdown(comparison_table(reports.results, with_controls=True)),
    "paper": _paper,
    "claims": _claims,
    "ablation": _ablation,
    "seeds": _seeds,
    "protocols": lambda reports: to_markdown(protocols_table(reports.protocols)),
    "tradeoff": _tradeoff,
    "structures": _structures,
}
