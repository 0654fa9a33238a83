"""Damaged or missing data under a flow."""

import shutil
from pathlib import Path

import pytest

from flows import executor
from flows.pipeline import main
from tests.in_process import dvc

from .conftest import times_run
from .test_pipeline import CLEAN, ONCE


def cached(workspace: Path, output: str) -> Path:
    """The cache's copy of an output."""
    lock = (workspace / "dvc.lock").read_text()
    md5 = lock.split(f"path: {output}\n")[-1].split("md5: ")[1].split()[0]
    return workspace / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def spoil(path: Path, text: str = "spoilt") -> None:
    path.chmod(0o644)
    path.write_text(text)


@pytest.mark.parametrize("also_data", [True, False])  # whether the object holds a pinned file too
def test_a_damaged_cache_object_is_made_whole_by_the_next_run(also_data: bool, request: pytest.FixtureRequest) -> None:
    workspace: Path = request.getfixturevalue("ran" if also_data else "workspace")
    if not also_data:
        graph = workspace / "dvc.yaml"
        graph.write_text(graph.read_text().replace("cp data/words.txt first.txt", "echo two > first.txt"))
        main(workspace)
    text = (workspace / "cells/x-3.txt").read_text()
    spoil(cached(workspace, "cells/x-3.txt"))
    (workspace / "cells/x-3.txt").unlink()
    main(workspace)
    assert (workspace / "cells/x-3.txt").read_text() == text
    assert cached(workspace, "cells/x-3.txt").read_text() == text
    assert dvc(workspace, "status") == CLEAN
    (workspace / "cells/x-3.txt").unlink()
    dvc(workspace, "checkout")
    assert (workspace / "cells/x-3.txt").read_text() == text


@pytest.mark.parametrize(("output", "cell"), [("first.txt", "first"), ("cells/x-3.txt", "x-3")])
def test_a_half_written_output_is_made_whole_by_the_next_run(output: str, cell: str, ran: Path) -> None:
    whole = (ran / output).read_text()
    (ran / output).write_text(whole[: len(whole) // 2])
    main(ran)
    assert (ran / output).read_text() == whole
    # It comes out as it was, so what reads it has nothing to do.
    assert times_run(ran) == {**ONCE, cell: 2}
    assert dvc(ran, "status") == CLEAN


def test_a_half_written_cache_object_leaves_a_whole_output_as_it_is(ran: Path) -> None:
    whole = (ran / "cells/x-3.txt").read_text()
    spoil(cached(ran, "cells/x-3.txt"), whole[:1])
    main(ran)
    assert (ran / "cells/x-3.txt").read_text() == whole
    assert dvc(ran, "status") == CLEAN
    assert cached(ran, "cells/x-3.txt").read_text() == whole


def test_a_failed_stage_is_not_tried_again(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = workspace / "dvc.yaml"
    graph.write_text(graph.read_text().replace("cp data/words.txt first.txt", "echo try >> tries; exit 1"))
    with pytest.raises(SystemExit):
        main(workspace)
    assert (workspace / "tries").read_text() == "try\n"


def test_fetched_data_reaches_the_cache(workspace: Path) -> None:
    shutil.rmtree(workspace / ".dvc/cache")
    main(workspace, target=["first"])
    shutil.rmtree(workspace / "data")
    dvc(workspace, "checkout", "data.dvc")
    assert (workspace / "data/words.txt").read_text() == "one\n"


def test_missing_data_is_fetched(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move(workspace / "data", workspace / "elsewhere")
    monkeypatch.setattr(executor, "FETCH", "mv elsewhere data")
    main(workspace)
    assert times_run(workspace) == ONCE


def test_a_fetch_is_tried_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(workspace / "data", workspace / "elsewhere")
    monkeypatch.setattr(executor, "FETCH", "echo try >> tries; test $(wc -l < tries) -ge 3 && mv elsewhere data")
    monkeypatch.setattr(executor, "_fetch", executor._fetch.with_options(retry_delay_seconds=0))
    main(workspace, target=["first"])
    assert (workspace / "tries").read_text() == "try\n" * 3


def test_a_fetch_that_never_comes_says_why(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(workspace / "data")
    monkeypatch.setattr(executor, "FETCH", "echo error: no source has it. && false")
    monkeypatch.setattr(executor, "_fetch", executor._fetch.with_options(retry_delay_seconds=0))
    with pytest.raises(SystemExit):
        main(workspace)
    assert "stage data.dvc failed with status 1: no source has it." in capsys.readouterr().err
    assert times_run(workspace) == {}
