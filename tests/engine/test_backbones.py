from __future__ import annotations

import pytest
import torch

from hscc.networks.torchvision_operators import install_hook
from tests import test_named_networks as thin
from tests.engine.running import assert_traced, kinds, randomise

install_hook()
models = pytest.importorskip("torchvision.models")

NAMES = [
    "alexnet", "vgg11_bn", "resnet18", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1",
    "shufflenet_v2_x0_5", "efficientnet_b0", "convnext_tiny", "googlenet",
]  # fmt: skip
# The same wiring with fewer blocks.
FEWER = {
    "densenet121": thin.densenet121,
    "efficientnet_b0": thin.efficientnet_b0,
    "convnext_tiny": thin.convnext_tiny,
    "mobilenet_v3_small": thin.mobilenet_v3_small,
    "shufflenet_v2_x0_5": thin.shufflenet_v2,
}


@pytest.mark.parametrize("name", NAMES)
def test_backbones(name: str) -> None:
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    made = FEWER[name]() if name in FEWER else getattr(models, name)(weights=None, num_classes=5, **options)
    network = randomise(made)
    if name == "convnext_tiny":
        for parameter in network.parameters():
            if parameter.shape[1:] == (1, 1):  # a layer's scale: 1e-6 as made
                torch.nn.init.constant_(parameter, 0.5)
    if name in ("alexnet", "vgg11_bn"):  # fewer of the 30 and 120 million weights there
        first = 1 if name == "alexnet" else 0
        inputs = network.classifier[first].in_features
        network.classifier = torch.nn.Sequential(torch.nn.Linear(inputs, 32), torch.nn.ReLU(), torch.nn.Linear(32, 5))
    size = 32 if name in ("mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0") else 64
    program = assert_traced(network, (3, size, size), batch=2)
    expected = {"resnet18": {"Convolution", "Pool", "AdaptivePool", "Linear"}, "mobilenet_v2": {
        "Convolution", "AdaptivePool", "Linear"}}  # fmt: skip
    assert set(kinds(program)) <= expected.get(name, set(kinds(program)))
