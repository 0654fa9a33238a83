"""One MLflow run a run through the graph, above the runs of its stages and linked with Prefect's."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.pipeline import main
from flows.repro import reproduce
from hscc.pipeline.tracking import send_backlog, tracking_uri
from hscc.pipeline.tracking.journal import count_waiting


@pytest.fixture
def telling(workspace: Path) -> Path:
    """The small graph; its first stage notes which run it is to record below."""
    graph = workspace / "dvc.yaml"
    graph.write_text(graph.read_text().replace("cp data", "echo $HSCC_PARENT_RUN >> parents && cp data"))
    return workspace


def pipelines(workspace: Path) -> list[Any]:
    """The MLflow runs of runs through the graph, the earliest first."""
    client = MlflowClient(tracking_uri(workspace))
    experiment = client.get_experiment_by_name("hscc")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], "tags.stage = 'pipeline'", order_by=["start_time ASC"])


def test_commands_record_below_one_run_which_names_the_flow_run_and_is_named_by_it(telling: Path) -> None:
    main(telling, target=["first"])
    (run,) = pipelines(telling)
    assert (run.info.run_name, run.info.status) == ("pipeline-by-hand", "FINISHED")
    assert (telling / "parents").read_text().split() == [run.info.run_id]
    assert run.data.params["targets"] == "('first',)"
    assert run.data.tags["outcome"] == "1 of 1 stages ran, all are up to date"
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(run.data.tags["prefect.flow_run_id"])
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
        artifacts = {made.key: made.data for made in client.read_artifacts(artifact_filter=wanted)}
    assert flow_run.name == run.data.tags["prefect.flow_run"]
    assert run.info.run_id in str(artifacts["mlflow"])


@pytest.mark.parametrize(
    ("target", "outcome"), [("first", "stage first failed with status 3"), ("wings", "'wings' is no stage of dvc.yaml")]
)
def test_a_failure_is_recorded_with_its_sentence(target: str, outcome: str, telling: Path) -> None:
    graph = telling / "dvc.yaml"
    graph.write_text(graph.read_text().replace("cp data/words.txt first.txt", "exit 3"))
    with pytest.raises(SystemExit):
        main(telling, target=[target])
    (run,) = pipelines(telling)
    assert run.info.status == "FAILED"
    assert outcome in run.data.tags["outcome"]


def test_a_store_that_is_down_costs_a_warning_and_gets_it_later(
    telling: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    main(telling, target=["first"])
    assert "the MLflow store http://127.0.0.1:1 does not answer" in caplog.text
    assert (telling / "parents").read_text().startswith("local-")
    assert count_waiting(telling) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert len(send_backlog(telling)) == 1
    (run,) = pipelines(telling)
    assert (run.info.status, run.data.tags["outcome"]) == ("FINISHED", "1 of 1 stages ran, all are up to date")


def test_dvc_alone_gets_a_run_above_its_stages_too(telling: Path) -> None:
    assert reproduce(telling, ["--quiet", "first"]) == 0
    (telling / "data/words.txt").write_text("two\n")
    graph = telling / "dvc.yaml"
    graph.write_text(graph.read_text().replace("cp data/words.txt first.txt", "exit 3"))
    assert reproduce(telling, ["--quiet", "first"]) != 0
    done, failed = pipelines(telling)
    assert (done.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert done.data.params["command"] == "dvc repro --quiet first"
    assert (telling / "parents").read_text().split()[0] == done.info.run_id
