"""Any task: maps, one logit, several labels, values, several inputs, and whatever a network wraps its answer in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hscc
from hscc.errors import BudgetError, ExportError
from hscc.export.onnx_file import read_card
from hscc.export.preprocessing import Preprocessing
from hscc.networks.backbones import build
from hscc.networks.cost import count_macs, count_parameters
from hscc.networks.inputs import Batch, parts, run
from hscc.outputs import Outputs
from hscc.refitting.runs import answers, mean_divergence

pytestmark = pytest.mark.filterwarnings("ignore:.*calibration images are few")
CHEAP = hscc.HSCC(regions=(1, 2), clusters=1, projection=None)
CHEAPEST = hscc.HSCC(regions=1, clusters=1, projection=None)


def smooth(count: int, channels: int = 3, side: int = 32, seed: int = 0) -> torch.Tensor:
    coarse = torch.randn(count, channels, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(side, side), mode="bicubic")


def stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """Two levels with skip connections."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first, self.second, self.bottom = stage(3, 16), stage(16, 32), stage(32, 48)
        self.up, self.wide = nn.ConvTranspose2d(48, 32, 2, 2), stage(64, 32)
        self.last, self.head = stage(48, 16), nn.Conv2d(16, outputs, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.first(image)
        second = self.second(F.max_pool2d(first, 2))
        bottom = self.bottom(F.max_pool2d(second, 2))
        wide = self.wide(torch.cat((self.up(bottom), second), 1))
        return self.head(self.last(torch.cat((F.interpolate(wide, scale_factor=2.0), first), 1)))


class Classifier(nn.Module):
    """A small CNN that wraps its answer."""

    def __init__(self, outputs: int, wrap: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
        super().__init__()
        self.features, self.head, self.wrap = nn.Sequential(stage(3, 24), nn.MaxPool2d(2), stage(24, 32)), None, wrap
        self.head = nn.Linear(32, outputs)

    def forward(self, image: torch.Tensor) -> object:
        hidden = self.features(image).mean((2, 3))
        return self.wrap(self.head(hidden), hidden)


class WithRecord(nn.Module):
    """An image and what is known about it."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.record = nn.Sequential(stage(3, 24), nn.MaxPool2d(2), stage(24, 32)), nn.Linear(6, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, image: torch.Tensor, record: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).mean((2, 3)) + torch.relu(self.record(record)))


def segmentation() -> nn.Module:
    """torchvision's own class over a small ResNet; it returns a dict with an auxiliary entry."""
    build("resnet18", 4)  # makes torchvision work with any build of torch
    from torchvision.models import _utils, resnet, segmentation

    body = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1])
    backbone = _utils.IntermediateLayerGetter(body, {"layer2": "aux", "layer3": "out"})
    return segmentation.FCN(backbone, segmentation.fcn.FCNHead(256, 4), segmentation.fcn.FCNHead(128, 4))


@dataclass(frozen=True)
class Task:
    """A network with what it is given and what counts."""

    make: Callable[[], nn.Module]
    kind: str
    batch: Batch
    output: Outputs | None = None


IMAGES, RECORDS = smooth(32, side=24), torch.randn(32, 6, generator=torch.Generator().manual_seed(5))
TASKS = {
    "U-Net, classes": Task(lambda: UNet(5), "classes", IMAGES),
    "U-Net, binary": Task(lambda: UNet(1), "independent", IMAGES),
    "U-Net, values": Task(lambda: UNet(2), "values", IMAGES, Outputs("values")),
    "FCN": Task(segmentation, "classes", IMAGES),
    "one logit": Task(lambda: Classifier(1, lambda z, _: z), "independent", IMAGES),
    "a vector": Task(lambda: Classifier(1, lambda z, _: z[:, 0]), "independent", IMAGES),
    "labels": Task(lambda: Classifier(7, lambda z, _: {"out": z}), "independent", IMAGES, Outputs("independent")),
    "regression": Task(lambda: Classifier(2, lambda z, h: (h, z)), "values", IMAGES, Outputs("values", entry=1)),
    "tuple": Task(lambda: Classifier(3, lambda z, h: (z, h)), "classes", IMAGES),
    "1,000 classes": Task(lambda: Classifier(1000, lambda z, h: {"logits": z, "h": h}), "classes", IMAGES),
    "by position": Task(WithRecord, "classes", (IMAGES, RECORDS)),
    "by keyword": Task(WithRecord, "classes", {"record": RECORDS, "image": IMAGES}),
}


EXPORTED = {"U-Net, binary": (1, 24, 24), "FCN": (4, 24, 24), "regression": (2,), "a vector": (1,)}


def compressed(model: nn.Module, calibration: hscc.Calibration, method: hscc.HSCC) -> tuple[nn.Module, hscc.Plan]:
    """Compress three times, and check that torch counts what the plan says."""
    made = hscc.plan(model, calibration, method, hscc.Budget(macs=3, only=True))
    small, shape = hscc.apply(model, made), calibration.input_shape
    assert (count_macs(small, shape), count_parameters(small)) == (made.macs, made.params)
    report = hscc.cost(small, shape)
    assert (report.macs, report.params) == (made.macs, made.params)
    assert 3 * made.macs <= made.dense_macs == count_macs(model, shape)
    return small, made


def check_saved(small: nn.Module, model: nn.Module, batch: Batch, outputs: Outputs, folder: Path) -> None:
    hscc.save(small, folder)
    again = hscc.load(folder, model)
    with torch.no_grad():
        assert torch.equal(outputs.select(run(again, batch)), outputs.select(run(small, batch)))
    assert again.hscc_plan == small.hscc_plan


def check_exported(small: nn.Module, outputs: Outputs, sizes: tuple[int, ...], path: Path) -> None:
    hscc.export_onnx(small, path, output=outputs)  # which compares it with torch
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (answer,) = session.get_outputs()
    assert answer.name == ("values" if outputs.kind == "values" else "probabilities")
    picture = np.random.default_rng(3).integers(0, 256, (2, 30, 20, 3), dtype=np.uint8)
    (found,) = session.run(None, {"image": picture})
    prepared = torch.cat([Preprocessing.of((3, 24, 24)).prepare(one) for one in picture])
    with torch.no_grad():
        expected = outputs.predictions(outputs.select(small(prepared)))
    assert found.shape == (2, *sizes)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)
    described = read_card(path)["output"]
    assert described.startswith(answer.name) and all(str(size) in described for size in sizes[1:])


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_compressed_saved_and_exported(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    torch.manual_seed(0)
    model = task.make().eval()
    batches = list(parts(task.batch, 16))
    calibration = hscc.calibrate(model, batches, 2, task.output, probes=4)
    assert calibration.outputs.kind == task.kind
    small, made = compressed(model, calibration, CHEAP)
    again = hscc.apply(model, hscc.Plan.from_json(made.to_json()), calibration)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in small.state_dict().items())
    check_saved(small, model, batches[0], calibration.outputs, tmp_path)
    if name in EXPORTED:
        check_exported(small, calibration.outputs, EXPORTED[name], tmp_path / "deployed.onnx")


@pytest.mark.parametrize("name", ["U-Net, binary", "regression", "by keyword"])
def test_refit_lowers_the_divergence_of_a_task(name: str) -> None:
    task = TASKS[name]
    torch.manual_seed(0)
    model = task.make().eval()
    batches = list(parts(task.batch, 16))
    calibration = hscc.calibrate(model, batches, 1, task.output)
    small, _ = compressed(model, calibration, CHEAPEST)
    result = hscc.refit(small, model, calibration, batches)
    outputs, held_out = calibration.outputs, list(parts(task.batch, 8))
    with torch.no_grad():
        targets = list(answers(model, held_out, outputs))
        before, after = (mean_divergence(network, held_out, targets, outputs) for network in (small, result.network))
    assert result.after < result.before
    assert 0 <= after < before


def test_compress_takes_what_counts() -> None:
    torch.manual_seed(0)
    model = UNet(3).eval()
    small = hscc.compress(
        model, IMAGES.split(16), CHEAP, hscc.Budget(macs=3, only=True), cells=2, refit=False, output=Outputs("values")
    )
    assert small(IMAGES[:2]).shape == (2, 3, 24, 24)


def test_what_several_inputs_cannot_do_is_named() -> None:
    model = WithRecord().eval()
    calibration = hscc.calibrate(model, [(IMAGES, RECORDS)], 1)
    with pytest.raises(BudgetError, match="latency"):
        hscc.plan(model, calibration, CHEAPEST, hscc.Budget(latency=2))
    small, _ = compressed(model, calibration, CHEAPEST)
    with pytest.raises(ExportError, match="several inputs"):
        hscc.export_onnx(small, Path("unused.onnx"))
