import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from hscc.pipeline.known_names import OWN, REGISTRIES, Kind, known_names

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_names_are_those_of_the_registry(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    module, attribute = REGISTRIES[kind]
    registry = getattr(import_module(module), attribute)
    assert sorted(OWN[kind]) == sorted(registry._entries)
    monkeypatch.setattr(registry, "_entries", {**registry._entries, "entered": None})
    assert known_names(kind) == list(registry)
    monkeypatch.delitem(sys.modules, module)
    assert known_names(kind) == list(OWN[kind])


@pytest.mark.parametrize(
    ("program", "late"),
    [
        ("from hscc.pipeline.params import read_params; read_params()", "torch numpy scipy pandas"),
        (
            "from runpy import run_module; run_module('flows.pipeline', run_name='__main__')",
            "torch scipy pandas mlflow",
        ),
    ],
)
def test_checking_parameters_and_starting_a_flow_are_cheap(program: str, late: str) -> None:
    source = f"""
import sys
sys.argv = ["flows.pipeline", "--help"]
try:
    {program}
except SystemExit as ended:
    assert not ended.code
print("loaded:", *[name for name in {late.split()} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    said, loaded = done.stdout.split("loaded:")
    assert loaded.split() == []
    assert ("--workspace" in said) == ("flows" in program)  # its help
