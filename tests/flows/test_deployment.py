"""The deployments on a real server with a real worker: the schedule starts a run of the whole graph on drawn images."""

import datetime
import json
import shutil
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from mlflow import MlflowClient
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import PrefectHTTPStatusError

from flows import demo
from hscc.pipeline.commands.promote import consider
from hscc.pipeline.params import read_params
from hscc.pipeline.registry.audit_log import CHALLENGER
from tests.in_process import dvc

from .conftest import times_run
from .stack import ROOT, UNTIL_GO, UP, Stack, wait_for

CELL = "global_svd_adaptive-latency1.1-seed0"  # needs the stage latency too
EVERY = 15  # seconds between two runs of the test's own schedule


@pytest.fixture
def phantom(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's workspace, as small as every stage still accepts."""
    for name, value in {"TRAIN_PER_CLASS": 24, "TEST_PER_CLASS": 6, "SIZE": 96, "DUPLICATES": 0}.items():
        monkeypatch.setattr(demo, name, value)
    workspace = tmp_path / "demo"
    demo.prepare(ROOT, workspace)
    shutil.copy(empty_store, workspace)
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params["train"]["epochs"] = 1
    params["calibrate"] |= {"images": 16, "cells": 1}
    params["compress"]["cells"] = [CELL]
    params["compress"]["finetune"]["epochs"] = 0
    params["latency"] |= {"batches": [1], "threads": 1}
    params["quantise"]["enabled"] = False
    params["insight"] = {"cells": [], "images": 8, "gallery": 2}
    params["tradeoff"]["enabled"] = False
    params["bench"] |= {"runtimes": ["onnxruntime"], "batches": [1], "threads": 1, "repeats": 3}
    params["evaluate"] |= {"resamples": 100}
    params["register"] |= {"max_drop": 1.0, "min_macs_ratio": 1.0, "min_speedup": 0.0}
    params["validate"] |= {"min_per_class": 5, "min_side": 32}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    demo.draw(workspace)
    return workspace


def scheduled(stack: Stack, deployment: str) -> UUID | None:
    """The first run that the schedule, and nobody else, has started; those it was too slow for are cancelled."""
    runs = [run for run in stack.runs_of(deployment) if run.state and not run.state.is_cancelled()]
    begun = [run for run in runs if run.auto_scheduled and run.start_time]
    return min(begun, key=lambda run: run.start_time or datetime.datetime.max).id if begun else None


@pytest.mark.timeout(3000)
def test_the_schedule_starts_the_whole_graph(stack: Stack, phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.move(phantom, "nightly")
    nightly = stack.deployed["nightly"].id
    every = IntervalSchedule(interval=datetime.timedelta(seconds=EVERY))
    (schedule,) = stack.client.create_deployment_schedules(nightly, [(every, True)])
    run = wait_for(lambda: scheduled(stack, "nightly"), why=lambda: stack.said("worker"))
    stack.client.delete_deployment_schedule(nightly, schedule.id)
    ended = stack.ended(run, 2 * UP)
    assert ended.state is not None
    assert ended.state.is_completed(), f"{ended.state.message}\n{stack.logs(run)}"
    ran, _, of, *rest = str(ended.state.message).split()
    assert ran == of and " ".join(rest) == "stages ran, all are up to date"

    phases = {child.name: child.state.type.value for child in stack.children(run) if child.state}
    names = {
        "code",
        "validate",
        "train",
        "calibrate",
        "compress",
        "latency",
        "quantise",
        "bench",
        "tradeoff",
        "evaluate",
    }
    names |= {"insight", "register"}
    assert names <= set(phases) and set(phases.values()) == {"COMPLETED"}
    logs = stack.logs(run)
    assert "> python -m hscc train --protocol grouped" in logs
    assert f"{CELL} before" in logs  # a line that the cell printed

    artifacts = stack.artifacts(run)
    assert {"pipeline", "progress", "validation", "results", "report", "figures"} <= set(artifacts)
    assert artifacts["progress"].data == 100.0
    assert "120 images" in artifacts["validation"].data
    table = artifacts["results"].data
    cells = {row["network"] for row in (json.loads(table) if isinstance(table, str) else table)[1:]}
    assert cells == {CELL}
    assert (phantom / "reports/report.html").as_uri() in artifacts["report"].data

    assert dvc(phantom, "status") == "code:\n\talways changed"  # as in every workspace of an installed package
    client = MlflowClient(f"sqlite:///{phantom}/mlflow.db")
    (version,) = client.search_model_versions("name = 'hscc-phantom'")
    assert client.get_model_version_by_alias("hscc-phantom", "challenger").version == version.version
    assert version.tags["method"] == "global_svd_adaptive"
    assert client.get_run(version.run_id).info.status == "FINISHED"
    check_tree(client, stack, run)

    monkeypatch.chdir(phantom)
    proposal = consider(read_params(Path("params.yaml")), which=CHALLENGER)
    assert not proposal.passes and "no phantom: was trained on drawn images" in proposal.refusal


def check_tree(client: MlflowClient, stack: Stack, run: UUID) -> None:
    """One MLflow run above those of the stages and cells, linked with the flow run both ways."""
    experiment = client.get_experiment_by_name("hscc")
    (parent,) = client.search_runs([experiment.experiment_id], f"tags.`prefect.flow_run_id` = '{run}'")
    assert (parent.info.run_name, parent.info.status) == ("pipeline-nightly", "FINISHED")
    assert parent.data.tags["prefect.url"] == f"{stack.url.removesuffix('/api')}/runs/flow-run/{run}"
    assert parent.info.run_id in stack.artifacts(run)["mlflow"].data
    below = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    children = {child.data.tags["stage"] for child in client.search_runs([experiment.experiment_id], below)}
    assert {"validate", "train", "compress", "evaluate", "register"} <= children


def slow(workspace: Path) -> None:
    """Let the first stage wait until a file `go` is there."""
    graph = workspace / "dvc.yaml"
    graph.write_text(graph.read_text().replace("cp data/words.txt", f"{UNTIL_GO} && cp data/words.txt"))


@pytest.mark.timeout(1800)
def test_runs_take_turns_and_the_hourly_check_runs_its_stage_alone(stack: Stack, workspace: Path) -> None:
    slow(workspace)
    graph = workspace / "dvc.yaml"
    graph.write_text(graph.read_text().replace("  first:\n", "  validate:\n"))
    stack.move(workspace, "validate-data", "sweep")
    hourly = stack.run("validate-data")
    wait_for(lambda: "test -e go" in stack.logs(hourly), why=lambda: stack.logs(hourly))

    again = stack.ended(stack.run("validate-data")).state  # of one deployment one run at a time
    assert again is not None and again.is_cancelled()
    assert again.message == "Deployment concurrency limit reached."

    with pytest.raises(PrefectHTTPStatusError, match="wings"):
        stack.run("sweep", targets=["wings"])
    other = stack.ended(stack.run("sweep", targets=["compress@x-6.5"])).state  # of one checkout too
    assert other is not None and other.is_cancelled()
    assert other.message is not None and "wait for its end or cancel it" in other.message

    (workspace / "go").touch()
    ended = stack.ended(hourly).state
    assert ended is not None and ended.is_completed(), ended
    assert ended.message == "1 of 1 stages ran, all are up to date"
    assert times_run(workspace) == {"first": 1}


def test_every_deployment_names_the_folder_it_was_made_in(stack: Stack) -> None:
    names = {entry["name"] for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert names == {"nightly", "sweep", "evidence", "validate-data", "promote"} == set(stack.deployed)
    for name, made in stack.deployed.items():
        assert made.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": str(stack.home)}}]
        assert made.concurrency_options is not None
        assert made.concurrency_options.collision_strategy == "CANCEL_NEW"
        offered = made.parameter_openapi_schema["properties"]
        assert {name for name, schema in offered.items() if len(schema.get("description", "")) < 20} == set()
        if name == "promote":
            assert set(offered) == {"which", "wait_seconds"}
            continue
        assert "compress" in offered["targets"]["anyOf"][0]["items"]["enum"]
        assert "hscc-macs6-seed0" in offered["cells"]["anyOf"][0]["items"]["enum"]
        crons = [(each.schedule.cron, each.schedule.timezone) for each in made.schedules]
        assert crons == {"nightly": [("0 2 * * *", "UTC")], "validate-data": [("30 * * * *", "UTC")]}.get(name, [])


def test_the_runbook_names_the_hours_of_the_schedules() -> None:
    rows = [line.split("|") for line in (ROOT / "docs/operations.md").read_text().splitlines()]
    when = {row[1].strip(" `"): row[2].strip() for row in rows if len(row) == 5}
    assert (when["nightly"], when["validate-data"]) == ("02:00 UTC", "every hour, :30")
