from __future__ import annotations

import json
from pathlib import Path

import pytest

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.commands.figures import run, stale
from hscc.pipeline.report.markdown.blocks import BLOCKS
from tests.pipeline.report.markdown.tabled import make_document, make_pair, make_row

ROOT = Path(__file__).parents[3]


def test_the_documents_of_the_repository_agree_with_its_reports() -> None:
    found = [str(path) for path in stale(ROOT)]
    assert not found, f"the figures of {found} are not those of reports/; run `hscc figures`"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A grouped table, a document with every block, and a README with none."""
    document = make_document(
        make_row("hscc", 6.0), make_row("tucker", 6.0), comparisons=[make_pair("tucker", 6.0, 0.1)]
    )
    (tmp_path / layout.PROTOCOLS).mkdir(parents=True)
    text = json.dumps(document)
    (tmp_path / layout.RESULTS_JSON).write_text(text.replace('"pooled"', '"grouped"'))
    (tmp_path / "README.md").write_text("no figures: 90.4\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/tradeoff.md").write_text("no figures\n")
    marks = "\n".join(f"<!-- figures: {name} -->\n<!-- end -->" for name in BLOCKS)
    (tmp_path / "docs/results.md").write_text(f"{marks}\n")
    return tmp_path


def test_every_block_is_printed_and_printed_once(workspace: Path) -> None:
    assert run(workspace) == [Path("docs/results.md")]
    assert run(workspace) == []
    text = (workspace / "docs/results.md").read_text()
    assert "Test split, grouped protocol, 490 test images" in text
    assert text.count("Not run yet: `make protocols`") == 2
    assert "Not run yet: `dvc repro tradeoff`" in text


def test_a_figure_that_changes_makes_the_document_stale(workspace: Path) -> None:
    run(workspace)
    results = workspace / layout.RESULTS_JSON
    results.write_text(results.read_text().replace('"accuracy": 0.9,', '"accuracy": 0.8,'))
    assert list(stale(workspace)) == [Path("docs/results.md")]


def test_other_reports_fill_their_blocks(workspace: Path) -> None:
    (workspace / layout.PROTOCOLS / "pooled.json").write_text(json.dumps(make_document(make_row("hscc", 6.0))))
    claims = [{"claim": "moderate", "answer": "no: 1.0", "verdict": "refuted", "figures": []}]
    (workspace / layout.TRADEOFF_JSON).write_text(json.dumps({"claims": claims, "rows": []}))
    run(workspace)
    text = (workspace / "docs/results.md").read_text()
    assert text.count("Not run yet") == 1  # claims without a row have no table
    assert "| moderate | no: 1.0 |" in text
    assert "| FLOPs cut | 81.1 % (5.3×) | HSCC, 6× |" in text


def test_a_damaged_report_writes_nothing(workspace: Path) -> None:
    before = (workspace / "docs/results.md").read_text()
    (workspace / layout.TRADEOFF_JSON).write_text("{")
    with pytest.raises(ArtifactError, match=r"tradeoff\.json is not JSON"):
        run(workspace)
    (workspace / layout.TRADEOFF_JSON).unlink()
    (workspace / "README.md").unlink()
    with pytest.raises(ArtifactError, match=r"README\.md does not exist"):
        run(workspace)
    assert (workspace / "docs/results.md").read_text() == before
