from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.logging.handlers import APILogWorker

import flows
from flows.pipeline import main
from tests.in_process import dvc

from .conftest import times_run

ONCE = {"first": 1, "x-3": 1, "x-6.5": 1, "y-3": 1, "y-6.5": 1, "last": 1}
CLEAN = "Data and pipelines are up to date."


def latest_table() -> str:
    with get_client(sync_client=True) as client:
        (found,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["pipeline"])),
            sort=ArtifactSort.CREATED_DESC,
            limit=1,
        )
    return str(found.data)


def server_knows() -> str:
    """All that the server keeps of the latest runs: logs, and what their states say."""
    APILogWorker.instance().drain()
    with get_client(sync_client=True) as client:
        flow_runs = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=2)  # the pipeline and its phase
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id for run in flow_runs]))
        task_runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in flow_runs]))
        )
        logs = client.read_logs(wanted, limit=200)
    return "\n".join([*(log.message for log in logs), *(str(run.state) for run in [*flow_runs, *task_runs])])


def test_dvc_has_nothing_to_do_after_the_flow(workspace: Path) -> None:
    main(workspace)
    assert times_run(workspace) == ONCE
    assert dvc(workspace, "status") == CLEAN
    dvc(workspace, "repro")
    assert times_run(workspace) == ONCE
    assert (workspace / "last.txt").read_text() == "one\n" * 4
    assert "| sweep@y-6.5 | ran |" in latest_table()


def test_the_flow_has_nothing_to_do_after_dvc(workspace: Path) -> None:
    dvc(workspace, "repro")
    lock = (workspace / "dvc.lock").read_bytes()
    main(workspace)
    assert times_run(workspace) == ONCE
    assert (workspace / "dvc.lock").read_bytes() == lock
    assert "| last | up to date |" in latest_table()


def test_only_what_is_stale_runs(ran: Path) -> None:
    (ran / "cells/x-3.txt").unlink()
    main(ran)
    # The cell comes out as it was, so what reads it has nothing to do: as with `dvc repro`.
    assert times_run(ran) == {**ONCE, "x-3": 2}
    assert dvc(ran, "status") == CLEAN


def test_a_changed_parameter_runs_what_depends_on_it(ran: Path) -> None:
    params = ran / "params.yaml"
    params.write_text(params.read_text().replace("[3, 6.5]", "[3, 9]"))
    main(ran)
    assert times_run(ran) == {**ONCE, "x-9": 1, "y-9": 1, "last": 2}


def test_force_runs_all(ran: Path) -> None:
    main(ran, force=True)
    assert times_run(ran) == dict.fromkeys(ONCE, 2)


def test_a_single_cell_runs_with_what_it_needs(workspace: Path) -> None:
    main(workspace, target=["sweep@x-6.5"])
    assert times_run(workspace) == {"first": 1, "x-6.5": 1}


def test_a_failure_spares_its_siblings_and_is_taken_up_by_either_runner(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = workspace / "dvc.yaml"
    graph.write_text(
        graph.read_text().replace("cat first.txt >", "echo no such method; test ${item.method} = x && cat first.txt >")
    )
    with pytest.raises(SystemExit) as raised:
        main(workspace)
    assert raised.value.code == 1
    said = capsys.readouterr().err
    assert "stage sweep@y-3 failed with status 1: no such method" in said
    assert "stage sweep@y-6.5 failed with status 1: no such method" in said
    assert "not begun: last" in said
    assert times_run(workspace) == {"first": 1, "x-3": 1, "x-6.5": 1}
    table = latest_table()
    assert "| sweep@x-6.5 | ran |" in table
    assert "| sweep@y-3 | failed |" in table
    graph.write_text(graph.read_text().replace("test ${item.method} = x && ", ""))
    dvc(workspace, "repro")
    main(workspace)
    assert times_run(workspace)["last"] == 1
    assert dvc(workspace, "status") == CLEAN


def test_secrets_do_not_reach_the_server(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("X_TOKEN", "abcdef123")
    graph = workspace / "dvc.yaml"
    command = "echo trying postgresql://u:pw@h/db; echo 'error:' $X_TOKEN is refused; exit 1"
    graph.write_text(graph.read_text().replace("cmd: cp data/words.txt first.txt &&", f"cmd: >-\n      {command};"))
    with pytest.raises(SystemExit):
        main(workspace)
    assert "error: stage first failed with status 1: *** is refused" in capsys.readouterr().err
    known = server_knows()
    assert "trying postgresql://***@h/db" in known and "error: *** is refused" in known
    assert "pw@" not in known and "abcdef123" not in known


def test_data_that_is_not_what_is_pinned_stops_it(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "data/words.txt").write_text("two\n")
    with pytest.raises(SystemExit):
        main(workspace)
    assert "error: data.dvc pins other content than is there" in capsys.readouterr().err
    assert times_run(workspace) == {}


def test_a_folder_without_dvc_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(tmp_path)
    assert f"error: {tmp_path} is not a DVC repository" in capsys.readouterr().err


def test_prefect_keeps_no_results_of_its_own() -> None:
    assert flows.DEFAULTS["PREFECT_TASKS_DEFAULT_NO_CACHE"] == "true"
    assert flows.DEFAULTS["PREFECT_RESULTS_PERSIST_BY_DEFAULT"] == "false"
