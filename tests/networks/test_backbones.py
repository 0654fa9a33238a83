"""Backbones by name, the round trip on disk, counting, and ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from hscc.errors import ArtifactError, ParamsError
from hscc.export.to_onnx import write_onnx
from hscc.networks.backbones import BACKBONES, build, initialise, load_imagenet
from hscc.networks.cost import count_macs, count_parameters
from hscc.networks.storage import ModelCard, load_dense, save_dense

CARD = ModelCard("smallcnn", ("a", "b", "c", "d"), 32, "grouped", 3)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_has_the_asked_outputs(name: str) -> None:
    with torch.device("meta"):
        model = build(name, 4)
    last = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    assert last.weight.shape[0] == 4


def test_unknown_backbone_names_the_known() -> None:
    with pytest.raises(ParamsError, match="alexnet"):
        build("alexnot", 4)


def test_alexnet_macs_are_the_published_ones() -> None:
    # 655,566,528 in the convolutions at 224 x 224 (torchvision's single-tower variant) and 54.5 M in the classifier.
    model = build("alexnet", 4)
    convolutions = 64 * 363 * 3025 + 192 * 1600 * 729 + 384 * 1728 * 169 + 256 * 3456 * 169 + 256 * 2304 * 169
    assert count_macs(model, (3, 224, 224)) == convolutions + 9216 * 4096 + 4096 * 4096 + 4096 * 4


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, layer)) == 12


def test_he_initialisation_keeps_the_scale() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU())
    initialise(model)
    assert 0.5 < float(model(torch.randn(50, 400)).square().mean()) < 2


def test_imagenet_weights_are_optional() -> None:
    with pytest.warns(UserWarning, match="from scratch"):
        assert load_imagenet(build("smallcnn", 4), "smallcnn") is False


def test_imagenet_weights_come_with_a_package() -> None:
    torch.manual_seed(0)
    model = build("efficientnet_lite0", 7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert load_imagenet(model, "efficientnet_lite0")
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert {"classifier.weight", "classifier.bias"} <= same  # another number of classes
    assert not [name for name in same if name.endswith("conv.weight") or "conv_p" in name]
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_dense_network_round_trip(tmp_path: Path) -> None:
    model = build("smallcnn", 4).eval()
    save_dense(model, CARD, tmp_path / "m.safetensors")
    loaded, card = load_dense(tmp_path / "m.safetensors")
    images = torch.randn(2, 3, 32, 32)
    assert card == CARD
    assert torch.equal(loaded(images), model(images))


@pytest.mark.parametrize("content", [None, b"\x80\x04garbage"])
def test_what_is_no_network_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"m\.safetensors"):
        load_dense(path)


def test_onnx_has_a_dynamic_batch_and_tells_nothing_of_this_machine(tmp_path: Path) -> None:
    model = build("smallcnn", 4).eval()
    path = tmp_path / "m.onnx"
    write_onnx(model, path, (3, 32, 32))
    session = onnxruntime.InferenceSession(str(path))
    for count in (1, 5):
        images = torch.randn(count, 3, 32, 32)
        (logits,) = session.run(["logits"], {"image": images.numpy()})
        np.testing.assert_allclose(logits, model(images).detach().numpy(), atol=1e-4)
    assert b"/hscc/" not in path.read_bytes() and str(Path.cwd()).encode() not in path.read_bytes()
    onnx.checker.check_model(onnx.load(path))
