"""The files that make the environment agree with one another."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hscc.pipeline import telemetry

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
TORCH_LOCK = (ROOT / "requirements-torch.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


PINNED = {
    canonical(name): version
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK + TORCH_LOCK, flags=re.MULTILINE)
}


def required(extra: str = "") -> dict[str, Requirement]:
    """Requirements of the core, or those that an extra adds, by name; what an extra takes from another included."""
    texts = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    found: dict[str, Requirement] = {}
    for requirement in map(Requirement, texts):
        if requirement.name == "hscc":
            for other in requirement.extras:
                found |= required(other)
        else:
            found[canonical(requirement.name)] = requirement
    return found


def test_the_lock_satisfies_the_core_and_every_extra() -> None:
    for extra in ("", *PROJECT["optional-dependencies"]):
        for name, requirement in required(extra).items():
            assert requirement.specifier.contains(PINNED[name]), requirement


def test_everything_but_the_lock_is_a_range() -> None:
    for extra in ("", *PROJECT["optional-dependencies"]):
        assert not [str(entry) for entry in required(extra).values() if "==" in str(entry.specifier)]


# What may need more than the core, longest path first; everything else is the core's.
ROOMS = {
    "hscc/networks/backbones.py": ("pipeline", "imagenet"),  # torchvision's and timm's networks
    "hscc/export/engine_node.py": ("onnx", "openvino"),
    "hscc/partitions/regions.py": ("slic",),
    "hscc/budgets/layer_graphs.py": ("onnx",),
    "flows/runners.py": ("pipeline", "dask", "ray"),
    "hscc/pipeline/data/formats": ("pipeline", "nifti"),
    "hscc/pipeline": ("pipeline",),
    "hscc/export": ("onnx",),
    "hscc/timing/runtimes.py": ("onnx", "openvino"),
    "hscc/timing": ("onnx",),
    "flows": ("pipeline",),
}


def imported(file: Path) -> Iterator[str]:
    """Name the top-level packages that a module imports anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_everything_imported_is_required_by_the_core_or_the_extra_of_its_room() -> None:
    distributions = {**packages_distributions(), "google": ["protobuf"]}  # a namespace of many distributions
    undeclared = []
    for file in [*ROOT.glob("hscc/**/*.py"), *ROOT.glob("flows/**/*.py")]:
        path = file.relative_to(ROOT).as_posix()
        extras = next((extras for room, extras in ROOMS.items() if path.startswith(room)), ())
        declared = set(required()).union(*map(required, extras))
        for package in set(imported(file)) - sys.stdlib_module_names - {"hscc", "flows"}:
            if declared.isdisjoint(canonical(name) for name in distributions.get(package, [package])):
                undeclared.append(f"{path}: {package}")
    assert undeclared == []


def test_every_locked_file_has_its_hash() -> None:
    for lock in (LOCK, TORCH_LOCK):
        pins = re.findall(r"^\S+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, flags=re.MULTILINE)
        assert len(pins) == len(re.findall(r"^\S+==", lock, flags=re.MULTILINE))


def test_the_lock_holds_neither_torch_nor_a_place() -> None:
    # nvidia-ml-py asks the driver how busy a GPU is; what computes on one comes with torch.
    assert not re.search(r"^(torch|nvidia-(?!ml-py).*)==", LOCK, flags=re.MULTILINE)
    assert not re.search(r"file:|--(find-links|index-url|extra-index-url|trusted-host)", LOCK)


def test_make_switches_telemetry_off_as_the_package_does() -> None:
    exported = dict(re.findall(r"^export (\w+) := (\w+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert exported == telemetry.OFF


def test_telemetry_is_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in telemetry.OFF:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    telemetry.switch_off()
    assert {name: os.environ[name] for name in telemetry.OFF} == {**telemetry.OFF, "DO_NOT_TRACK": "false"}


def test_compiled_modules_do_not_make_a_stage_stale() -> None:
    assert "__pycache__" in (ROOT / ".dvcignore").read_text().split()


def test_an_audit_without_network_ends_in_one_sentence() -> None:
    nowhere = {**os.environ, "https_proxy": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1"}
    command = ["make", "--no-print-directory", "-C", str(ROOT), "audit", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, env=nowhere, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "gets no answer; run it where the network reaches it." in done.stderr
    assert "Traceback" not in done.stderr


def test_servers_are_reached_from_this_machine_alone_unless_told_otherwise() -> None:
    started = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if re.search(r"(server start|mlflow ui)", line)
    ]
    assert len(started) == 2
    assert all("--host 127.0.0.1" in line for line in started)
