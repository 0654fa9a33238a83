"""Import torchvision also where its wheel and torch's were built for different devices."""

from __future__ import annotations

from types import ModuleType

import torch


def import_torchvision() -> ModuleType:
    """Return ``torchvision.models``.

    The wheel of torchvision on PyPI is linked against CUDA. Beside a CPU build of torch its C++ operators do
    not load, and the import dies with "operator torchvision::nms does not exist" although no backbone uses
    it. Declaring the two schemas is enough.
    """
    try:
        import torchvision.models
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare_missing_operators()
        import torchvision.models
    models: ModuleType = torchvision.models
    return models


def _declare_missing_operators() -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # the half-imported package would otherwise be found again
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT_ALIVE.append(library)  # the schemas live only as long as this object


_KEPT_ALIVE: list[torch.library.Library] = []
