"""A user's own ``import torchvision`` works, whatever torch's build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hscc.networks.torchvision_operators import install_for_all_programs

ROOT = Path(__file__).parents[2]
USE = "torchvision.models.alexnet(num_classes=3); torchvision.ops.box_iou; torchvision.transforms.Resize(8)"


def run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BUILD = "from hscc.networks.backbones import build; build('alexnet', 3)"


@pytest.mark.parametrize("order", [f"import torchvision; {BUILD}", f"{BUILD}; import torchvision"])
def test_torchvision_is_imported_in_an_environment_with_the_hook(order: str, tmp_path: Path) -> None:
    install_for_all_programs(str(tmp_path))
    run(f"import site; site.addsitedir({str(tmp_path)!r}); {order}; {USE}")


def test_torchvision_is_imported_behind_a_backbone_without_the_hook_in_the_environment() -> None:
    run(f"{BUILD}; import torchvision; {USE}")


def test_the_hook_imports_nothing_at_start_up(tmp_path: Path) -> None:
    install_for_all_programs(str(tmp_path))
    run(
        "import site, sys; before = set(sys.modules); "
        f"site.addsitedir({str(tmp_path)!r}); assert set(sys.modules) - before <= {{'_torchvision_operators'}}"
    )


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="this is not the environment that make setup makes")
def test_torchvision_is_imported_in_the_environment_of_make_setup() -> None:
    run(f"import torchvision; {USE}")


def test_make_setup_installs_the_hook_and_asks_for_the_cpu_build() -> None:
    done = subprocess.run(["make", "-nB", "setup"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "python hscc/networks/torchvision_operators.py" in done.stdout
    assert "--index-url https://download.pytorch.org/whl/cpu torchvision==0.28.0+cpu" in done.stdout
