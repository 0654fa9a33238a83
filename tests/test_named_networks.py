"""Networks that users bring, by name: compressed three times, counted, saved, loaded, exported and compared.

Built by torchvision's own classes, with fewer channels or blocks where these allow it: the wiring is what is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hscc
from hscc.export.to_onnx import write_onnx
from hscc.networks.backbones import build, initialise
from hscc.networks.cost import count_macs, count_parameters

pytestmark = pytest.mark.filterwarnings("ignore:.*calibration images are few")
METHOD = hscc.HSCC(regions=1, clusters=1, projection=None)
CLASSES = 5
CONVS: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS: dict[int, Callable[..., nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def torchvision_models() -> Any:
    build("resnet18", 4)  # makes torchvision work with any build of torch
    from torchvision import models

    return models


def resnet50() -> nn.Module:
    resnet = torchvision_models().resnet
    return resnet.ResNet(resnet.Bottleneck, [2, 1, 1, 1], num_classes=CLASSES, width_per_group=16)


def densenet121() -> nn.Module:
    return torchvision_models().DenseNet(32, (2, 2, 2, 2), 64, num_classes=CLASSES)


def vgg16_bn() -> nn.Module:
    vgg = torchvision_models().vgg
    blocks = [64, "M", 128, "M", 256, 256, 256, "M", 512, 512, "M", 512, "M"]
    widths = [size if isinstance(size, str) else size // 4 for size in blocks]
    model = vgg.VGG(vgg.make_layers(widths, batch_norm=True), num_classes=CLASSES, init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    wide = [nn.Linear(512, 128), nn.ReLU(True), nn.Dropout(), nn.Linear(128, 128), nn.ReLU(True), nn.Dropout()]
    model.classifier = nn.Sequential(*wide, nn.Linear(128, CLASSES))
    return model


def mobilenet_v3_small() -> nn.Module:
    """Its blocks, one of each kind, half as wide."""
    mobilenet = torchvision_models().mobilenetv3
    kinds = ((16, 3, 16, 16, True, "RE", 2), (16, 3, 72, 24, False, "RE", 2), (24, 5, 96, 40, True, "HS", 2),
             (40, 5, 240, 40, True, "HS", 1))  # fmt: skip
    blocks = [mobilenet.InvertedResidualConfig(*kind, 1, 0.5) for kind in kinds]
    return mobilenet.MobileNetV3(blocks, last_channel=512, num_classes=CLASSES)


def googlenet() -> nn.Module:
    """Without the modules that keep their width."""
    model = torchvision_models().googlenet(num_classes=CLASSES, aux_logits=True, init_weights=False)
    model.inception4b, model.inception4c, model.inception5a = nn.Identity(), nn.Identity(), nn.Identity()
    return model


def shufflenet_v2() -> nn.Module:
    return torchvision_models().ShuffleNetV2([2, 2, 2], [24, 48, 96, 192, 512], num_classes=CLASSES)


def efficientnet_b0() -> nn.Module:
    """Its blocks, one of each kind, half as wide."""
    efficientnet = torchvision_models().efficientnet
    kinds = ((1, 3, 1, 32, 16), (6, 3, 2, 16, 24), (6, 5, 2, 24, 40), (6, 3, 2, 40, 80))
    blocks = [
        efficientnet.MBConvConfig(expand, kernel, stride, inputs, outputs, 1, width_mult=0.5)
        for expand, kernel, stride, inputs, outputs in kinds
    ]
    return efficientnet.EfficientNet(blocks, dropout=0.2, last_channel=320, num_classes=CLASSES)


def convnext_tiny() -> nn.Module:
    convnext = torchvision_models().convnext
    widths = (24, 48, 96, 192)
    stages = [convnext.CNBlockConfig(width, after, 1) for width, after in zip(widths, (*widths[1:], None), strict=True)]
    return convnext.ConvNeXt(stages, num_classes=CLASSES)


def deeplabv3() -> nn.Module:
    segmentation = torchvision_models().segmentation
    head = segmentation.deeplabv3.DeepLabHead(512, CLASSES, (2, 4, 6))
    return segmentation.DeepLabV3(_dilated_resnet50(), head, segmentation.fcn.FCNHead(256, CLASSES))


def _dilated_resnet50() -> nn.Module:
    """The body of torchvision's segmentation networks, without its last two stages."""
    models = torchvision_models()
    from torchvision.models._utils import IntermediateLayerGetter

    body = models.resnet.ResNet(
        models.resnet.Bottleneck, [1, 1, 1, 1], width_per_group=16, replace_stride_with_dilation=[True, True, True]
    )
    return IntermediateLayerGetter(body, {"layer1": "aux", "layer2": "out"})


def r3d_18() -> nn.Module:
    """Its first two stages: those behind them have patches of 13,824 features."""
    video = torchvision_models().video.resnet
    model = video.VideoResNet(video.BasicBlock, [video.Conv3DSimple] * 4, [1, 1, 1, 1], video.BasicStem, CLASSES)
    model.layer3, model.layer4, model.fc = nn.Identity(), nn.Identity(), nn.Linear(128, CLASSES)
    return model


class Unit(nn.Module):
    """A residual unit as MONAI builds it: convolution, normalisation, dropout and PReLU, twice, beside a shortcut."""

    def __init__(self, axes: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        widths = ((inputs, stride), (outputs, 1))
        parts: list[nn.Module] = []
        for width, step in widths:
            parts += [CONVS[axes](width, outputs, 3, step, 1), NORMS[axes](outputs), nn.Dropout(0.1), nn.PReLU()]
        self.conv = nn.Sequential(*parts)
        self.residual = CONVS[axes](inputs, outputs, 3, stride, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.residual(x)


class Skip(nn.Module):
    """Joins what goes in with what comes out."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.submodule = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.submodule(x)], dim=1)


def monai_unet(axes: int) -> nn.Module:
    """MONAI's U-Net: nested blocks of a unit down, what is below, and a transposed convolution up."""

    def level(inputs: int, outputs: int, widths: tuple[int, ...]) -> nn.Module:
        width, *deeper = widths
        below = level(width, width, tuple(deeper)) if len(deeper) > 1 else Unit(axes, width, deeper[0], 1)
        joined = 2 * width if len(deeper) > 1 else width + deeper[0]
        up = TRANSPOSED[axes](joined, outputs, 3, 2, 1, output_padding=1)
        return nn.Sequential(Unit(axes, inputs, width, 2), Skip(below), up, Unit(axes, outputs, outputs, 1))

    return level(1, 3, (12, 24, 48))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet50": (resnet50, (3, 48, 48)),
    "densenet121": (densenet121, (3, 48, 48)),
    "vgg16_bn": (vgg16_bn, (3, 32, 32)),
    "mobilenet_v3_small": (mobilenet_v3_small, (3, 64, 64)),
    "efficientnet_b0": (efficientnet_b0, (3, 48, 48)),
    "convnext_tiny": (convnext_tiny, (3, 64, 64)),
    "googlenet": (googlenet, (3, 32, 32)),
    "squeezenet1_1": (lambda: torchvision_models().squeezenet1_1(), (3, 48, 48)),
    "shufflenet_v2": (shufflenet_v2, (3, 64, 64)),
    "deeplabv3": (deeplabv3, (3, 32, 32)),
    "r3d_18": (r3d_18, (3, 4, 16, 16)),
    "2-D U-Net": (lambda: monai_unet(2), (1, 32, 32)),
    "3-D U-Net": (lambda: monai_unet(3), (1, 16, 16, 16)),
}  # fmt: skip


def smooth(count: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    coarse = torch.randn(count, shape[0], *[4] * (len(shape) - 1), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=shape[1:], mode="bilinear" if len(shape) == 3 else "trilinear")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_named_network_is_compressed_saved_and_exported(name: str, tmp_path: Path) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    dense = make().eval()
    initialise(dense)
    images = smooth(8, shape)
    calibration = hscc.calibrate(dense, images.split(4), 1, probes=2)
    made = hscc.plan(dense, calibration, METHOD, hscc.Budget(macs=3, only=True))
    small, outputs = hscc.apply(dense, made), calibration.outputs
    assert (count_macs(small, shape), count_parameters(small)) == (made.macs, made.params)
    assert 3 * made.macs <= made.dense_macs == count_macs(dense, shape)

    hscc.save(small, tmp_path)
    again = hscc.load(tmp_path, dense)
    with torch.no_grad():
        wanted, answer = outputs.select(dense(images)), outputs.select(small(images))
        assert torch.equal(outputs.select(again(images)), answer)
    # Random weights behind 3x fewer MACs are no measure of fidelity, but nothing may blow up.
    assert answer.shape == wanted.shape and float((answer - wanted).norm()) < 2 * float(wanted.norm())
    write_onnx(small, tmp_path / "network.onnx", shape, output=outputs)  # which compares it with torch
