import errno
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from typer.testing import CliRunner

from hscc.errors import ArtifactError, HSCCError
from hscc.pipeline.cli import main as cli

STAGES = (
    "validate", "train", "calibrate", "compress", "latency", "quantise", "bench", "tradeoff", "evaluate", "insight",
    "register",
)  # fmt: skip
REGISTRY = ("registry", "promote", "rollback", "predict", "track", "doctor")
VERBS = ("fetch", "phantom", "check", "export", "results", *STAGES, *REGISTRY)
runner = CliRunner()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple, dict]]:
    """Replace every stage by a recorder, and the parameters by a word."""
    seen: list[tuple[str, tuple, dict]] = []
    for name in STAGES:
        module = ModuleType(f"hscc.stages.{name}")
        module.run = lambda *args, _name=name, **named: seen.append((_name, args, named))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(f"hscc.stages.{name}", module, raising=False)
    monkeypatch.setattr(cli, "read_params", lambda workspace: "params")
    return seen


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = runner.invoke(cli.app, [verb, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"hscc {verb}" in result.output


def test_no_verb_shows_the_verbs() -> None:
    result = runner.invoke(cli.app, [])
    assert all(verb in result.output for verb in VERBS)


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


def test_bench_of_one_file_asks_for_another(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("spelled", "budget"), [("3", 3.0), ("6.5", 6.5)])
def test_compress_gets_its_cell(spelled: str, budget: float, calls: list) -> None:
    arguments = ["compress", "--method", "hscc", "--budget", spelled, "--seed", "2"]
    assert runner.invoke(cli.app, arguments).exit_code == 0
    assert calls == [("compress", ("params", Path(".")), {"method": "hscc", "budget": budget, "seed": 2})]


def test_a_missing_workspace_is_a_usage_error(calls: list, tmp_path: Path) -> None:
    assert runner.invoke(cli.app, ["validate", "--workspace", str(tmp_path / "none")]).exit_code == 2
    assert calls == []


@pytest.mark.parametrize("error", [HSCCError("mend this."), ArtifactError("and that.")])
def test_an_error_of_ours_is_one_line(error: HSCCError, calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(sys.modules["hscc.pipeline.stages.validate"], "run", fail)
    result = runner.invoke(cli.app, ["validate"])
    assert result.exit_code == 1
    assert result.stderr == f"error: {error}\n"
    assert result.stdout == ""


def test_an_error_keeps_secrets(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise HSCCError("postgresql://u:pw@h/db refuses abcdef123.")

    monkeypatch.setenv("X_TOKEN", "abcdef123")
    monkeypatch.setattr(sys.modules["hscc.pipeline.stages.validate"], "run", fail)
    assert runner.invoke(cli.app, ["validate"]).stderr == "error: postgresql://***@h/db refuses ***.\n"


def test_a_full_disk_is_one_line_too(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "artifacts/manifest.csv")

    monkeypatch.setattr(sys.modules["hscc.pipeline.stages.validate"], "run", fail)
    result = runner.invoke(cli.app, ["validate"])
    assert result.exit_code == 1
    assert re.fullmatch(r"error: the disk is full while writing artifacts/manifest\.csv; free .*\n", result.stderr)


def test_a_promotion_passes_on_what_was_asked(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []
    proposal = SimpleNamespace(champion="1", challenger="2", name="m", lines=["ok accuracy: fine"], passes=True)
    module = ModuleType("hscc.pipeline.commands.promote")
    module.promote = lambda *args, **named: asked.append((args, named)) or proposal
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("hscc.pipeline.commands.promote", module, raising=False)
    monkeypatch.setattr("hscc.pipeline.cli.registry.read_params", lambda workspace: "params")
    result = runner.invoke(cli.app, ["promote", "--version", "2", "--force", "--reason", "why"])
    assert result.output == "version 2 of m is now the champion\n  ok accuracy: fine\n"
    assert asked == [(("params", Path("."), "2"), {"force": True, "reason": "why"})]


def test_another_error_keeps_its_traceback(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules["hscc.pipeline.stages.validate"], "run", fail)
    assert isinstance(runner.invoke(cli.app, ["validate"]).exception, ZeroDivisionError)


def test_ctrl_c_ends_with_its_own_status(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["hscc.pipeline.stages.validate"], "run", interrupt)
    result = runner.invoke(cli.app, ["validate"])
    assert result.exit_code == cli.INTERRUPTED
    assert result.stderr == "interrupted\n"


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hscc", "check", "--workspace", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*params\.yaml does not exist.*\n", done.stderr)


def test_phantom_draws_what_was_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[tuple[Path, dict]] = []
    monkeypatch.setattr(
        "hscc.pipeline.data.phantom.dataset.draw_dataset", lambda root, **how: drawn.append((root, how))
    )
    arguments = ["phantom", str(tmp_path), "--train-per-class", "5", "--test-per-class", "2", "--size", "64"]
    assert runner.invoke(cli.app, arguments).exit_code == 0
    how = {"train_per_class": 5, "test_per_class": 2, "size": 64, "seed": 0, "duplicates": 8}
    assert drawn == [(tmp_path, how)]


def test_fetch_passes_its_source_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched: list[tuple] = []
    module = ModuleType("hscc.pipeline.data.sources.fetch")
    module.fetch = lambda *args: fetched.append(args)
    monkeypatch.setitem(sys.modules, "hscc.pipeline.data.sources.fetch", module)
    assert runner.invoke(cli.app, ["fetch", "--from", "/somewhere", "--workspace", str(tmp_path)]).exit_code == 0
    assert fetched == [(tmp_path, "/somewhere")]


def test_check_reads_parameters_and_pin(calls: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checked: list[Path] = []
    module = ModuleType("hscc.pipeline.data.sources.fetch")
    module.check_pin = checked.append
    monkeypatch.setitem(sys.modules, "hscc.pipeline.data.sources.fetch", module)
    result = runner.invoke(cli.app, ["check", "--workspace", str(tmp_path)])
    assert (result.exit_code, result.output) == (0, "ok\n")
    assert checked == [tmp_path]


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
    arguments = ["export", "--cell", "hscc-6-0", "--out", "a.onnx", "--pt2", "--workspace", str(tmp_path)]
    assert runner.invoke(cli.app, arguments).exit_code == 0
    named = {"out": Path("a.onnx"), "cell": "hscc-6-0", "baseline": None, "pt2": True}
    assert exports == [(("params", tmp_path), named)]


def test_export_of_a_folder_needs_no_parameters(exports: list) -> None:
    arguments = ["export", "--folder", "small", "--size", "64", "--classes", "a,b", "--out", "a.onnx"]
    assert runner.invoke(cli.app, arguments).exit_code == 0
    assert exports == [(Path("small"), 64, ("a", "b"), Path("a.onnx"), False)]


@pytest.mark.parametrize("more", [[], ["--size", "64"], ["--size", "64", "--classes", "a", "--cell", "hscc-6-0"]])
def test_export_of_a_folder_says_what_goes_with_it(more: list[str], exports: list) -> None:
    result = runner.invoke(cli.app, ["export", "--folder", "small", "--out", "a.onnx", *more])
    assert (result.exit_code, exports) == (1, [])
    assert "--size and --classes" in result.stderr
