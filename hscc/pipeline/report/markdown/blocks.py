"""Marked places in a Markdown file, ``<!-- figures: NAME -->`` to ``<!-- end -->`` each, filled by their block."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from hscc.errors import ArtifactError
from hscc.pipeline.report.markdown.paper_claims import beside_the_paper, claims_grid, judge_claims
from hscc.pipeline.report.markdown.sentences import findings, headline
from hscc.pipeline.report.markdown.tables import (
    Grid,
    ablation_grid,
    protocols_grid,
    rivals_grid,
    seeds_grid,
    tradeoff_grid,
)
from hscc.pipeline.report.terminal import render
from hscc.pipeline.statistics.robustness import LEAKY, compare_protocols

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
            raise ArtifactError(f"{file} marks figures {name!r}, which no block prints; mend the name.")
        return f"{found[1]}\n{blocks[name]()}\n\n{found[3]}"

    return _BLOCK.sub(renew, text)


_WIDE = 120  # columns of a table that is shown as on a terminal
_NOT_TRIED = "Not run yet: `dvc repro tradeoff` writes `reports/tradeoff.json`."


@dataclass(frozen=True)
class Reports:
    """What the blocks are printed from.

    Attributes
    ----------
    results_json : Path
        The results table.
    protocols : mapping of str to mapping
        Of `hscc.pipeline.statistics.robustness.read_protocols`.
    tradeoff : mapping or None
        Content of ``tradeoff.json``; None where the stage was not run.
    """

    results_json: Path
    protocols: Mapping[str, Mapping[str, Any]]
    tradeoff: Mapping[str, Any] | None

    @property
    def results(self) -> Mapping[str, Any]:
        """Content of the results table."""
        return next(iter(self.protocols.values()))


def results(reports: Reports) -> str:
    """Print the results table, as `hscc results` does."""
    console = Console(file=io.StringIO(), width=_WIDE, highlight=False, color_system=None)
    console.print(render(reports.results_json))
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "```\n" + "\n".join(line.rstrip() for line in shown.splitlines()) + "\n```"


def short(reports: Reports) -> str:
    """Say in short what came out."""
    return textwrap.fill(headline(reports.results), _WIDE, break_long_words=False, break_on_hyphens=False)


def said(reports: Reports) -> str:
    """List what the results table says."""
    return "\n".join(
        textwrap.fill(f"- {sentence}", _WIDE, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for sentence in findings(reports.results)
    )


def rivals(reports: Reports) -> str:
    """Tabulate HSCC against every other method."""
    return rivals_grid(reports.results["comparisons"]).to_markdown()


def paper(reports: Reports) -> str:
    """Tabulate the paper's figures and ours, under the paper's protocol."""
    document = reports.protocols.get(LEAKY)
    return _not_run() if document is None else _origin(document) + beside_the_paper(document).to_markdown()


def claims(reports: Reports) -> str:
    """Judge the paper's claims, under the paper's protocol."""
    document = reports.protocols.get(LEAKY)
    return _not_run() if document is None else claims_grid(judge_claims(document)).to_markdown()


def ablation(reports: Reports) -> str:
    """Tabulate the controls."""
    rows = reports.results.get("ablation")
    return ablation_grid(rows).to_markdown() if rows else "The results table has no ablation: `dvc repro evaluate`."


def seeds(reports: Reports) -> str:
    """Tabulate means over the seeds."""
    rows = reports.results.get("seeds")
    return seeds_grid(rows).to_markdown() if rows else "One seed: nothing to average."


def protocols(reports: Reports) -> str:
    """Tabulate the same networks under each split."""
    return protocols_grid(compare_protocols(reports.protocols)).to_markdown()


def tradeoff(reports: Reports) -> str:
    """Answer the claims that the trade-off stage tests."""
    answered = (reports.tradeoff or {}).get("claims", [])
    if not answered:
        return _NOT_TRIED
    rows = tuple((found["claim"], found["answer"]) for found in answered)
    return Grid("Trade-off", ("claim", "answer"), rows, words=2).to_markdown()


def structures(reports: Reports) -> str:
    """Tabulate every setting of the trade-off."""
    document = reports.tradeoff
    return tradeoff_grid(document).to_markdown() if document and document["rows"] else _NOT_TRIED


BLOCKS: dict[str, Callable[[Reports], str]] = {
    "headline": short,
    "results": results,
    "findings": said,
    "rivals": rivals,
    "paper": paper,
    "claims": claims,
    "ablation": ablation,
    "seeds": seeds,
    "protocols": protocols,
    "tradeoff": tradeoff,
    "structures": structures,
}


def _origin(document: Mapping[str, Any]) -> str:
    return f"Data {document['data_hash'][:12]}, commit {document['git_commit'][:12]}.\n\n"


def _not_run() -> str:
    return f"Not run yet: `make protocols` writes `reports/protocols/{LEAKY}.json`."
