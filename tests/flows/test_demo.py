import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from flows import demo
from hscc.pipeline.params import read_params
from hscc.pipeline.workspace.create import graph
from tests.in_process import dvc

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git and DVC repository with what the demo takes from it."""
    root = tmp_path / "repository"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    dvc(root, "init", "--quiet")
    for name in (demo.PARAMS, ".dvcignore"):
        shutil.copyfile(ROOT / name, root / name)
    return root


def test_the_workspace_is_a_repository_of_its_own(repository: Path) -> None:
    workspace = repository / "demo"
    demo.prepare(repository, workspace)
    assert dvc(workspace, "root") == "."
    assert yaml.safe_load(dvc(workspace, "config", "core.no_scm")) is True
    assert (workspace / "dvc.yaml").read_text() == graph()
    assert read_params(workspace / "params.yaml") == read_params(ROOT / demo.PARAMS)


def test_the_repository_does_not_see_the_workspace(repository: Path) -> None:
    (repository / "dvc.yaml").write_text("stages: {}\n")
    before = dvc(repository, "stage", "list", "--all")
    demo.prepare(repository, repository / "demo")
    assert dvc(repository, "stage", "list", "--all") == before


def test_preparing_again_refreshes_the_graph_and_keeps_outputs(repository: Path) -> None:
    workspace = repository / "demo"
    demo.prepare(repository, workspace)
    (workspace / "artifacts/manifest.csv").write_text("kept")
    (workspace / "dvc.yaml").write_text("stages: {}\n")
    (workspace / "hscc").mkdir()  # as earlier demos left it: it would run instead of the package
    demo.prepare(repository, workspace)
    assert (workspace / "dvc.yaml").read_text() == graph()
    assert (workspace / "artifacts/manifest.csv").read_text() == "kept"
    assert not (workspace / "hscc").exists()


def test_images_are_drawn_once_and_pinned(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TRAIN_PER_CLASS", 2)
    monkeypatch.setattr(demo, "TEST_PER_CLASS", 1)
    monkeypatch.setattr(demo, "DUPLICATES", 0)
    workspace = repository / "demo"
    demo.prepare(repository, workspace)
    demo.draw(workspace)
    assert len(list((workspace / "data").rglob("*.jpg"))) == 4 * 3
    pin = (workspace / "data.dvc").read_bytes()
    demo.draw(workspace)
    assert (workspace / "data.dvc").read_bytes() == pin


def test_a_failed_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(demo.StepError, match=rf"'dvc repro' in {tmp_path}/ ended with status \d+"):
        demo._call(tmp_path, "dvc", "repro")


@pytest.mark.parametrize(
    ("registered", "said"),
    [("hscc-6-0", "models:/phantom@challenger in {workspace}/mlflow.db: because"), (None, "none registered: because")],
)
def test_it_ends_with_where_everything_is(
    registered: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shown: list[tuple] = []
    monkeypatch.setattr(demo, "_call", lambda *call: shown.append(call))
    decision = {"name": "phantom", "alias": "challenger", "registered": registered, "why": "because"}
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/registration.json").write_text(json.dumps(decision))
    demo.show(tmp_path, 61.4)
    printed = capsys.readouterr().out
    assert shown == [(tmp_path, "hscc", "results")]
    assert f"report  {tmp_path}/reports/report.html" in printed
    assert said.format(workspace=tmp_path) in printed
    assert f"make ui WORKSPACE={tmp_path}" in printed
    assert "61 s" in printed
