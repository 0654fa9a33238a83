"""Batch normalisations folded away: same outputs where it is safe, untouched where it is not."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from hscc.networks.backbones import build
from hscc.networks.folding import fold_batch_norms, foldable

FEATURES = 4


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every normalisation statistics, scales and shifts of its own."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor in (module.running_var, module.weight):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.running_mean, module.bias):
                if tensor is not None:
                    tensor.data.normal_(0, 0.3, generator=generator)
    return model


def assert_same(model: nn.Module, folded: nn.Module, images: torch.Tensor, tolerance: float) -> None:
    with torch.no_grad():
        want, got = model.eval()(images), folded.eval()(images)
    assert float((got - want).norm()) <= tolerance * float(want.norm())


def conv(**settings: Any) -> nn.Conv2d:
    return nn.Conv2d(FEATURES, FEATURES, 3, padding=1, **settings)


def norm(**settings: Any) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(FEATURES, **settings)


def pair() -> nn.Sequential:
    return nn.Sequential(conv(), norm())


class Wired(nn.Module):
    """A convolution and its normalisation, wired by a function of (network, image)."""

    def __init__(self, wiring: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.norm, self.wiring = conv(), norm(), wiring

    def forward(self, x: torch.Tensor) -> Any:
        return self.wiring(self, x)


@pytest.mark.parametrize("axes", [1, 3])
def test_signals_and_volumes_too(axes: int) -> None:
    torch.manual_seed(0)
    layer, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv3d, nn.BatchNorm3d))[axes // 2]
    model = randomise(nn.Sequential(layer(2, FEATURES, 3), norm(FEATURES), nn.ReLU(), layer(FEATURES, 2, 1), norm(2)))
    folded = fold_batch_norms(model.eval())
    assert foldable(model) == {"0": "1", "3": "4"} and foldable(folded) == {}
    assert_same(model, folded, torch.randn(3, 2, *[6] * axes), 1e-5)


@pytest.mark.parametrize(("name", "pairs"), [("resnet18", 20), ("mobilenet_v2", 52), ("densenet121", 59)])
def test_backbones_compute_the_same(name: str, pairs: int) -> None:
    torch.manual_seed(0)
    model = randomise(build(name, 4)).eval()
    folded = fold_batch_norms(model)
    assert len(foldable(model)) == pairs
    assert_same(model, folded, torch.randn(2, 3, 64, 64), 1e-4)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert left == sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) - pairs


def test_densenet_folds_behind_and_not_before_a_convolution() -> None:
    found = foldable(build("densenet121", 4))
    assert found["features.conv0"] == "features.norm0"
    assert found["features.denseblock1.denselayer1.conv1"] == "features.denseblock1.denselayer1.norm2"
    assert "features.denseblock1.denselayer1.norm1" not in found.values()


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    affine=st.booleans(),
    mode=st.sampled_from(["zeros", "reflect"]),
    seed=st.integers(0, 99),
)
def test_any_pair_in_double_precision(
    kernel: int, stride: int, groups: int, bias: bool, affine: bool, mode: str, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = nn.Conv2d(4, 8, kernel, stride, padding=1, groups=groups, bias=bias, padding_mode=mode)
    flat = nn.Sequential(nn.Flatten(), nn.LazyLinear(5, bias=bias), nn.BatchNorm1d(5, affine=affine, eps=0.1))
    model = nn.Sequential(layer, nn.BatchNorm2d(8, affine=affine), nn.ReLU(), flat).double()
    images = torch.randn(3, 4, 7, 6, dtype=torch.float64)
    model.eval()(images)
    randomise(model, seed)
    assert foldable(model) == {"0": "1", "3.1": "3.2"}
    assert_same(model, fold_batch_norms(model), images, 1e-10)


def test_formula() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.5))
    values = {
        "0.weight": 3.0,
        "0.bias": 1.0,
        "1.weight": 2.0,
        "1.bias": 5.0,
        "1.running_mean": 4.0,
        "1.running_var": 3.5,
    }
    with torch.no_grad():
        for name, value in values.items():
            model.state_dict()[name].fill_(value)
    folded = fold_batch_norms(model)
    assert folded[0].weight.item() == pytest.approx(3 * 2 / 2)
    assert folded[0].bias.item() == pytest.approx((1 - 4) * 2 / 2 + 5)


@pytest.mark.parametrize("training", [True, False])
def test_the_given_network_is_left_as_it_was(training: bool) -> None:
    model = randomise(build("resnet18", 4)).train(training)
    before = copy.deepcopy(model.state_dict())
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    folded = fold_batch_norms(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert attributes == {name: set(vars(module)) for name, module in model.named_modules()}
    assert all(module.training is training for module in (*model.modules(), *folded.modules()))
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in folded.parameters()}


def test_modes_and_gradient_flags_are_kept() -> None:
    model = nn.Sequential(pair(), nn.Sequential(conv(bias=False), norm()), nn.Sequential(conv(), norm()))
    model[0][1].eval()
    model[1].requires_grad_(False)
    model[2][0].bias.requires_grad_(False)
    folded = fold_batch_norms(model)
    assert isinstance(folded[0][1], nn.Identity) and not folded[0][1].training and folded[1][1].training
    flags = [(block[0].weight.requires_grad, block[0].bias.requires_grad) for block in folded]
    assert flags == [(True, True), (False, False), (True, False)]


@pytest.mark.parametrize(("of_norm", "wanted"), [(True, True), (False, False)])
def test_a_new_bias_is_trained_as_the_shift_was(of_norm: bool, wanted: bool) -> None:
    model = nn.Sequential(conv(bias=False), norm())
    model[1].requires_grad_(of_norm)
    assert fold_batch_norms(model)[0].bias.requires_grad is wanted
    assert fold_batch_norms(nn.Sequential(conv(bias=False), norm(affine=False)))[0].bias.requires_grad is True


def test_dtype_and_device_are_kept() -> None:
    folded = fold_batch_norms(nn.Sequential(conv(bias=False), norm()).to(torch.bfloat16))
    assert {tensor.dtype for tensor in folded.state_dict().values()} == {torch.bfloat16}
    with torch.device("meta"):
        model = pair()
    assert all(tensor.is_meta for tensor in fold_batch_norms(model).state_dict().values())


def test_a_chain_of_linear_layers_folds() -> None:
    layers = (
        nn.Linear(6, 5),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(5, 3, bias=False),
        nn.BatchNorm1d(3),
    )
    model = randomise(nn.Sequential(*layers))
    assert foldable(model) == {"0": "1", "4": "5"}
    assert_same(model, fold_batch_norms(model), torch.randn(4, 6), 1e-5)


@pytest.mark.parametrize(
    ("flatten", "folds"),
    [
        (lambda x: torch.flatten(x, 1), True),
        (lambda x: x.flatten(start_dim=1), True),
        (lambda x: x.view(x.size(0), -1), True),
        (lambda x: x.flatten(2), False),
        (lambda x: x.flatten(0, 1).mean(2), False),
    ],
)
def test_a_linear_layer_folds_where_its_input_is_flat(flatten: Callable[[Any], Any], folds: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.linear(flatten(x)))

    assert bool(foldable(Net())) is folds


def test_a_third_axis_is_not_folded() -> None:
    # (N, 4, 4): the linear layer writes the last axis, the normalisation reads the second, and both have length 4.
    model = randomise(nn.Sequential(nn.Flatten(2), nn.Linear(4, 4), nn.BatchNorm1d(4)))
    assert fold_batch_norms(model) is model


WIRINGS: dict[str, tuple[Callable[[Any, torch.Tensor], Any], bool]] = {
    "plain": (lambda m, x: m.norm(m.conv(x)), True),
    "by keyword": (lambda m, x: m.norm(input=m.conv(input=x)), True),
    "skip around both": (lambda m, x: m.norm(m.conv(x)) + x, True),
    "output used elsewhere": (lambda m, x: (lambda y: m.norm(y) + y)(m.conv(x)), False),
    "output returned": (lambda m, x: (lambda y: (m.norm(y), y))(m.conv(x)), False),
    "shape of the output read": (lambda m, x: (lambda y: m.norm(y) * y.size(1))(m.conv(x)), False),
    "activation between": (lambda m, x: m.norm(torch.relu(m.conv(x))), False),
    "normalised before": (lambda m, x: m.conv(torch.relu(m.norm(x))), False),
    "directly before": (lambda m, x: m.conv(m.norm(x)), False),
    "convolution reused": (lambda m, x: m.norm(m.conv(m.conv(x))), False),
    "normalisation reused": (lambda m, x: m.norm(torch.relu(m.norm(m.conv(x)))), False),
    "both reused": (lambda m, x: m.norm(m.conv(m.norm(m.conv(x)))), False),
    "weight read": (lambda m, x: m.norm(m.conv(x)) * m.conv.weight.mean(), False),
    "weight returned": (lambda m, x: (m.norm(m.conv(x)), m.conv.weight), False),
    "shift read": (lambda m, x: m.norm(m.conv(x)) + m.norm.bias.view(-1, 1, 1), False),
    "statistics read": (lambda m, x: m.norm(m.conv(x)) + m.norm.running_mean[0] * x, False),
    "method of the same name": (lambda m, x: m.norm(x) + m.conv(x).norm(), False),
    "convolution read whole": (lambda m, x: m.norm(m.conv(x)) + F.conv2d(x, m.conv.weight, padding=1), False),
    "own constant": (lambda m, x: m.norm(m.conv(x)) * torch.tensor(2.0), True),
    "branches on values": (lambda m, x: m.norm(m.conv(x)) if x.sum() > 0 else m.conv(x), False),
    "reads a value": (lambda m, x: m.norm(m.conv(x)) * float(m.conv.weight[0, 0, 0, 0]), False),
    "fails by itself": (lambda m, x: m.missing(x), False),
}


@pytest.mark.parametrize("case", WIRINGS)
def test_wirings(case: str) -> None:
    wiring, folds = WIRINGS[case]
    model = randomise(Wired(wiring))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folded = fold_batch_norms(model)
    assert foldable(model) == ({"conv": "norm"} if folds else {})
    assert (folded is model) is not folds
    if folds:
        assert_same(model, folded, torch.randn(2, FEATURES, 5, 5), 1e-5)


def switched_off() -> nn.Module:
    model = pair()
    model[1].track_running_stats = False
    return model


def tied_weights() -> nn.Module:
    model = nn.Sequential(pair(), conv())
    model[1].weight = model[0][0].weight
    return model


def tied_shift() -> nn.Module:
    model = pair()
    model[0].bias = model[1].bias
    return model


def shared_names() -> nn.Module:
    model = Wired(lambda m, x: m.norm(m.conv(x)))
    model.again = model.conv
    return model


def shared_parent() -> nn.Module:
    model = nn.Sequential(pair())
    model.again = nn.ModuleDict({"pair": model[0]})
    return model


def hooked(index: int, method: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = pair()
        getattr(model[index], method)(lambda *_: None)
        return model

    return make


def hooked_parent() -> nn.Module:
    model = nn.Sequential(nn.Sequential(conv()), norm())
    model[0].register_forward_hook(lambda *_: pytest.fail("a hook ran on a symbolic value"))
    return model


def replaced_forward(index: int | None) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = pair()
        (model if index is None else model[index]).forward = lambda x: x
        return model

    return make


class Double(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * 2


def parametrized(index: int) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = pair()
        parametrize.register_parametrization(model[index], "weight", Double())
        return model

    return make


class Odd(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).abs()


UNSAFE: dict[str, Callable[[], nn.Module]] = {
    "no running statistics": lambda: nn.Sequential(conv(), norm(track_running_stats=False)),
    "running statistics switched off": switched_off,
    "tied weights": tied_weights,
    "tied shift": tied_shift,
    "two names": shared_names,
    "a parent with two names": shared_parent,
    "hook on the layer": hooked(0, "register_forward_hook"),
    "pre-hook on the layer": hooked(0, "register_forward_pre_hook"),
    "hook on the normalisation": hooked(1, "register_forward_hook"),
    "pre-hook on the normalisation": hooked(1, "register_forward_pre_hook"),
    "backward hook": hooked(0, "register_full_backward_hook"),
    "hook on a parent": hooked_parent,
    "another forward on the network": replaced_forward(None),
    "another forward on the layer": replaced_forward(0),
    "another forward on the normalisation": replaced_forward(1),
    "parametrized layer": parametrized(0),
    "parametrized normalisation": parametrized(1),
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(conv()), norm()),
    "a layer of another kind": lambda: nn.Sequential(nn.ConvTranspose2d(FEATURES, FEATURES, 3), norm()),
    "a subclass": lambda: nn.Sequential(Odd(FEATURES, FEATURES, 3), norm()),
    "another normalisation": lambda: nn.Sequential(conv(), nn.InstanceNorm2d(FEATURES, track_running_stats=True)),
    "no normalisation": lambda: nn.Sequential(conv(), nn.ReLU()),
    "not yet shaped": lambda: nn.Sequential(nn.LazyConv2d(FEATURES, 3), norm()),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_what_is_not_safe_is_not_folded(case: str) -> None:
    model = UNSAFE[case]()
    assert foldable(model) == {}
    assert fold_batch_norms(model) is model


def test_only_the_safe_pairs_fold() -> None:
    model = randomise(nn.Sequential(pair(), nn.Sequential(conv(), norm(track_running_stats=False)), pair()))
    folded = fold_batch_norms(model)
    assert foldable(model) == {"0.0": "0.1", "2.0": "2.1"}
    assert isinstance(folded[1][1], nn.BatchNorm2d)
    assert_same(model, folded, torch.randn(2, FEATURES, 5, 5), 1e-5)


def test_a_hook_on_the_network_stays() -> None:
    model, seen = pair(), []
    model.register_forward_hook(lambda *_: seen.append(1))
    folded = fold_batch_norms(model)
    assert isinstance(folded[1], nn.Identity) and not seen
    folded(torch.randn(1, FEATURES, 5, 5))
    assert seen == [1]


def test_tracing_leaves_nothing_behind() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.runs = pair(), nn.Buffer(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.runs += 1
            self.last = x
            return self.block(x) + torch.ones(1)

    model = randomise(Remembers())
    names = set(vars(model))
    folded = fold_batch_norms(model)
    assert set(vars(model)) == names and float(model.runs) == 0
    assert_same(model, folded, torch.randn(1, FEATURES, 5, 5), 1e-5)


@pytest.mark.parametrize("given", [False, True])
def test_an_optional_argument_is_taken_as_not_given(given: bool) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv(), norm()

        def forward(self, x: torch.Tensor, scale: torch.Tensor | None = None, *, features: bool = False) -> Any:
            y = self.conv(x)
            if features or (scale is not None) is given:
                return self.norm(torch.relu(y))
            return self.norm(y)

    assert foldable(Branching()) == ({"conv": "norm"} if given else {})


def test_names_of_modules_arguments_and_methods_do_not_mix() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv(), norm()

        def forward(self, conv: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(conv))

    assert foldable(Named()) == {}


class Listed(nn.Module):
    """Layers that a plain list holds beside their names, and runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.steps = [self.conv, self.norm, torch.relu]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            x = step(x)
        return x


def test_what_a_list_holds_too_is_left_as_it_is() -> None:
    network = randomise(Listed()).eval()
    assert foldable(network) == {}
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(fold_batch_norms(network)(x), network(x))
