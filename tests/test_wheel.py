"""The wheel in an environment with the core's requirements and nothing else: what works, and what names its extra."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from packaging.requirements import Requirement

from hscc.engine.library import NATIVE
from hscc.engine.program import Affine, Program, Shape
from hscc.engine.program_file import write_program
from hscc.pipeline.workspace.params_file import with_choices
from hscc.pipeline.workspace.proposal import Choice
from tests.engine.builds import compiler, library_of_these_sources
from tests.pipeline.workspace.drawn import folders

ROOT = Path(__file__).parents[1]
ABSENT = ["onnx", "onnx_ir", "onnxruntime", "PIL", "torchvision", "pandas", "prefect", "mlflow", "dvc", "typer"]

# The first block of Python in README.md: a network, batches, `small` compressed and saved.
(EXAMPLE, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it from a copy of the tree, so that no build folder is left behind; as where there is no C++ compiler."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("hscc", "flows"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    build = ["wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", "dist", "."]
    no_compiler = {**os.environ, "CC": "/bin/false", "CXX": "/bin/false"}
    subprocess.run([sys.executable, "-m", "pip", *build], cwd=folder, env=no_compiler, check=True)
    (made,) = (folder / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install it into an environment that holds links to the core's requirements, and theirs; give its Python."""
    folder = tmp_path_factory.mktemp("core")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (site_packages,) = (folder / "lib").glob("python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    for required in closure(Distribution.at(next(site_packages.glob("hscc-*.dist-info")))):
        for top in {file.parts[0] for file in required.files or ()} - {"..", "__pycache__"}:
            source = Path(str(required.locate_file(top)))
            if source.exists() and not (site_packages / top).exists():
                (site_packages / top).symlink_to(source)
    return python


def closure(start: Distribution) -> list[Distribution]:
    """Find what a distribution requires without extras, as it is installed here, with all that this requires."""
    found: dict[str, Distribution] = {}
    waiting = [start]
    while waiting:
        for requirement in map(Requirement, waiting.pop().requires or ()):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and requirement.name not in found:
                found[requirement.name] = distribution(requirement.name)
                assert requirement.specifier.contains(found[requirement.name].version, prereleases=True)
                waiting.append(found[requirement.name])
    return list(found.values())


def run(python: Path | str, program: str, folder: Path) -> str:
    """Run a program isolated from this process's paths and folder."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", program],
        cwd=folder,
        env={"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ENGINE = """
import hscc, numpy, sys
try:
    print(hscc.Engine("network.hscc")(numpy.ones((1, 2, 3), numpy.float32)).tolist())
except hscc.errors.EngineError as error:
    print(str(error).split("build it with: ")[1])
"""


@pytest.fixture(scope="module")
def core_with_engine(core: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Put the engine's library into that environment, as the command does that its error names.

    The command itself checks one of the sources: to compile them all takes long, and their library is here already.
    """
    folder = tmp_path_factory.mktemp("engine")
    program = Program()
    program.inputs, program.outputs = [program.value(Shape(2, 1, 1, 3))], [program.value(Shape(2, 1, 1, 3))]
    program.operations = [Affine((0,), 1, None, np.array([1, 2], np.float32))]
    (folder / "network.hscc").write_bytes(write_program(program))
    command = run(core, ENGINE, folder).strip()
    *_, sources, output, target = shlex.split(command)
    assert output == "-o" and texts(Path(sources).parents[1]) == texts(NATIVE)
    if compiler() is None:
        pytest.skip("there is no C++ compiler")
    one = command.replace("*.cpp", "capi.cpp").replace("-shared", "-fsyntax-only -Werror")
    subprocess.run(one, shell=True, check=True)
    shutil.copy(library_of_these_sources(), target)
    assert run(core, ENGINE, folder) == "[[[2.0, 2.0, 2.0], [3.0, 3.0, 3.0]]]\n"
    return core


def texts(native: Path) -> dict[str, bytes]:
    """What there is to compile, by its name."""
    return {str(path.relative_to(native)): path.read_bytes() for path in native.rglob("*") if path.is_file()}


def test_the_wheel_holds_the_licence_and_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    data = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "hscc").rglob("*")
        if path.suffix in (".jinja", ".md5", ".typed", ".c", ".cpp", ".h", ".inc")
        or (path.parent.name == "templates" and path.is_file())
    }
    assert len(data) > 20 and data <= names
    assert "License-Expression: Apache-2.0\n" in metadata
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests") for name in names)


def test_the_first_example_runs_with_nothing_but_the_core(core_with_engine: Path, tmp_path: Path) -> None:
    program = f"""{EXAMPLE}
import importlib.util
import hscc.training.finetuning
shape = images[0].shape
again = hscc.load("small", model)
print(torch.equal(again(images[0]), small.eval()(images[0])))
print(hscc.cost(model, shape).macs / hscc.cost(small, shape).macs)
print([name for name in {ABSENT} if importlib.util.find_spec(name)])
"""
    same, ratio, present = run(core_with_engine, program, tmp_path).splitlines()[-3:]
    assert (same, present) == ("True", "[]") and float(ratio) >= 3


MISSING = {
    "hscc.export_onnx": "onnx",
    "hscc.export_pt2": "onnx",
    "hscc.Preprocessing": "onnx",
    "hscc.DeploymentCard": "onnx",
    "hscc.new_table(runtime='onnxruntime')": "onnx",
    "hscc.new_table(runtime='openvino')": "openvino",
    "build('alexnet', 4)": "pipeline",
    "__import__('hscc.__main__').__main__.main()": "pipeline",
}


def test_what_is_missing_names_the_extra_that_brings_it(core: Path, tmp_path: Path) -> None:
    program = f"""
import torch
from torch import nn
import hscc
from hscc.networks.backbones import build
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
batches = [torch.randn(40, 3, 8, 8)]
for call in {list(MISSING)}:
    try:
        eval(call)
    except (hscc.errors.HSCCError, SystemExit) as error:
        print(str(error).split("pip install ")[-1])
"""
    found = run(core, program, tmp_path).splitlines()
    assert found == [f"'hscc[{extra}]'." for extra in MISSING.values()]


def test_every_other_public_name_is_there(core: Path, tmp_path: Path) -> None:
    missing = [call.removeprefix("hscc.") for call in MISSING]
    program = f"""
import hscc
names = set(hscc.__all__).difference({missing})
print(len(names), sum(hasattr(hscc, name) for name in names))
"""
    names, there = map(int, run(core, program, tmp_path).split())
    assert names == there > 10


NETWORK = """
from torch import nn
def build(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
"""


def test_an_installed_package_makes_a_workspace_and_runs_its_graph(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python, workspace = tmp_path / "venv/bin/python", tmp_path / "workspace"
    (site_packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (site_packages / "requirements.pth").write_text(sysconfig.get_paths()["purelib"])
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    data = folders(tmp_path / "scans", ["ill", "well"], ["train", "test"], count=20)

    def call(*arguments: str) -> str:
        known = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "startup")}
        path = os.pathsep.join([str(python.parent), os.environ["PATH"]])  # the stages call `python`
        done = subprocess.run(
            [str(python), "-m", *arguments],
            cwd=workspace if workspace.is_dir() else tmp_path,
            env={**known, "PATH": path, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("hscc", "init", "workspace", "--data", str(data))
    (workspace / "network.py").write_text(NETWORK)
    built: dict[str, Any] = {}
    exec(NETWORK, built)
    weights = built["build"](2).state_dict()
    safetensors.torch.save_file(weights, workspace / "trained.safetensors")
    changes = [
        Choice("train.backbone", "network:build"),
        Choice("train.weights", "trained.safetensors"),
        Choice("train.epochs", 0),
    ]
    params = workspace / "params.yaml"
    params.write_text(with_choices(params.read_text(), changes))
    assert "Running stage 'train@official'" in call("dvc", "repro", "train@official")
    written = safetensors.torch.load_file(workspace / "artifacts/baseline/official/model.safetensors")
    assert all(written[name].equal(value) for name, value in weights.items())
    again = call("dvc", "repro", "train@official")
    assert "Running stage 'code'" in again and "Stage 'train@official' didn't change" in again


def test_importing_the_library_imports_no_part_of_the_pipeline(tmp_path: Path) -> None:
    late = [*ABSENT, "sklearn", "scipy", "flows", "hscc.export", "hscc.pipeline", "hscc.timing"]
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import hscc
assert "torch" not in sys.modules
hscc.calibrate, hscc.plan, hscc.apply, hscc.compress, hscc.cost, hscc.save, hscc.load, hscc.HSCC, hscc.Budget
print(*[name for name in {late} if name in sys.modules])
"""
    assert run(sys.executable, program, tmp_path).split() == []
