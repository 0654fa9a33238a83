"""What a stage runs is what its code file lists, and only behaviour changes it."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hscc.errors import ParamsError
from hscc.pipeline import layout
from hscc.pipeline.code_identity import LEFT_OUT, code_digest, is_left_out, stage_code, stage_names
from hscc.pipeline.stages import code
from hscc.pipeline.workspace.create import graph
from tests.in_process import dvc

ROOT = Path(__file__).parents[2]
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# Imports the stages one after another and prints what of hscc came with each. What is left out is replaced, or it would
# bring modules that the stage itself does not use; the leaves among it import nothing.
WATCH = """
import json, sys
from unittest.mock import MagicMock
stages, replaced = json.loads(sys.argv[1])
for stage in stages:
    for name in [name for name in sys.modules if name.split(".")[0] == "hscc"]:
        del sys.modules[name]
    sys.modules.update({name: MagicMock() for name in replaced})
    __import__(f"hscc.pipeline.stages.{stage}")
    loaded = [name for name in sys.modules if name.split(".")[0] == "hscc" and name not in replaced]
    print(json.dumps({stage: loaded}))
"""
LEAVES = {"hscc", "hscc.errors", "hscc.plugins", "hscc.pipeline.layout"}


def every_module() -> set[str]:
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "hscc").rglob("*.py")]
    return {".".join(path.parts).removesuffix(".__init__") for path in paths}


def test_every_stage_depends_on_its_code_and_on_no_source_file() -> None:
    assert set(GRAPH) == {*stage_names(), "code"}
    for name in stage_names():
        dependencies = GRAPH[name]["deps"]
        assert layout.code(name).as_posix() in dependencies
        assert not [path for path in dependencies if path.startswith("hscc")]


def test_everything_that_a_stage_imports_is_listed() -> None:
    order = json.dumps([stage_names(), sorted({name for name in every_module() if is_left_out(name)} - LEAVES)])
    done = subprocess.run([sys.executable, "-c", WATCH, order], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    loaded = {stage: set(names) for line in lines for stage, names in line.items()}
    assert loaded.keys() == set(stage_names())
    for stage, names in loaded.items():
        listed = stage_code(stage).keys()
        assert len(names) > 5
        assert {name for name in names if not is_left_out(name)} <= listed, stage


@pytest.mark.parametrize("stage", stage_names())
def test_what_a_function_imports_is_listed_too(stage: str) -> None:
    listed = stage_code(stage).keys()
    for name in listed:
        path = ROOT / name.replace(".", "/")
        source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if "/" not in name:
            run = re.sub(r"^if TYPE_CHECKING:\n(?: +.*\n)+", "", source.read_text(), flags=re.MULTILINE)
            local = re.findall(r"^ +from (hscc[\w.]+) import (?=\w)", run, re.MULTILINE)
            assert {module for module in local if not is_left_out(module)} <= listed, name


@pytest.mark.parametrize(
    ("stage", "runs"),
    [
        ("calibrate", {"hscc.pipeline.data.images", "hscc.networks.folding"}),
        ("quantise", {"hscc.export.rotation"}),
        ("insight", {"hscc.pipeline.insight.opened_cells"}),
        ("register", {"hscc.pipeline.serving.served_model", "hscc.export.onnx_file"}),
        ("report", {"hscc/pipeline/report/html/templates/page.html.jinja"}),
        ("validate", {"hscc/pipeline/data/sources/brain-tumor-mri.md5"}),
    ],
)
def test_what_lists_written_by_hand_forgot_is_there(stage: str, runs: set[str]) -> None:
    assert runs <= stage_code(stage).keys()


def test_what_is_left_out_is_there_and_leaves_import_nothing() -> None:
    assert LEFT_OUT.keys() <= every_module()
    for name in LEAVES - {"hscc"}:
        source = (ROOT / f"{name.replace('.', '/')}.py").read_text()
        assert set(re.findall(r"^ *(?:from|import) (hscc[\w.]*)", source, re.MULTILINE)) <= LEAVES


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ('"""Other."""\n\nRATE = 3\n\n\ndef rate(x: int) -> int:\n    return RATE * x\n', True),
        (
            "RATE = 3  # three\ndef rate(x: int) -> int:\n    '''One.\n\n    Two.\n    '''\n    return (RATE *\n x)",
            True,
        ),
        ("RATE = 4\ndef rate(x: int) -> int:\n    return RATE * x", False),
        ("RATE = 3\ndef rate(x: int) -> int:\n    return RATE + x", False),
        ("RATE = '3'\ndef rate(x: int) -> int:\n    return RATE * x", False),
        ("RATE = 3\ndef rate(x: int, y: int = 0) -> int:\n    return RATE * x", False),
    ],
)
def test_only_behaviour_has_a_hash(source: str, same: bool) -> None:
    before = "RATE = 3\n\ndef rate(x: int) -> int:\n    return RATE * x\n"
    assert (code_digest(ast.parse(source)) == code_digest(ast.parse(before))) == same


def test_a_plugin_counts_for_the_stages_that_may_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "methods.py").write_text(
        "from typing import TYPE_CHECKING\nfrom hscc.methods import METHODS\nfrom .ranks import best\n"
        "if TYPE_CHECKING:\n    from theirs import types\ndef late():\n    from theirs import later\n"
    )
    for name in ("ranks", "later", "types"):
        (package / f"{name}.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = {name for name in stage_code("compress", ["theirs.methods"]) if name.startswith("theirs")}
    assert found == {"theirs", "theirs.methods", "theirs.ranks", "theirs.later"}
    assert "theirs.methods" not in stage_code("validate", ["theirs.methods"])
    with pytest.raises(ParamsError, match="nobodys"):
        stage_code("compress", ["nobodys"])


def test_a_network_of_the_users_own_and_its_weights_count(tmp_path: Path) -> None:
    (tmp_path / "own_network_of_a_test.py").write_text("def net(classes): ...\n")
    (tmp_path / "weights.pt").write_bytes(b"1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/image.png").write_bytes(b"2")
    params = {"plugins": [], "train": {"backbone": "own_network_of_a_test:net", "weights": "weights.pt"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))

    def hashes(stage: str) -> dict[str, str]:
        code.run(tmp_path)
        return json.loads((tmp_path / layout.code(stage)).read_text())

    first = hashes("train")
    assert {"own_network_of_a_test", "train.weights"} <= first.keys() and "image.png" not in first
    assert "own_network_of_a_test" in hashes("compress") and "train.weights" not in hashes("compress")
    assert "own_network_of_a_test" not in hashes("validate")
    (tmp_path / "weights.pt").write_bytes(b"3")
    assert {name for name, digest in hashes("train").items() if digest != first[name]} == {"train.weights"}
    (tmp_path / "weights.pt").unlink()
    with pytest.raises(ParamsError, match=r"weights\.pt"):
        code.run(tmp_path)


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    code.run(tmp_path)
    first = {path.name: path.read_bytes() for path in (tmp_path / layout.CODE).iterdir()}
    code.run(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / layout.CODE).iterdir()} == first
    assert first.keys() == {f"{name}.json" for name in stage_names()}


@pytest.mark.parametrize("installed", [False, True])
def test_a_comment_makes_nothing_stale_and_a_constant_what_runs_it(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC over a copy of the package: the stage code as it is, every other stage by a command that takes no time.

    The package is beside dvc.yaml as in a checkout, or elsewhere as an installed one is.
    """
    # The stage calls `python`.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    site = tmp_path / "site" if installed else tmp_path / "workspace"
    monkeypatch.setenv("PYTHONPATH", str(site))
    tmp_path = tmp_path / "workspace"
    tmp_path.mkdir()
    stages = {"code": (yaml.safe_load(graph())["stages"] if installed else GRAPH)["code"]}
    for name in ("train", "quantise", "report"):
        stages[name] = {"cmd": f"echo {name} >> log", "deps": [layout.code(name).as_posix()]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (tmp_path / "params.yaml").write_text("plugins: []\ntrain: {backbone: alexnet, weights: none}\n")
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    shutil.copytree(ROOT / "hscc", site / "hscc", ignore=shutil.ignore_patterns("__pycache__"))

    def ran() -> list[str]:
        (tmp_path / "log").write_text("")
        dvc(tmp_path, "repro")
        return (tmp_path / "log").read_text().split()

    dvc(tmp_path, "init", "--quiet", "--no-scm")
    assert sorted(ran()) == ["quantise", "report", "train"]
    source = site / "hscc/export/rotation.py"
    source.write_text("# A comment.\n" + source.read_text())
    assert dvc(tmp_path, "status", "--json") != "{}"
    assert ran() == []
    assert installed or "up to date" in dvc(tmp_path, "status")
    source.write_text(source.read_text() + "\n_UNUSED = 1\n")
    assert ran() == ["quantise"]
