"""Networks nobody has, made by hypothesis: every promise holds for them too."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.api import apply, compress, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import calibrate
from hscc.errors import BudgetError, CompressionError
from hscc.methods import HSCC, METHODS
from hscc.networks.cost import count_macs, count_parameters
from hscc.plans import Plan

SHAPE = (3, 13, 11)
pytestmark = pytest.mark.filterwarnings("ignore:.*calibration images are few")

layers = st.lists(
    st.fixed_dictionaries(
        {
            "outputs": st.sampled_from([4, 6, 8, 12]),
            "kernel": st.sampled_from([1, 3, (3, 1), (1, 5), 2]),
            "stride": st.sampled_from([1, 1, 2]),
            "padding": st.sampled_from([0, 1, "same"]),
            "dilation": st.sampled_from([1, 1, 2]),
            "bias": st.booleans(),
            "mode": st.sampled_from(["zeros", "zeros", "reflect", "circular", "replicate"]),
            "kind": st.sampled_from(["plain", "plain", "residual", "branch", "depthwise", "twice"]),
            "norm": st.sampled_from(["none", "after", "before"]),
        }
    ),
    min_size=1,
    max_size=3,
)


class Stage(nn.Module):
    """A convolution of some geometry in some wiring."""

    def __init__(self, inputs: int, spec: dict) -> None:
        super().__init__()
        self.kind = spec["kind"]
        width = spec["outputs"]
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        padding, stride = spec["padding"], spec["stride"]
        if padding == "same":
            stride = 1
        groups = width if self.kind == "depthwise" else 1
        self.conv = nn.Conv2d(
            width, width, spec["kernel"], stride, padding, spec["dilation"], groups, spec["bias"], spec["mode"]
        )  # fmt: skip
        self.side = nn.Conv2d(width, 3, 1)
        self.before = nn.BatchNorm2d(width) if spec["norm"] == "before" else nn.Identity()
        self.after = nn.BatchNorm2d(width) if spec["norm"] == "after" else nn.Identity()
        self.outputs = width + 3 if self.kind == "branch" else width

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.before(torch.relu(self.first(inputs)))
        found = self.after(self.conv(hidden))
        if self.kind == "twice" and min(found.shape[2:]) > 5:
            found = self.after(self.conv(found))
        if self.kind == "residual" and found.shape == hidden.shape:
            found = found + hidden
        found = torch.relu(found)
        return torch.cat((found, self.side(found)), dim=1) if self.kind == "branch" else found


class Network(nn.Module):
    """Stages and a head that flattens a feature map or pools it away."""

    def __init__(self, specs: list[dict], flat: bool) -> None:
        super().__init__()
        width, stages = 3, []
        for spec in specs:
            stages.append(Stage(width, spec))
            width = stages[-1].outputs
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(2 if flat else 1)
        self.head = nn.Linear(width * (4 if flat else 1), 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.stages(inputs)).flatten(1))


def _make(specs: list[dict], flat: bool, seed: int) -> nn.Module | None:
    torch.manual_seed(seed)
    model = Network(specs, flat).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean)
    try:
        model.eval()(torch.zeros(1, *SHAPE, dtype=torch.float64))
    except RuntimeError:  # the image has become smaller than the kernel or its reflected border
        return None
    return model


def _images(count: int = 24) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    layers, st.booleans(), st.sampled_from(sorted(METHODS)), st.floats(1.1, 4), st.sampled_from("mpb"), st.booleans()
)
def test_every_promise_holds(specs, flat: bool, name: str, ratio: float, which: str, frozen: bool) -> None:
    model = _make(specs, flat, 0)
    if model is None:
        return
    model.requires_grad_(not frozen)
    before = copy.deepcopy(model.state_dict())
    budget = {"m": Budget(ratio), "p": Budget(params=ratio), "b": Budget(ratio, ratio)}[which]
    calibration = calibrate(model, _images().split(10), cells=2)
    try:
        made = plan(model, calibration, METHODS[name], budget)
    except BudgetError:
        return
    small = apply(model, made)
    assert (count_macs(small, SHAPE), count_parameters(small)) == (made.macs, made.params)
    for resource, limit in budget.limits({"macs": made.dense_macs, "params": made.dense_params}).items():
        assert getattr(made, resource) <= limit
    with torch.no_grad():
        assert torch.isfinite(small(_images(3))).all()
    again = apply(model, Plan.from_json(made.to_json()), calibration).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in small.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad is not frozen for p in model.parameters())


@settings(max_examples=20, deadline=None)
@given(layers, st.booleans(), st.sampled_from([(1, 1), (2, 2), (2, 1)]))
def test_without_pressure_the_network_is_the_same(specs, flat: bool, regions: tuple[int, int]) -> None:
    model = _make(specs, flat, 1)
    if model is None:
        return
    calibration = calibrate(model, [_images(80)], cells=2)
    made = plan(model, calibration, HSCC(regions=regions, clusters=1, rank_multiple=1), Budget(1.0001, only=True))
    with torch.no_grad():
        expected, found = model(_images(4)), apply(model, made)(_images(4))
    lost = expected - found
    lost = lost - lost.mean(dim=1, keepdim=True)  # sensitivities are of centred logits: a common shift counts nothing
    assert float(lost.norm()) <= 0.2 * float(expected.norm()) + 1e-9


def _plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([torch.zeros(4, 3, 9, 9, dtype=torch.int64)], "float tensors"),
        ([(torch.randn(4, 3, 9, 9), torch.zeros(4))], "without labels"),
        ([torch.randn(4)], "shape"),
        ([torch.full((4, 3, 9, 9), float("nan"))], "NaN"),
        ([torch.ones(4, 3, 9, 9)], "constant"),
        ([], "no calibration image"),
        ([torch.randn(4, 3, 9, 9), torch.randn(4, 3, 10, 9)], "one input size"),
    ],
    ids=["labels", "pairs", "vectors", "nan", "constant", "none", "sizes"],
)
def test_bad_images_are_named(batches, message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        compress(_plain(), batches, HSCC(), Budget(2))


def test_too_few_images_are_counted() -> None:
    model = nn.Sequential(nn.Conv2d(16, 8, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    with pytest.warns(UserWarning, match="3 calibration images are few .* need 100"):
        calibrate(model, [torch.randn(3, 16, 8, 8)], cells=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibration = calibrate(model, [torch.randn(100, 16, 8, 8)], cells=4)
    moments = calibration.moments["0"]
    assert int(moments.count.min()) == calibration.layers[0].features == 400


class Decided(nn.Module):
    """Gives the most likely class of every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.conv(inputs).argmax(1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "nothing to compress"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "nothing to compress"),
        (Decided(), "before they are decided"),
    ],
    ids=["depthwise", "no layer", "decided"],
)
def test_a_network_that_cannot_be_compressed_is_named(model: nn.Module, message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        calibrate(model, [torch.randn(4, 3, 9, 9)])
