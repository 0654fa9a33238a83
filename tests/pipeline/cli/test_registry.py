"""The commands around the registry, from the command line to a real registry and back."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from PIL import Image
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from hscc.export.card import NOTICE
from hscc.pipeline.cli.main import app
from hscc.pipeline.cli.registry import audit_table, versions_table
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.registry.audit_log import CHAMPION, PROMOTE, ROLLBACK, Entry
from hscc.pipeline.registry.versions import Version
from tests.pipeline.pictures import uniform
from tests.pipeline.registered import NAME, head

ROOT = Path(__file__).parents[3]
DAY = r"\d{4}-\d\d-\d\d \d\d:\d\d"


@pytest.fixture
def workspace(three_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with three versions and the parameters that ask for them."""
    shutil.copy(three_versions / "mlflow.db", tmp_path)
    write_params(tmp_path)
    Image.fromarray(head()).save(tmp_path / "slice.png")
    monkeypatch.setenv("HSCC_USER", "ada")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_params(workspace: Path, approval: bool = False) -> None:
    found = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    found["register"]["name"] = NAME
    found["promote"] |= {"min_images": 50, "approval": approval}
    found["evaluate"]["resamples"] = 200
    (workspace / "params.yaml").write_text(yaml.safe_dump(found), encoding="utf-8")


def hscc(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def rows(output: str) -> list[list[str]]:
    """Give the cells of every row of the tables that were printed."""
    return [[cell.strip() for cell in line.strip("│ ").split("│")] for line in output.splitlines() if "│" in line]


def test_what_is_promoted_and_rolled_back_is_listed(workspace: Path) -> None:
    first = hscc("promote", "--version", "1", "--reason", "the first")
    assert first.exit_code == 0
    assert first.output.startswith(f"version 1 of {NAME} is now the champion\n  ok no phantom: ")
    assert hscc("promote", "--version", "2").exit_code == 0
    back = hscc("rollback", "--reason", "misses small gliomas")
    assert back.output == f"version 1 of {NAME} is the champion again, in the place of 2\n"
    listed = hscc("registry")
    assert listed.exit_code == 0
    versions, champion, challenger = re.split(r"Changes of the \w+ *\n", listed.output)
    assert f"Versions of {NAME}" in versions
    assert [row[:4] for row in rows(versions)] == [
        ["3", "challenger", "hscc-macs6-seed0", "grouped"],
        ["2", "–", "hscc-macs6-seed0", "grouped"],
        ["1", "champion", "hscc-macs6-seed0", "grouped"],
    ]
    assert rows(versions)[0][4:8] == ["90.0 ± 3.0", "90.0", "6.00×", "2.00×"]
    assert [row[1:] for row in rows(champion)] == [
        ["rollback", "2", "1", "ada", "misses small gliomas"],
        ["promote", "1", "2", "ada", "–"],
        ["promote", "–", "1", "ada", "the first"],
    ]
    assert all(re.fullmatch(DAY, row[0]) for row in rows(champion))
    assert [row[1:4] for row in rows(challenger)] == [
        ["register", "2", "3"],
        ["register", "1", "2"],
        ["register", "–", "1"],
    ]


def test_an_empty_registry_is_reported(empty_store: Path, tmp_path: Path) -> None:
    shutil.copy(empty_store, tmp_path)
    write_params(tmp_path)
    assert hscc("registry", "-w", str(tmp_path)).output.startswith("No version is registered")


def test_a_refusal_is_one_line_and_changes_nothing(workspace: Path) -> None:
    refused = hscc("promote")
    assert refused.exit_code == 1
    assert re.fullmatch(rf"error: version 3 of {NAME} is not promoted: accuracy: .*--force.*\n", refused.stderr)
    assert hscc("promote", "--dry-run").stdout.startswith(f"version 3 of {NAME} may not be promoted\n  NO accuracy: ")
    assert re.fullmatch(rf"error: {NAME} has no champion .*\n", hscc("rollback").stderr)
    assert "Changes of the champion" not in hscc("registry").output


def test_where_approval_is_required_the_flow_is_named(workspace: Path) -> None:
    write_params(workspace, approval=True)
    refused = hscc("promote", "--version", "1")
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert "run the flow promote/promote" in refused.stderr
    dry = hscc("promote", "--version", "1", "--dry-run").output
    assert dry.startswith(f"version 1 of {NAME} may be promoted once a person agrees (flow promote/promote)\n")
    forced = hscc("promote", "--version", "1", "--force", "--reason", "nobody is in")
    assert forced.output.startswith(f"version 1 of {NAME} is now the champion\n")
    assert ["promote, forced", "–", "1", "ada", "nobody is in"] in [row[1:] for row in rows(hscc("registry").output)]


def test_a_picture_is_classified_by_the_champion_in_a_table(workspace: Path) -> None:
    hscc("promote", "--version", "2")
    answered = hscc("predict", "slice.png", "--heatmap", "heat")
    assert answered.exit_code == 0
    assert f"{NAME}, version 2" in answered.output
    ((name, label, *probabilities),) = rows(answered.output)
    assert name == "slice.png"
    assert sum(float(value) for value in probabilities) == pytest.approx(100, abs=0.3)
    assert label
    assert f"heat map: {Path('heat/slice-heatmap.png')}" in answered.output
    assert NOTICE in answered.output
    assert (workspace / "heat/slice-heatmap.png").is_file()


def test_a_picture_is_classified_by_a_version_in_json(workspace: Path) -> None:
    answered = hscc("predict", "slice.png", "--version", "3", "--json")
    document = json.loads(answered.stdout)
    (answer,) = document.pop("answers")
    assert document == {"model": NAME, "version": "3", "notice": NOTICE}
    assert answer["name"] == "slice.png"
    assert answer["label"] == max(CLASSES, key=lambda name: answer["probabilities"][name])


def test_prediction_without_a_champion_or_without_a_slice_is_one_line(workspace: Path) -> None:
    without = hscc("predict", "slice.png")
    assert without.exit_code == 1
    assert re.fullmatch(r"error: .*no version 'champion' of hscc-tiny.*\n", without.stderr)
    (workspace / "grey.png").write_bytes(uniform())
    refused = hscc("predict", "grey.png", "--version", "1")
    assert refused.exit_code == 1
    assert re.fullmatch(r"error: grey\.png .*nearly uniform.*\n", refused.stderr)


FULL = Version(
    "hscc-tiny",
    "2",
    ("challenger", "champion"),
    {
        "network": "hscc-macs6-seed0", "protocol": "grouped", "phantom": "false", "accuracy": "0.9123",
        "accuracy_se": "0.031", "macro_f1": "0.9", "macs_ratio": "6.1", "speedup_b1": "2", "data_hash": "440a20f27877",
    },
    "run",
    1_700_000_000_000,
)  # fmt: skip


def cells(table: Table) -> list[list[str]]:
    """Give title, head and rows as a reader sees them, cell by cell."""
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(table)
    lines = [line.strip(" │┃") for line in capture.get().splitlines()]
    return [[cell.strip() for cell in line.replace("┃", "│").split("│")] for line in lines if line[:1] not in "┏┡└├"]


def test_scores_of_a_version_have_units() -> None:
    title, head, row = cells(versions_table([FULL]))
    assert title == ["Versions of hscc-tiny"]
    assert dict(zip(head, row, strict=True)) == {
        "version": "2", "alias": "challenger, champion", "network": "hscc-macs6-seed0", "protocol": "grouped",
        "accuracy %": "91.2 ± 3.1", "F1 %": "90.0", "MACs": "6.10×", "speed": "2.00×", "data": "440a20f",
        "registered (UTC)": "2023-11-14 22:13",
    }  # fmt: skip


def test_unknown_scores_are_dashes_and_a_phantom_is_marked() -> None:
    bare = Version("hscc-tiny", "1", (), {"phantom": "true"}, "run", 0)
    (_, _, row) = cells(versions_table([bare]))
    assert row == ["1", "–", "–", "– (phantom)", "–", "–", "–", "–", "–", "1970-01-01 00:00"]


def test_the_latest_change_is_first_and_forced_or_cut_short_ones_are_marked() -> None:
    log = [
        Entry(PROMOTE, CHAMPION, None, "1", "ada", "", at=60),
        Entry(PROMOTE, CHAMPION, "1", "2", "bob", "a study", forced=True, at=120),
        Entry(ROLLBACK, CHAMPION, "2", "1", "ada", "worse", at=180, done=False),
    ]
    title, _, *rows = cells(audit_table(CHAMPION, log))
    assert title == ["Changes of the champion"]
    assert rows == [
        ["1970-01-01 00:03", "rollback, cut short", "2", "1", "ada", "worse"],
        ["1970-01-01 00:02", "promote, forced", "1", "2", "bob", "a study"],
        ["1970-01-01 00:01", "promote", "–", "1", "ada", "–"],
    ]
