import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows import pipeline
from flows.experiments import FOLDER, kept_reports, name_of, prepare, save
from flows.pipeline import main
from hscc.errors import HSCCError
from tests.in_process import dvc

from .conftest import run_and_commit, times_run

NINE = {"compress.cells": ["x-9"]}


def files(workspace: Path) -> dict[str, bytes]:
    """Everything git tracks, and the cells."""
    tracked = subprocess.run(["git", "ls-files"], cwd=workspace, capture_output=True, text=True, check=True)
    named = [*tracked.stdout.split(), *(str(cell.relative_to(workspace)) for cell in workspace.glob("cells/*"))]
    return {name: (workspace / name).read_bytes() for name in named}


def experiments(workspace: Path) -> dict[str, dict]:
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    shown = json.loads(subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=True).stdout)
    found = {}
    for baseline in shown:
        for entry in baseline.get("experiments") or []:
            revision = entry["revs"][0]
            found[revision["name"]] = revision["data"]
    return found


def test_other_parameters_run_as_an_experiment_and_leave_the_workspace_alone(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    committed = run_and_commit(workspace)  # not a copy: only what DVC itself has put there it takes away again
    before, ran = files(committed), times_run(committed)
    main(committed, cell=["x-3", "x-9"])
    assert files(committed) == before
    assert times_run(committed) == ran
    assert dvc(committed, "status") == "Data and pipelines are up to date."
    assert subprocess.run(["git", "status", "--porcelain"], cwd=committed, capture_output=True).stdout == b""
    ((name, data),) = experiments(committed).items()
    assert f"take it over with 'dvc exp apply {name}'" in capsys.readouterr().out
    params = data["params"]["params.yaml"]["data"]
    assert params["compress"] == {"cells": ["x-3", "x-9"]}

    dvc(committed, "exp", "apply", name)
    assert "# kept" in (committed / "params.yaml").read_text()
    assert (committed / "cells/x-9.txt").read_text() == "one\n"
    assert (committed / "last.txt").read_text() == "one\n" * 2
    assert dvc(committed, "status") == "Data and pipelines are up to date."


def test_what_is_up_to_date_is_taken_over_and_not_run(committed: Path) -> None:
    experiment = prepare(committed, {"compress.cells": ["x-3", "x-9"]})
    assert (experiment.workspace / "cells/x-3.txt").read_text() == "one\n"
    assert not (experiment.workspace / "cells/y-3.txt").exists()
    status = dvc(experiment.workspace, "status")
    assert "sweep@x-9" in status
    assert "sweep@x-3" not in status
    assert "first:" not in status


def test_uncommitted_changes_come_along(committed: Path) -> None:
    params = committed / "params.yaml"
    params.write_text(params.read_text().replace("shout: false", "shout: true"))
    experiment = prepare(committed, NINE)
    assert "shout: true" in (experiment.workspace / "params.yaml").read_text()
    assert "shout: true" in params.read_text()
    assert "[x-3, x-6.5, y-3, y-6.5]" in params.read_text()


def test_a_killed_experiment_is_taken_up(committed: Path) -> None:
    asked = NINE
    first = prepare(committed, asked)
    dvc(first.workspace, "repro", "--quiet", "sweep@x-9")
    again = prepare(committed, asked)
    assert again == first
    assert "sweep@x-9" not in dvc(again.workspace, "status")
    assert prepare(committed, {"compress.cells": ["x-10"]}).name != first.name


def test_a_half_made_clone_is_made_anew(committed: Path) -> None:
    asked = NINE
    experiment = prepare(committed, asked)
    (experiment.clone / ".git/hscc-whole").unlink()
    (experiment.workspace / "params.yaml").write_text("half")
    assert "half" not in (prepare(committed, asked).workspace / "params.yaml").read_text()


def test_of_a_saved_experiment_only_the_reports_stay(committed: Path) -> None:
    experiment = prepare(committed, NINE)
    (experiment.workspace / "reports").mkdir()
    (experiment.workspace / "reports/report.html").write_text("seen")
    dvc(experiment.workspace, "repro", "--quiet")
    save(experiment)
    assert [path.name for path in (committed / FOLDER).iterdir()] == [f"{experiment.name}.reports"]


def test_what_is_shown_are_the_reports_that_stay(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Path] = []
    monkeypatch.setattr(pipeline, "publish_reports", shown.append)
    main(committed, cell=["x-9"])
    assert shown == [kept_reports(committed, name_of(committed, {**NINE, "insight.cells": []}))]


def test_a_workspace_inside_a_repository(committed: Path, tmp_path: Path) -> None:
    """DVC in a folder of a git repository, as with `dvc init --subdir`."""
    root = tmp_path / "outer"
    inner = root / "inner"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    shutil.copytree(committed, inner, ignore=shutil.ignore_patterns(".git", ".hscc"))
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"], cwd=root, check=True)
    experiment = prepare(inner, NINE)
    assert experiment.workspace == experiment.clone / "inner"
    assert yaml.safe_load((experiment.workspace / "params.yaml").read_text())["compress"]["cells"] == ["x-9"]


def test_commands_record_where_the_origin_records(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    variables = prepare(committed, NINE).variables
    assert variables["MLFLOW_TRACKING_URI"] == f"sqlite:///{committed}/mlflow.db"
    assert variables["HSCC_DATA_SOURCE"] == str(committed / "data")
    from mlflow import MlflowClient

    (kept,) = MlflowClient(variables["MLFLOW_TRACKING_URI"]).search_experiments(filter_string="name = 'hscc'")
    assert kept.artifact_location == (committed / "mlruns").as_uri()  # not in the clone, which goes


def test_a_workspace_without_a_commit_is_refused(workspace: Path) -> None:
    with pytest.raises(HSCCError, match=r"kept as a DVC experiment, which .* does not allow"):
        prepare(workspace, NINE)


def test_an_override_of_nothing_is_refused(committed: Path) -> None:
    with pytest.raises(HSCCError, match=r"params\.yaml has no place for train\.wings"):
        prepare(committed, {"train.wings": 2})
