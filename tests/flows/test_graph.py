from pathlib import Path

import pytest

from flows.graph import Stage, hand_over, is_stale, make_room, open_repo, read_graph
from hscc.errors import HSCCError

from .conftest import CELLS, dvc


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
    hand_over(repo, first)
    assert not is_stale(repo, first)
    assert "first" not in dvc(workspace, "status").split(":")[0]


def test_a_missing_output_is_not_handed_over(workspace: Path) -> None:
    repo = open_repo(workspace)
    with pytest.raises(HSCCError, match=r"stage first succeeded but .*first\.txt"):
        hand_over(repo, stage_named("first", read_graph(repo)))


def test_room_is_made_as_dvc_makes_it(workspace: Path) -> None:
    repo = open_repo(workspace)
    stages = read_graph(repo)
    (workspace / "cells").mkdir()
    for name in ("first.txt", "cells/x-3.txt"):
        (workspace / name).write_text("old")
    make_room(repo, stage_named("first", stages))
    make_room(repo, stage_named("sweep@x-3", stages))
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
