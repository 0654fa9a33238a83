from __future__ import annotations

from pathlib import Path

import pytest

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.commands.figures import run, stale
from hscc.pipeline.report.blocks import BLOCKS
from hscc.pipeline.statistics.schema import write_record
from tests.pipeline.report.documents import network, pair, results_of, tradeoff

ROOT = Path(__file__).parents[3]
RESULTS = layout.sweep_reports(layout.EVIDENCE) / layout.RESULTS_JSON.name
TRADEOFF = layout.sweep_reports(layout.EVIDENCE) / layout.TRADEOFF_JSON.name


def test_the_documents_of_the_repository_agree_with_its_reports() -> None:
    found = [str(path) for path in stale(ROOT)]
    assert not found, f"the figures of {found} are not those of reports/; run `hscc figures`"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A grouped table, a document with every block, and a README with none."""
    results = results_of(network(), network("tucker"), comparisons=[pair("tucker", 6.0, 0.1)])
    (tmp_path / layout.PROTOCOLS).mkdir(parents=True)
    for path in (layout.RESULTS_JSON, RESULTS):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(write_record(results))
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
    assert "Test split, grouped protocol, 120 test images" in text
    assert "**What this does not show.**" in text
    assert text.count("Not run yet: `make protocols`") == 2
    assert text.count("Not run yet: `dvc repro tradeoff`") == 2


def test_a_figure_that_changes_makes_the_document_stale(workspace: Path) -> None:
    run(workspace)
    changed = results_of(network(gain=0.01), network("tucker"))
    (workspace / RESULTS).write_text(write_record(changed))
    assert list(stale(workspace)) == [Path("docs/results.md")]


def test_the_readme_is_printed_from_the_graph_and_the_evidence_from_its_sweep(workspace: Path) -> None:
    (workspace / "README.md").write_text("<!-- figures: summary -->\n<!-- end -->\n")
    run(workspace)
    changed = results_of(network(gain=0.01), network("tucker"))
    (workspace / layout.RESULTS_JSON).write_text(write_record(changed))
    assert list(stale(workspace)) == [Path("README.md")]


def test_other_reports_fill_their_blocks(workspace: Path) -> None:
    pooled = results_of(network(protocol="pooled"), protocol="pooled")
    (workspace / layout.PROTOCOLS / "pooled.json").write_text(write_record(pooled))
    (workspace / TRADEOFF).write_text(write_record(tradeoff([])))
    run(workspace)
    text = (workspace / "docs/results.md").read_text()
    assert text.count("Not run yet") == 1  # claims without a row have no table
    assert "| Moderate clustering is best | Refuted: KL 0.12. |" in text
    assert "| FLOPs cut | pooled | 81.1 % (5.3×) | HSCC, 6× fewer MACs |" in text


def test_a_damaged_report_writes_nothing(workspace: Path) -> None:
    before = (workspace / "docs/results.md").read_text()
    (workspace / TRADEOFF).write_text("{")
    with pytest.raises(ArtifactError, match=r"tradeoff\.json"):
        run(workspace)
    (workspace / TRADEOFF).unlink()
    (workspace / "README.md").unlink()
    with pytest.raises(ArtifactError, match=r"README\.md does not exist"):
        run(workspace)
    assert (workspace / "docs/results.md").read_text() == before


def test_the_page_of_an_example_is_printed_from_its_own_reports(workspace: Path) -> None:
    run(workspace)
    page = workspace / "examples/lungs/README.md"
    (page.parent / "reports").mkdir(parents=True)
    page.write_text("<!-- figures: results -->\n<!-- end -->\n")
    (page.parent / "reports/results.json").write_text(write_record(results_of(network("tucker"))))

    assert run(workspace) == [Path("examples/lungs/README.md")]

    text = page.read_text()
    assert "Tucker" in text
    assert "HSCC" not in text
