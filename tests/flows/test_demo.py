import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from flows import demo
from hscc.params import read_params

from .conftest import dvc

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git and DVC repository with what the demo copies out of it."""
    root = tmp_path / "repository"
    (root / "hscc/__pycache__").mkdir(parents=True)
    (root / "hscc/__pycache__/old.pyc").write_bytes(b"0")
    (root / "hscc/code.py").write_text("one = 1\n")
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    dvc(root, "init", "--quiet")
    for name in (demo.GRAPH, demo.PARAMS, ".dvcignore"):
        shutil.copyfile(ROOT / name, root / name)
    return root


def test_the_workspace_is_a_repository_of_its_own(repository: Path) -> None:
    workspace = repository / "demo"
    demo.prepare(repository, workspace)
    assert dvc(workspace, "root") == "."
    assert yaml.safe_load(dvc(workspace, "config", "core.no_scm")) is True
    assert (workspace / demo.GRAPH).read_bytes() == (ROOT / demo.GRAPH).read_bytes()
    assert read_params(workspace / "params.yaml") == read_params(ROOT / demo.PARAMS)
    assert (workspace / "hscc/code.py").is_file()
    assert not (workspace / "hscc/__pycache__").exists()


def test_the_repository_does_not_see_the_workspace(repository: Path) -> None:
    (repository / demo.GRAPH).write_text("stages: {}\n")
    before = dvc(repository, "stage", "list", "--all")
    demo.prepare(repository, repository / "demo")
    shutil.copyfile(ROOT / demo.GRAPH, repository / "demo" / demo.GRAPH)
    assert dvc(repository, "stage", "list", "--all") == before


def test_preparing_again_refreshes_the_code_and_keeps_outputs(repository: Path) -> None:
    workspace = repository / "demo"
    demo.prepare(repository, workspace)
    (workspace / "artifacts/manifest.csv").write_text("kept")
    (repository / "hscc/code.py").rename(repository / "hscc/renamed.py")
    demo.prepare(repository, workspace)
    assert sorted(path.name for path in (workspace / "hscc").iterdir()) == ["renamed.py"]
    assert (workspace / "artifacts/manifest.csv").read_text() == "kept"


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
