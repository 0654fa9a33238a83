"""Let torchvision be imported beside a torch that its C++ operators were not built for.

The wheel of torchvision on PyPI is linked against CUDA. Beside a CPU build of torch its operators do not load, and
``import torchvision`` dies with "operator torchvision::nms does not exist" although no backbone uses it. Declaring the
schemas of the two missing operators is enough. An import hook does so, between the attempt to load the operators and
their first use, and only where they did not load.

``python -m hscc.networks.torchvision_operators`` installs the hook for every program of an environment: this file is
copied into ``site-packages``, beside a ``.pth`` file that imports it at start-up. It imports nothing itself.
"""

import sys

_library = None  # the schemas live only as long as this object


class _TorchvisionHook:
    """Declares the operators when torchvision is about to use them; finds no module itself."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name == "torchvision._meta_registrations":  # imported behind the extension with the operators
            _declare_missing_operators()


def install_hook() -> None:
    """Make ``import torchvision`` work in this process; does nothing where it does already."""
    if not any(getattr(finder, "__name__", "") == "_TorchvisionHook" for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionHook)


def _declare_missing_operators() -> None:
    import torch

    global _library
    if _library is None and not hasattr(torch.ops.torchvision, "nms"):
        _library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def install_for_all_programs(site_packages: str) -> None:
    """Write the hook and its ``.pth`` file into the ``site-packages`` folder of an environment."""
    import shutil
    from pathlib import Path

    shutil.copyfile(__file__, Path(site_packages) / "_torchvision_operators.py")
    start = "import _torchvision_operators; _torchvision_operators.install_hook()\n"
    (Path(site_packages) / "_torchvision_operators.pth").write_text(start, encoding="utf-8")


if __name__ == "__main__":
    import sysconfig

    install_for_all_programs(sysconfig.get_path("purelib"))
