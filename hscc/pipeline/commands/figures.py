"""Print the figures in the documents from the committed reports."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

from hscc.errors import ArtifactError
from hscc.files import replace_text
from hscc.pipeline import layout
from hscc.pipeline.report.markdown.blocks import BLOCKS, Reports, fill
from hscc.pipeline.statistics.robustness import read_protocols


def run(workspace: Path = Path(".")) -> list[Path]:
    """Fill the marked blocks of every document.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    list of Path
        Documents that disagreed with the reports and were written anew.

    Raises
    ------
    ArtifactError
        If a report or a document is missing or does not fit; nothing is written then.
    """
    renewed = stale(workspace)
    for path, text in renewed.items():
        replace_text(workspace / path, text)
    return list(renewed)


def stale(workspace: Path = Path(".")) -> dict[Path, str]:
    """Find the documents that disagree with the reports, with what they should be."""
    reports = _read(workspace)
    blocks = {name: cache(partial(block, reports)) for name, block in BLOCKS.items()}
    found = {}
    for path in layout.DOCUMENTS:
        if not (workspace / path).is_file():
            raise ArtifactError(f"{path} does not exist; run in the folder of the repository.")
        text = (workspace / path).read_text(encoding="utf-8")
        if (filled := fill(text, blocks, str(path))) != text:
            found[path] = filled
    return found


def _read(workspace: Path) -> Reports:
    results = workspace / layout.RESULTS_JSON
    return Reports(results, read_protocols(results, workspace / layout.PROTOCOLS), _tradeoff(workspace))


def _tradeoff(workspace: Path) -> dict[str, Any] | None:
    path = workspace / layout.TRADEOFF_JSON
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON; run `hscc tradeoff` again.") from error
    return found
