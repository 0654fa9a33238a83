"""A user's own ``import torchvision`` works, whatever torch's build."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from hscc.networks.torchvision_operators import install_for_all_programs

ROOT = Path(__file__).parents[2]
HOOK = Path(sysconfig.get_path("purelib")) / "_torchvision_operators.pth"
USE = "torchvision.models.alexnet(num_classes=3); torchvision.ops.box_iou; torchvision.transforms.Resize(8)"


def run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BUILD = "from hscc.networks.backbones import build; build('alexnet', 3)"


def test_torchvision_is_imported_in_an_environment_with_the_hook(tmp_path: Path) -> None:
    hook = ""
    if not HOOK.is_file():  # make setup puts it there
        install_for_all_programs(str(tmp_path))
        hook = f"import site; site.addsitedir({str(tmp_path)!r}); "
    run(f"{hook}import torchvision; {BUILD}; {USE}")


def test_torchvision_is_imported_behind_a_backbone_without_the_hook_in_the_environment() -> None:
    run(f"{BUILD}; import torchvision; {USE}")


def test_the_hook_imports_nothing_at_start_up(tmp_path: Path) -> None:
    install_for_all_programs(str(tmp_path))
    run(
        "import site, sys; before = set(sys.modules); "
        f"site.addsitedir({str(tmp_path)!r}); assert set(sys.modules) - before <= {{'_torchvision_operators'}}"
    )


def test_make_setup_installs_the_hook_and_asks_for_the_cpu_build() -> None:
    done = subprocess.run(["make", "-nB", "setup"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "python hscc/networks/torchvision_operators.py" in done.stdout
    assert "--index-url https://download.pytorch.org/whl/cpu torchvision==0.28.0+cpu" in done.stdout
