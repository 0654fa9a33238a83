"""The verbs around the registry, from the command line to a real registry and back."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from hscc.pipeline.cli.main import app
from hscc.pipeline.data.classes import CLASSES
from hscc.pipeline.serving.answer import NOTICE
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
    assert first.output.startswith(
        f"version 1 of {NAME} is now the champion\n  ok no phantom: was trained on real images"
    )
    assert hscc("promote", "--version", "2").exit_code == 0
    back = hscc("rollback", "--reason", "misses small gliomas")
    assert back.output == f"version 1 of {NAME} is the champion again, in the place of 2\n"
    listed = hscc("registry")
    assert listed.exit_code == 0
    versions, champion, challenger = re.split(r"Moves of the \w+ *\n", listed.output)
    assert f"Versions of {NAME}" in versions
    assert [row[:4] for row in rows(versions)] == [
        ["3", "challenger", "hscc, 6×, 0", "grouped"],
        ["2", "–", "hscc, 6×, 0", "grouped"],
        ["1", "champion", "hscc, 6×, 0", "grouped"],
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


def test_an_empty_registry_is_told(empty_store: Path, tmp_path: Path) -> None:
    shutil.copy(empty_store, tmp_path)
    write_params(tmp_path)
    assert hscc("registry", "-w", str(tmp_path)).output.startswith("No version is registered")


def test_a_refusal_is_one_line_and_moves_nothing(workspace: Path) -> None:
    refused = hscc("promote")
    assert refused.exit_code == 1
    assert re.fullmatch(
        rf"error: version 3 of {NAME} is not promoted: accuracy: .*--force --reason TEXT\.\n", refused.stderr
    )
    assert hscc("promote", "--dry-run").stdout.startswith(f"version 3 of {NAME} may not be promoted\n  NO accuracy: ")
    assert hscc("rollback").stderr == f"error: {NAME} has no champion to roll back; `hscc promote` makes one.\n"
    assert "Moves of the champion" not in hscc("registry").output


def test_where_a_person_must_agree_the_flow_is_named(workspace: Path) -> None:
    write_params(workspace, approval=True)
    refused = hscc("promote", "--version", "1")
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert "run the flow promote/promote" in refused.stderr
    said = hscc("promote", "--version", "1", "--dry-run").output
    assert said.startswith(f"version 1 of {NAME} may be promoted once a person agrees (flow promote/promote)\n")
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
    assert re.fullmatch(
        r"error: the registry holds no version 'champion' .*`hscc promote` make some\.\n", without.stderr
    )
    (workspace / "grey.png").write_bytes(uniform())
    refused = hscc("predict", "grey.png", "--version", "1")
    assert refused.exit_code == 1
    assert re.fullmatch(r"error: grey\.png does not look like a brain MRI slice: .*nearly uniform.*\n", refused.stderr)
