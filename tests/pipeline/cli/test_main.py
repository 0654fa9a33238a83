import errno
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from hscc.budgets.budget import Budget
from hscc.errors import ArtifactError, HSCCError
from hscc.pipeline.cell_spec import CellSpec
from hscc.pipeline.cli import main as cli
from hscc.pipeline.data.sources.pin import directory_hash, hash_files

ROOT = Path(__file__).parents[3]

STAGES = (
    "validate", "train", "calibrate", "compress", "latency", "quantise", "bench", "tradeoff", "evaluate", "insight",
    "register",
)  # fmt: skip
COMMANDS = (
    "fetch", "phantom", "check", "code", "export", "results", "protocols", "figures", "report", *STAGES,
    "registry", "promote", "rollback", "predict", "track", "doctor",
)  # fmt: skip
runner = CliRunner()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple, dict]]:
    """Replace every stage by a recorder, and the parameters by a word."""
    seen: list[tuple[str, tuple, dict]] = []
    for name in STAGES:
        module = ModuleType(f"hscc.pipeline.stages.{name}")
        module.run = lambda *args, _name=name, **named: seen.append((_name, args, named))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(f"hscc.pipeline.stages.{name}", module, raising=False)
    monkeypatch.setattr(cli, "read_params", lambda workspace: "params")
    return seen


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example_and_describes_every_option(command: str) -> None:
    result = runner.invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"hscc {command}" in result.output
    options = typer.main.get_command(cli.app).commands[command].params
    assert all(option.help for option in options)


def test_no_command_lists_the_commands() -> None:
    result = runner.invoke(cli.app, [])
    assert all(command in result.output for command in COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "pandas", "mlflow", "dvc", "prefect", "great_expectations", "pydantic"}
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, hscc.pipeline.cli.main; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize(
    "stage", ["validate", "calibrate", "quantise", "bench", "tradeoff", "evaluate", "insight", "register"]
)
def test_a_stage_gets_params_and_workspace(stage: str, calls: list, tmp_path: Path) -> None:
    assert runner.invoke(cli.app, [stage, "--workspace", str(tmp_path)]).exit_code == 0
    assert calls == [(stage, ("params", tmp_path), {})]


def test_bench_of_one_file_is_a_usage_error(tmp_path: Path) -> None:
    result = runner.invoke(cli.app, ["bench", str(tmp_path / "one.onnx")])
    assert result.exit_code == 2
    assert "name two files or more" in result.output


def test_bench_of_files_needs_no_parameters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple] = []
    module = ModuleType("hscc.pipeline.stages.bench")
    module.compare = lambda *args: seen.append(args)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("hscc.pipeline.stages.bench", module, raising=False)
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    arguments = [*map(str, files), "--batch", "1", "--batch", "8", "--threads", "4", "--side", "96"]
    result = runner.invoke(cli.app, ["bench", *arguments, "--workspace", str(tmp_path)])
    assert result.exit_code == 0, result.output
    ((given, settings, side, out),) = seen
    assert (given, side, out) == (files, 96, None)
    assert (settings.batches, settings.threads, settings.repeats) == ((1, 8), 4, 30)


def test_train_gets_its_protocol(calls: list) -> None:
    assert runner.invoke(cli.app, ["train", "--protocol", "pooled"]).exit_code == 0
    assert calls == [("train", ("params", Path(".")), {"protocol": "pooled"})]


def test_train_refuses_an_unknown_protocol(calls: list) -> None:
    result = runner.invoke(cli.app, ["train", "--protocol", "poled"])
    assert result.exit_code == 2
    assert calls == []


def test_compress_gets_its_cell(calls: list) -> None:
    assert runner.invoke(cli.app, ["compress", "hscc-macs6.5-seed2"]).exit_code == 0
    cell = CellSpec("hscc", Budget(macs=6.5), seed=2)
    assert calls == [("compress", ("params", Path(".")), {"cell": cell})]


@pytest.mark.parametrize(
    ("name", "fault"), [("hscc-6-0", "such as hscc-macs6-seed0"), ("hsc-macs6-seed0", "mean hscc")]
)
def test_compress_refuses_a_wrong_name(name: str, fault: str, calls: list) -> None:
    result = runner.invoke(cli.app, ["compress", name])
    assert result.exit_code == 1 and fault in result.output
    assert calls == []


def test_a_missing_workspace_is_a_usage_error(calls: list, tmp_path: Path) -> None:
    assert runner.invoke(cli.app, ["validate", "--workspace", str(tmp_path / "none")]).exit_code == 2
    assert calls == []


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Run a command whose stage raises an error."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(sys.modules["hscc.pipeline.stages.validate"], "run", fail)
    return runner.invoke(cli.app, ["validate"])


@pytest.mark.parametrize("error", [HSCCError("fix this."), ArtifactError("and that.")])
def test_an_error_of_ours_is_one_line(error: HSCCError, calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing(error, monkeypatch)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"error: {error}\n")


def test_an_error_keeps_secrets(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_TOKEN", "abcdef123")
    result = failing(HSCCError("postgresql://u:pw@h/db refuses abcdef123."), monkeypatch)
    assert result.stderr == "error: postgresql://***@h/db refuses ***.\n"


def test_a_full_disk_is_one_line_that_names_the_file(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing(OSError(errno.ENOSPC, "No space left on device", "artifacts/manifest.csv"), monkeypatch)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "disk is full while writing artifacts/manifest.csv" in result.stderr


def test_another_error_keeps_its_traceback(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(failing(ZeroDivisionError(), monkeypatch).exception, ZeroDivisionError)


def test_ctrl_c_ends_with_its_own_status(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing(KeyboardInterrupt(), monkeypatch)
    assert (result.exit_code, result.stderr) == (cli.INTERRUPTED, "interrupted\n")


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hscc", "check", "--workspace", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*params\.yaml does not exist.*\n", done.stderr)


def test_data_are_drawn_fetched_and_checked(tmp_path: Path) -> None:
    source, workspace = tmp_path / "source", tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    drawn = ["phantom", str(source), "--train-per-class", "2", "--test-per-class", "1", "--size", "48", "--seed", "1"]
    assert runner.invoke(cli.app, [*drawn, "--duplicates", "3"]).exit_code == 0
    files = hash_files(source)
    assert len(files) == 4 * 3 + 3
    (workspace / "data.dvc").write_text(f"outs:\n- md5: {directory_hash(files)}\n  nfiles: {len(files)}\n")
    fetched = runner.invoke(cli.app, ["fetch", "--from", str(source), "--workspace", str(workspace)])
    assert fetched.exit_code == 0, fetched.output
    assert hash_files(workspace / "data") == files
    checked = runner.invoke(cli.app, ["check", "--workspace", str(workspace)])
    assert (checked.exit_code, checked.output) == (0, "ok\n")
    (workspace / "data" / next(iter(files))).unlink()
    checked = runner.invoke(cli.app, ["check", "--workspace", str(workspace)])
    assert checked.exit_code == 1
    assert str(workspace / "data") in checked.stderr


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Replace the export stage by a recorder."""
    seen: list[tuple] = []
    module = ModuleType("hscc.pipeline.commands.export")
    module.run = lambda *args, **named: seen.append((args, named))
    module.run_folder = lambda *args: seen.append(args)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("hscc.pipeline.commands.export", module, raising=False)
    monkeypatch.setattr(cli, "read_params", lambda workspace: "params")
    return seen


def test_export_gets_its_network_from_the_graph(exports: list, tmp_path: Path) -> None:
    arguments = ["export", "--cell", "hscc-macs6-seed0", "--out", "a.onnx", "--pt2", "--workspace", str(tmp_path)]
    assert runner.invoke(cli.app, arguments).exit_code == 0
    named = {"out": Path("a.onnx"), "cell": "hscc-macs6-seed0", "baseline": None, "pt2": True, "precision": "fp32"}
    assert exports == [(("params", tmp_path), named)]


def test_export_of_a_folder_needs_no_parameters(exports: list) -> None:
    arguments = ["export", "--folder", "small", "--size", "64", "--classes", "a,b", "--out", "a.onnx"]
    assert runner.invoke(cli.app, arguments).exit_code == 0
    assert exports == [(Path("small"), 64, ("a", "b"), Path("a.onnx"), False)]


@pytest.mark.parametrize(
    "more", [[], ["--size", "64"], ["--size", "64", "--classes", "a", "--cell", "hscc-macs6-seed0"]]
)
def test_export_of_a_folder_names_the_options_that_go_with_it(more: list[str], exports: list) -> None:
    result = runner.invoke(cli.app, ["export", "--folder", "small", "--out", "a.onnx", *more])
    assert (result.exit_code, exports) == (1, [])
    assert "--size and --classes" in result.stderr
