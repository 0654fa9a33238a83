import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.graph import Stage, claim, commit_outputs, is_missing, is_stale, open_repo, read_graph, select
from hscc.errors import HSCCError
from tests.in_process import dvc

from .conftest import CELLS
from .stack import UNTIL_GO


def stage_named(address: str, stages: list[Stage]) -> Stage:
    return next(stage for stage in stages if stage.address == address)


def test_stages_come_after_what_they_need(workspace: Path) -> None:
    stages = read_graph(open_repo(workspace))
    seen: set[str] = set()
    for stage in stages:
        assert stage.needs <= seen
        seen.add(stage.address)
    assert seen == {"data.dvc", "first", *CELLS, "last"}


def test_cells_of_a_matrix_are_stages_with_their_own_commands(workspace: Path) -> None:
    stages = read_graph(open_repo(workspace))
    cell = stage_named("sweep@y-6.5", stages)
    assert cell.needs == {"first"}
    assert cell.folder == workspace
    assert cell.commands[0] == "mkdir -p cells"
    assert "cells/y-6.5.txt" in cell.commands[1]
    assert stage_named("last", stages).needs == set(CELLS)
    assert stage_named("data.dvc", stages).commands == ()


def test_a_stage_handed_over_is_not_stale(workspace: Path) -> None:
    repo = open_repo(workspace)
    first = stage_named("first", read_graph(repo))
    assert is_stale(repo, first)
    (workspace / "first.txt").write_text("one\n")
    commit_outputs(repo, first)
    assert not is_stale(repo, first)
    assert "first" not in dvc(workspace, "status").split(":")[0]


def test_a_missing_output_is_not_handed_over(workspace: Path) -> None:
    repo = open_repo(workspace)
    with pytest.raises(HSCCError, match=r"stage first succeeded but .*first\.txt"):
        commit_outputs(repo, stage_named("first", read_graph(repo)))


def test_room_is_made_as_dvc_makes_it(workspace: Path) -> None:
    repo = open_repo(workspace)
    stages = read_graph(repo)
    (workspace / "cells").mkdir()
    for name in ("first.txt", "cells/x-3.txt"):
        (workspace / name).write_text("old")
    for address in ("first", "sweep@x-3"):
        with claim(repo, stage_named(address, stages)):
            pass
    assert (workspace / "first.txt").read_text() == "old"  # marked persist
    assert not (workspace / "cells/x-3.txt").exists()


def test_a_folder_without_dvc_is_named(tmp_path: Path) -> None:
    with pytest.raises(HSCCError, match="is not a DVC repository"):
        open_repo(tmp_path)


@pytest.mark.parametrize(
    "graph", ["stages: [", "stages:\n  a:\n    cmd: echo ${nothing}\n", "stages:\n  a: {cmmd: x}\n"]
)
def test_a_graph_that_is_not_valid_is_refused(graph: str, workspace: Path) -> None:
    (workspace / "dvc.yaml").write_text(graph)
    with pytest.raises(HSCCError, match=r"dvc\.yaml does not describe a valid graph"):
        read_graph(open_repo(workspace))


def test_what_the_graph_says_of_a_stage(workspace: Path) -> None:
    graph = workspace / "dvc.yaml"
    graph.write_text(graph.read_text().replace("  last:\n", "  last:\n    meta: {alone: true, memory_gib: 3}\n"))
    stages = read_graph(open_repo(workspace))
    last, cell = stage_named("last", stages), stage_named("sweep@x-6.5", stages)
    assert (last.alone, last.memory) == (True, 3.0)
    assert (cell.alone, cell.phase) == (False, "sweep")
    assert cell.outputs == {workspace / "cells/x-6.5.txt"}


def test_a_target_brings_what_it_needs(workspace: Path) -> None:
    stages = read_graph(open_repo(workspace))
    assert [stage.address for stage in select(stages, ["sweep@y-3"])] == ["data.dvc", "first", "sweep@y-3"]
    assert {stage.address for stage in select(stages, ["sweep"])} == {"data.dvc", "first", *CELLS}
    assert select(stages, []) == stages


def test_a_target_that_is_no_stage_is_named(workspace: Path) -> None:
    with pytest.raises(HSCCError, match=r"target 'sweeep' is no stage of dvc.yaml; choose among first, last, sweep"):
        select(read_graph(open_repo(workspace)), ["sweeep"])


def test_pinned_data_that_is_gone_is_missing(workspace: Path) -> None:
    pin = stage_named("data.dvc", read_graph(open_repo(workspace)))
    assert not is_missing(pin)
    shutil.rmtree(workspace / "data")
    assert is_missing(pin)


def test_another_dvc_keeps_off_a_stage_that_runs(workspace: Path) -> None:
    repo = open_repo(workspace)
    with claim(repo, stage_named("first", read_graph(repo))):
        beside = subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "first"], cwd=workspace, capture_output=True, text=True, check=False
        )
    assert beside.returncode != 0
    assert "busy" in beside.stderr
    assert not (workspace / "first.txt").exists()
    dvc(workspace, "repro", "first")  # and lets it in again


def test_a_stage_that_another_dvc_runs_is_refused(workspace: Path) -> None:
    graph = workspace / "dvc.yaml"
    graph.write_text(graph.read_text().replace("cp data/words.txt", f"touch begun && {UNTIL_GO} && cp data/words.txt"))
    beside = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "--quiet", "first"], cwd=workspace)
    while not (workspace / "begun").exists():
        assert beside.poll() is None
        time.sleep(0.05)
    repo = open_repo(workspace)
    first = stage_named("first", read_graph(repo))
    with pytest.raises(HSCCError, match="another DVC process works in this folder"), claim(repo, first):
        pass
    (workspace / "go").touch()
    assert beside.wait() == 0
