import json
import subprocess
from pathlib import Path

import pytest

from flows.protocols import run
from hscc.errors import HSCCError
from hscc.pipeline.statistics.schema import write_record
from tests.in_process import dvc
from tests.pipeline.rows import results

from .conftest import commit, copy

GRAPH = """
stages:
  evaluate:
    cmd: >-
      mkdir -p reports &&
      sed -e 's/PROTOCOL/${data.protocol}/' -e 's/COMMIT/${compress.cells[2]}/' template.json > reports/results.json
    params: [data.protocol, compress]
    metrics:
      - reports/results.json:
          cache: false
  register:
    cmd: cp reports/results.json registered.json
    deps: [reports/results.json]
    outs: [registered.json]
"""
PARAMS = """
data: {protocol: grouped}
compress: {cells: [a, b, c]}
insight: {cells: [f]}
"""


@pytest.fixture(scope="module")
def protocols_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy(template, tmp_path_factory.mktemp("protocols") / "workspace")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "template.json").write_text(write_record(results(protocol="PROTOCOL", git_commit="COMMIT")))
    (folder / ".gitignore").write_text("/data\n/.hscc\n/registered.json\n/mlflow.db\n/mlruns\n/reports/runs\n")
    dvc(folder, "repro", "--quiet")
    commit(folder)
    return folder


@pytest.fixture
def committed(protocols_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = copy(protocols_template, tmp_path / "workspace")
    monkeypatch.chdir(folder)
    return folder


def test_the_graph_under_another_split_leaves_its_results_and_nothing_else(committed: Path) -> None:
    before = (committed / "reports/results.json").read_bytes()
    kept = run(committed, ["pooled", "official"])
    assert [str(path) for path in kept] == ["reports/protocols/pooled.json", "reports/protocols/official.json"]
    found, other = (json.loads((committed / path).read_text()) for path in kept)
    assert (found["protocol"], other["protocol"]) == ("pooled", "official")
    assert found["git_commit"] == "hscc_paper-macs3-seed0"
    assert (committed / "reports/results.json").read_bytes() == before
    assert json.loads((committed / "registered.json").read_text())["protocol"] == "grouped"
    status = subprocess.run(["git", "status", "--porcelain"], cwd=committed, capture_output=True, text=True).stdout
    assert status == "?? reports/protocols/\n"
    assert "sweep-" in dvc(committed, "exp", "list")


def test_a_failed_run_keeps_nothing(committed: Path) -> None:
    graph = committed / "dvc.yaml"
    graph.write_text(graph.read_text().replace("mkdir -p reports &&", "false &&"))
    with pytest.raises(HSCCError):
        run(committed, ["official"])
    assert not (committed / "reports/protocols").exists()


def test_what_a_broken_off_command_has_finished_is_not_run_again(
    committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = tmp_path / "times"
    monkeypatch.setenv("TIMES", str(times))
    graph = committed / "dvc.yaml"
    refuse = "echo ${data.protocol} >> $TIMES && ([ ${data.protocol} = pooled ] || [ -e $TIMES.fixed ]) &&"
    graph.write_text(graph.read_text().replace("mkdir -p reports &&", f"mkdir -p reports && {refuse}"))
    with pytest.raises(HSCCError):
        run(committed, ["pooled", "official"])
    assert not (committed / "reports/protocols").exists()
    Path(f"{times}.fixed").touch()
    assert len(run(committed, ["pooled", "official"])) == 2
    assert times.read_text().split() == ["pooled", "official", "official"]
