import subprocess
from pathlib import Path

import pytest
import yaml

from hscc.errors import DataError
from hscc.pipeline.data.sources.pin import check_pin
from hscc.pipeline.workspace.create import bring_data, graph, initialise_dvc, refuse_used, template
from tests.in_process import dvc

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["dvc.yaml", "params.yaml", "sweeps.yaml"])
def test_the_repository_and_the_package_have_one_graph_and_one_file_of_parameters(name: str) -> None:
    assert template(name) == (ROOT / name).read_text(encoding="utf-8")
    assert template("dvcignore") == (ROOT / ".dvcignore").read_text(encoding="utf-8")


def test_the_graph_differs_in_what_makes_the_stage_code_run() -> None:
    own, theirs = yaml.safe_load((ROOT / "dvc.yaml").read_text()), yaml.safe_load(graph())
    assert own["stages"]["code"].pop("deps") == ["hscc"]
    assert theirs["stages"]["code"].pop("always_changed") is True
    assert theirs == own


def test_linked_data_is_pinned_and_kept_once(tmp_path: Path) -> None:
    data, folder = tmp_path / "theirs", tmp_path / "workspace"
    (data / "a").mkdir(parents=True)
    (data / "a/1.txt").write_text("one")
    folder.mkdir()
    initialise_dvc(folder)
    bring_data(folder, data, copy=False)
    assert (folder / "data").resolve() == data
    assert dvc(folder, "status") == "Data and pipelines are up to date."
    check_pin(folder)
    assert not [path for path in (folder / ".dvc").rglob("*") if path.is_file() and path.read_bytes() == b"one"]
    (data / "a/2.txt").write_text("two")
    assert "modified" in dvc(folder, "status")
    with pytest.raises(DataError, match="2 files"):
        check_pin(folder)


def test_copied_data_goes_into_the_cache(tmp_path: Path) -> None:
    data, folder = tmp_path / "theirs", tmp_path / "workspace"
    data.mkdir()
    (data / "1.txt").write_text("one")
    folder.mkdir()
    initialise_dvc(folder)
    bring_data(folder, data, copy=True)
    assert not (folder / "data").is_symlink()
    assert [path for path in (folder / ".dvc/cache").rglob("*") if path.is_file() and path.read_bytes() == b"one"]
    check_pin(folder)


@pytest.mark.parametrize(("place", "scm"), [("outside", False), (".", True), ("inner", True), ("ignored", False)])
def test_git_is_used_where_it_sees_the_folder(place: str, scm: bool, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    (repository / ".gitignore").write_text("ignored/\n")
    folder = tmp_path / "outside" if place == "outside" else repository / place
    folder.mkdir(exist_ok=True)
    initialise_dvc(folder)
    config = (folder / ".dvc/config").read_text()
    assert ("no_scm" not in config) == scm
    assert "analytics = false" in config
    assert dvc(folder, "root") == "."


@pytest.mark.parametrize(
    ("inside", "refused"), [([], False), ([".git"], False), (["data"], False), (["x.txt"], True), (["dvc.yaml"], True)]
)
def test_only_an_empty_folder_becomes_a_workspace(inside: list[str], refused: bool, tmp_path: Path) -> None:
    for name in inside:
        (tmp_path / name).mkdir()
    data = tmp_path / "data"
    if refused:
        with pytest.raises(DataError, match=inside[0]):
            refuse_used(tmp_path, data)
    else:
        refuse_used(tmp_path, data)
