"""Print the figures in the documents from the committed reports."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from hscc.errors import ArtifactError
from hscc.files import replace_text
from hscc.pipeline import layout
from hscc.pipeline.report.blocks import BLOCKS, Reports, fill
from hscc.pipeline.statistics.robustness import read_protocols
from hscc.pipeline.statistics.structure_schema import read_structure_grid


def run(workspace: Path = Path(".")) -> list[Path]:
    """Fill the marked blocks of every document.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    list of Path
        Documents that disagreed with the reports and were rewritten.

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
    """Find the documents that disagree with the reports, with the text that agrees."""
    found = {}
    for path, (folder, protocols) in _documents(workspace).items():
        if not (workspace / path).is_file():
            raise ArtifactError(f"{path} does not exist; run in the folder of the repository.")
        blocks = _blocks(workspace, folder, protocols)
        text = (workspace / path).read_text(encoding="utf-8")
        if (filled := fill(text, blocks, str(path))) != text:
            found[path] = filled
    return found


def _documents(workspace: Path) -> dict[Path, tuple[Path, Path]]:
    """Folders of the reports of each document, and of those of other split protocols; an example has its own."""
    pages = [path.relative_to(workspace) for path in sorted((workspace / layout.EXAMPLES).glob("*/README.md"))]
    examples = {page: (page.parent / "reports", page.parent / layout.PROTOCOLS) for page in pages}
    return {path: (folder, layout.PROTOCOLS) for path, folder in layout.DOCUMENTS.items()} | examples


def _blocks(workspace: Path, folder: Path, protocols: Path) -> dict[str, Callable[[], str]]:
    """Blocks by name, printed from a folder of reports at most once."""
    grid = workspace / folder / layout.TRADEOFF_JSON.name
    reports = Reports(
        read_protocols(workspace / folder / layout.RESULTS_JSON.name, workspace / protocols),
        read_structure_grid(grid) if grid.is_file() else None,
    )
    return {name: cache(partial(block, reports)) for name, block in BLOCKS.items()}
