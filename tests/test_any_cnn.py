"""Any CNN: torchvision's own networks, and networks that do with their layers what libraries often forget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import hscc
from hscc.calibration.collect import fingerprint
from hscc.errors import CompressionError
from hscc.methods import Method
from hscc.networks.backbones import build, initialise
from hscc.networks.cost import count_macs, count_parameters

# Cheap structures where there are many wide layers: the search is tested elsewhere.
BACKBONES: dict[str, tuple[Method, int]] = {
    "alexnet": (hscc.HSCC(), 12),
    "mobilenet_v2": (hscc.HSCC(regions=1, clusters=(1, 4)), 12),
}
SHAPE = (3, 64, 64)


def thin_alexnet() -> nn.Module:
    """AlexNet with a third of the channels, and linear layers that are narrower still."""
    model = build("alexnet", 4)
    channels = 3
    for index, layer in enumerate(model.features):
        if isinstance(layer, nn.Conv2d):
            width = layer.out_channels // 3
            model.features[index] = nn.Conv2d(channels, width, layer.kernel_size, layer.stride, layer.padding)
            channels = width
    model.classifier[1], model.classifier[4], model.classifier[6] = (
        nn.Linear(36 * channels, 256),
        nn.Linear(256, 256),
        nn.Linear(256, 4),
    )
    return model


FEW = pytest.mark.filterwarnings("ignore:.*calibration images are few")


@dataclass(frozen=True)
class Case:
    """A backbone with what was made of it."""

    dense: nn.Module
    before: str
    images: torch.Tensor
    calibration: hscc.Calibration
    method: Method
    plan: hscc.Plan
    small: nn.Module


def smooth(count: int, rows: int = 64, columns: int = 64, seed: int = 0) -> torch.Tensor:
    coarse = torch.randn(count, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(rows, columns), mode="bicubic")


def difference(dense: nn.Module, small: nn.Module, images: torch.Tensor) -> float:
    """Largest change of a logit relative to the largest logit."""
    with torch.no_grad():
        expected, found = dense(images), small(images)
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module", params=list(BACKBONES))
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    method, count = BACKBONES[request.param]
    torch.manual_seed(0)
    dense = (thin_alexnet() if request.param == "alexnet" else build(request.param, 4)).eval()
    initialise(dense)
    before, images = fingerprint(dense), smooth(count)
    with pytest.warns(UserWarning, match="the smallest regions need"):
        calibration = hscc.calibrate(dense, images.split(5), cells=2)
    made = hscc.plan(dense, calibration, method, hscc.Budget(macs=2, only=True))
    yield Case(dense, before, images, calibration, method, made, hscc.apply(dense, made))


def test_the_real_modules_cost_what_the_plan_says(case: Case) -> None:
    macs, params = count_macs(case.small, SHAPE), count_parameters(case.small)
    assert (macs, params) == (case.plan.macs, case.plan.params)
    assert macs <= count_macs(case.dense, SHAPE) / 2
    assert 2 * macs >= 0.98 * count_macs(case.dense, SHAPE) or case.plan.bound
    report = hscc.cost(case.small, (1, *SHAPE))
    assert (report.macs, report.params) == (macs, params)


def test_it_runs_as_the_dense_network_does(case: Case) -> None:
    with torch.no_grad():
        for images in (case.images, case.images[:1], smooth(5, seed=1)):
            logits = case.small(images)
            assert logits.shape == case.dense(images).shape and logits.dtype == torch.float32
            assert torch.isfinite(logits).all()
    assert difference(case.dense, case.small, case.images) < 1
    assert not any(module.training for module in case.small.modules())


def test_a_generous_budget_changes_little_also_on_images_not_seen(case: Case) -> None:
    generous = hscc.plan(case.dense, case.calibration, case.method, hscc.Budget(macs=1.01, only=True))
    small = hscc.apply(case.dense, generous)
    assert generous.macs < generous.dense_macs
    assert difference(case.dense, small, case.images) < 1e-3
    # A dozen images say little about others, but what they do not say must not blow up.
    assert difference(case.dense, small, smooth(6, seed=1)) < 1
    assert difference(case.dense, small, smooth(2, 80, 96, seed=2)) < 2  # regions scale with the grid


def test_the_dense_network_is_left_as_it_was(case: Case) -> None:
    assert fingerprint(case.dense) == case.before
    assert all(p.requires_grad and p.grad is None for p in case.dense.parameters())
    assert not any(module._forward_hooks for module in case.dense.modules())


def test_every_layer_is_planned_or_has_its_reason_printed(case: Case) -> None:
    layers = {name for name, module in case.dense.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    dense = {entry.layer.name: entry.reason for entry in case.plan.layers if entry.structure.kind == "dense"}
    dense |= case.plan.left_dense
    assert {entry.layer.name for entry in case.plan.layers} | set(case.plan.left_dense) == layers
    lines = [line.split("│")[1:3] for line in str(case.plan).splitlines() if line.startswith("│")]
    names, structures = ("".join(column).replace(" ", "") for column in zip(*lines, strict=True))
    assert all(name in names for name in layers)
    assert all(reason and f"dense:{reason}".replace(" ", "") in structures for reason in dense.values())
    for name, module in case.dense.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            assert f"{module.groups} groups" in dense[name]


@FEW
def test_modes_are_kept_module_by_module() -> None:
    dense = build("smallcnn", 4).train()
    for module in dense[8:]:
        module.eval()  # frozen while the rest is trained
    calibration = hscc.calibrate(dense, [smooth(60)], cells=1)
    small = hscc.apply(dense, hscc.plan(dense, calibration, hscc.GlobalSVD(), hscc.Budget(macs=3, only=True)))
    modes = {name: module.training for name, module in small.named_modules()}
    assert all(modes[name] == module.training for name, module in dense.named_modules())
    assert modes["4.decoder"] and not modes["12.decoder"]


@FEW
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_the_device_is_kept() -> None:
    dense = build("smallcnn", 4).cuda()
    small = hscc.compress(dense, [smooth(60)], hscc.HSCC(), hscc.Budget(macs=3, only=True), cells=2)
    assert {tensor.device.type for tensor in small.state_dict().values()} == {"cuda"}
    assert torch.isfinite(small(smooth(2).cuda())).all()


class Unusual(nn.Module):
    """Plain layers and a way of its own to run the middle one, which costs a quarter of the whole."""

    def __init__(self, middle: nn.Module, run: Callable[[nn.Module, torch.Tensor], torch.Tensor], width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 40, 3, padding=1), nn.Conv2d(40, 16, 3, padding=1)
        self.middle, self.run, self.head, self.last = middle, run, nn.Linear(width, 40), nn.Linear(40, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.run(self, F.relu(self.second(F.relu(self.first(images)))))
        return self.last(F.relu(self.head(features)))


def conv() -> nn.Conv2d:
    return nn.Conv2d(16, 24, 3, padding=1)


def plainly(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(model.middle(x)).mean((2, 3))


def on_tokens(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(model.middle(x.flatten(2).transpose(1, 2))).mean(1)


def channels_last(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(model.middle(x.permute(0, 2, 3, 1))).mean((1, 2))


def on_rows(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(model.middle(x.permute(0, 2, 3, 1).reshape(-1, 16))).reshape(len(x), -1, 24).mean(1)


def on_halves(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    left, right = F.relu(model.middle(torch.cat(x.chunk(2, dim=3)))).mean((2, 3)).chunk(2)
    return left + right


def under_another_name(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(model.alias(x)).mean((2, 3))


def by_keyword(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(model.middle(input=x)).mean((2, 3))


def detached(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.relu(model.middle(x.detach())).mean((2, 3))


def for_nothing(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    model.middle(x)
    return torch.cat((x, x[:, :8]), 1).mean((2, 3))


def weight_read(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return plainly(model, x) + model.middle.weight.mean((1, 2, 3))


def aliased() -> Unusual:
    model = Unusual(conv(), under_another_name, 24)
    model.alias = model.middle
    return model


def tied() -> Unusual:
    model = Unusual(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3)), plainly, 16)
    model.middle[2].weight = model.middle[0].weight
    return model


def reused() -> Unusual:
    return Unusual(nn.Conv2d(16, 16, 3, padding=1), lambda m, x: F.relu(m.middle(m.middle(x))).mean((2, 3)), 16)


class Standardised(nn.Conv2d):
    """Not what its weight says."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(inputs, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


def hooked() -> Unusual:
    model = Unusual(conv(), plainly, 24)
    model.middle.register_forward_hook(lambda module, inputs, output: 3 * output)
    return model


def dead_channels() -> Unusual:
    model = Unusual(conv(), plainly, 24)
    nn.init.zeros_(model.second.weight[8:])
    nn.init.constant_(model.second.bias[8:], -1)
    return model


def zero_weight() -> Unusual:
    middle = conv()
    nn.init.zeros_(middle.weight)  # as a residual branch starts that ends in a BatchNorm of gamma 0
    return Unusual(middle, plainly, 24)


UNUSUAL: dict[str, Callable[[], nn.Module]] = {
    "linear on tokens": lambda: Unusual(nn.Linear(16, 24), on_tokens, 24),
    "linear on channels-last": lambda: Unusual(nn.Linear(16, 24), channels_last, 24),
    "linear on rows": lambda: Unusual(nn.Linear(16, 24), on_rows, 24),
    "conv on a doubled batch": lambda: Unusual(conv(), on_halves, 24),
    "conv by keyword": lambda: Unusual(conv(), by_keyword, 24),
    "conv run for nothing": lambda: Unusual(conv(), for_nothing, 24),
    "conv behind detach": lambda: Unusual(conv(), detached, 24),
    "conv whose weight is read": lambda: Unusual(conv(), weight_read, 24),
    "conv subclass": lambda: Unusual(Standardised(16, 24, 3), plainly, 24),
    "weight norm": lambda: Unusual(parametrizations.weight_norm(conv()), plainly, 24),
    "in place on the input": lambda: nn.Sequential(nn.ReLU(inplace=True), Unusual(conv(), plainly, 24)),
    **{made.__name__: made for made in (aliased, tied, reused, hooked, dead_channels, zero_weight)},
}

# Factors cannot stand for these, or what they would cost is not what a plan can count.
STAY_DENSE = {"linear on tokens", "linear on rows", "conv on a doubled batch"}
STAY_DENSE |= {"conv run for nothing", "conv whose weight is read", "conv subclass"}
STAY_DENSE |= {"weight norm", "tied", "reused", "hooked"}


UNSEARCHED = hscc.HSCC(regions=(1, 2), clusters=1, rank_multiple=1, projection=None)  # the search is tested elsewhere


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_network_is_compressed_where_it_can_be(name: str) -> None:
    torch.manual_seed(0)
    dense, images = UNUSUAL[name]().eval(), smooth(100, 16, 16)
    given = images.clone()
    calibration = hscc.calibrate(dense, [images], cells=1)
    for budget in (hscc.Budget(macs=1.05), hscc.Budget(params=1.05)):
        made = hscc.plan(dense, calibration, UNSEARCHED, budget)
        small = hscc.apply(dense, made)
        assert torch.equal(images, given)
        kept = [why for layer, why in made.left_dense.items() if "middle" in layer and "nothing to gain" not in why]
        assert bool(kept) == (name in STAY_DENSE)
        assert difference(dense, small, images.clone()) < 0.2
        assert (count_macs(small, (3, 16, 16)), count_parameters(small)) == (made.macs, made.params)
        assert made.macs <= made.dense_macs / (budget.macs or 1e-9)
        assert made.params <= made.dense_params / (budget.params or 1e-9)


def test_a_linear_layer_on_channels_last_maps_has_regions_and_is_refitted() -> None:
    torch.manual_seed(0)
    dense, images = Unusual(nn.Linear(16, 24), channels_last, 24).eval(), smooth(100, 16, 16)
    calibration = hscc.calibrate(dense, [images], cells=2)
    method = hscc.HSCC(regions=2, clusters=1, rank_multiple=1, projection=None)
    small = hscc.apply(dense, hscc.plan(dense, calibration, method, hscc.Budget(macs=2, only=True)))
    (entry,) = (entry for entry in small.hscc_plan.layers if entry.layer.name == "middle")
    assert (entry.layer.kind, entry.layer.grid) == ("conv", (16, 16)) and entry.structure.region_count == 4
    result = hscc.refit(small, dense, calibration, [images])
    assert result.after <= result.before and "middle" in {found.layer for found in result.layers}
    assert torch.isfinite(result.network(smooth(2, 20, 18))).all()


def test_a_pruned_network_is_told_what_to_do() -> None:
    dense = Unusual(prune.l1_unstructured(conv(), "weight", 0.5), plainly, 24)
    with pytest.raises(CompressionError, match=r"prune\.remove"):
        hscc.compress(dense, [smooth(100, 16, 16)], hscc.HSCC(), hscc.Budget(macs=1.5, only=True), cells=1)


def test_a_layer_with_most_of_the_weights_counts_however_few_its_macs() -> None:
    wide = nn.Sequential(nn.Linear(32, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 4))
    features = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    dense = nn.Sequential(*features, *wide)
    method = hscc.HSCC(regions=1, clusters=1, projection=None)
    small = hscc.compress(dense, [smooth(8, 112, 112)], method, hscc.Budget(params=4, only=True), cells=1, refit=False)
    assert count_parameters(small) <= count_parameters(dense) / 4
