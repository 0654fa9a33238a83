"""Methods and backbones of another package, by entry points and by modules that enter them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import hscc
from hscc.calibration.collect import Calibration
from hscc.errors import HSCCError
from hscc.networks.backbones import BACKBONES, build
from hscc.plugins import Registry, load_plugins

METHODS = """
from dataclasses import dataclass

from hscc import Tucker


@dataclass(frozen=True)
class Mine(Tucker):
    strength: int = 1


STRONG = Mine(2)
NOT_A_METHOD = 3
"""


def install(folder: Path, name: str, entry_points: str, **modules: str) -> None:
    """Write a package as an installer leaves it."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").touch()
    for module, text in modules.items():
        (package / f"{module}.py").write_text(text)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for packages, on the path for one test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith("plug"):
            del sys.modules[name]


def test_a_method_of_another_package_is_planned_with(
    packages: Path, network: nn.Module, calibration: Calibration
) -> None:
    install(packages, "plug_a", "[hscc.methods]\nmine = plug_a.m:Mine\nstrong = plug_a.m:STRONG\n", m=METHODS)
    assert {"mine", "strong", "hscc"} <= set(hscc.METHODS) and "mine" in hscc.METHODS
    assert "plug_a.m" not in sys.modules  # listing the names imports nothing
    plan = hscc.plan(network, calibration, hscc.METHODS["strong"], hscc.Budget(macs=2, only=True))
    assert (plan.method, plan.settings["strength"]) == ("strong", 2)
    again = hscc.Plan.from_json(plan.to_json())
    assert hscc.apply(network, again, calibration).hscc_plan == again
    assert hscc.METHODS["mine"] is hscc.METHODS["mine"]


def test_a_backbone_of_another_package_is_built(packages: Path) -> None:
    text = (
        "from torch import nn\n\n\ndef flat(classes):\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))\n"
    )
    install(packages, "plug_b", "[hscc.backbones]\nflat = plug_b.m:flat\n", m=text)
    assert "flat" in BACKBONES
    assert build("flat", 5)(torch.zeros(1, 3, 4, 4)).shape == (1, 5)


@pytest.mark.parametrize("value", ["m:NOT_A_METHOD", "m:absent", "absent:x"])
def test_an_entry_point_that_cannot_be_used_names_its_package_and_harms_no_other(
    packages: Path, network: nn.Module, calibration: Calibration, value: str
) -> None:
    install(packages, "plug_c", f"[hscc.methods]\nbroken = plug_c.{value}\n", m=METHODS)
    with pytest.raises(HSCCError, match=r"hscc\.methods: 'broken' of plug_c cannot be used"):
        hscc.METHODS["broken"]
    assert isinstance(hscc.METHODS["hscc"], hscc.HSCC)
    assert hscc.plan(network, calibration, hscc.Tucker(), hscc.Budget(macs=2, only=True)).method == "tucker"


def test_a_name_of_two_packages_or_of_this_one_is_refused(packages: Path) -> None:
    install(packages, "plug_d", "[hscc.methods]\ntwice = plug_d.m:Mine\ntucker = plug_d.m:Mine\n", m=METHODS)
    install(packages, "plug_e", "[hscc.methods]\ntwice = plug_e.m:Mine\n", m=METHODS)
    with pytest.raises(HSCCError, match="'twice' is an entry point of plug_d and plug_e"):
        hscc.METHODS["twice"]
    with pytest.raises(HSCCError, match="'tucker' is an entry point of plug_d"):
        hscc.METHODS["tucker"]


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        hscc.METHODS["no such method"]
    assert "no such method" not in hscc.METHODS and hscc.METHODS.get("no such method") is None


def test_a_registry_is_a_mapping_that_takes_more() -> None:
    registry = Registry[int]("hscc.tests", {"one": 1})
    registry["two"] = 2
    assert dict(registry) == {"one": 1, "two": 2} and len(registry) == 2
    assert registry.name_of(2) == "two" and registry.name_of(3) is None
    del registry["one"]
    assert list(registry) == ["two"]


@dataclass(frozen=True)
class Unregistered(hscc.Tucker):
    """A method of the user's own that no registry knows."""


def test_a_method_without_a_name_is_called_by_its_class(network: nn.Module, calibration: Calibration) -> None:
    assert hscc.plan(network, calibration, Unregistered(), hscc.Budget(macs=2, only=True)).method == "Unregistered"


def test_a_module_named_in_the_parameters_enters_its_methods(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hscc.METHODS, "_entries", dict(hscc.METHODS._entries))
    workspace = packages / "workspace"
    workspace.mkdir()
    (workspace / "plug_here.py").write_text("import hscc\n\nhscc.METHODS['here'] = hscc.Tucker()\n")
    install(packages, "plug_f", "[hscc.plugins]\nf = plug_f.m\n", m="import hscc\n\nhscc.METHODS['f'] = hscc.ALDS()\n")
    load_plugins(["plug_here"], workspace)
    assert isinstance(hscc.METHODS["here"], hscc.Tucker) and isinstance(hscc.METHODS["f"], hscc.ALDS)
    assert str(workspace) not in sys.path


def test_a_missing_plugin_is_named(packages: Path) -> None:
    with pytest.raises(HSCCError, match=r"plugins: the module 'plug_absent' cannot be imported \(No module named"):
        load_plugins(["plug_absent"])
    (packages / "plug_fails.py").write_text("1 / 0\n")
    with pytest.raises(HSCCError, match=r"plug_fails.*division by zero"):
        load_plugins(["plug_fails"])
