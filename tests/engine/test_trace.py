from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hscc.engine.program import Convolution
from hscc.engine.trace import trace
from hscc.errors import ExportError
from tests.engine.running import assert_traced, kinds, randomise


class Function(nn.Module):
    def __init__(self, function: Callable[..., object], *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.function(*self.parts, *inputs)


ACTIVATIONS = [
    nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.25), nn.LeakyReLU(0.2), nn.Sigmoid(), nn.Hardsigmoid(), nn.Hardswish(),
    nn.SiLU(), nn.GELU(), nn.GELU("tanh"), nn.Tanh(), nn.ELU(0.7), nn.SELU(), nn.CELU(0.5), nn.PReLU(), nn.PReLU(6),
    nn.ReLU(inplace=True), nn.Hardswish(inplace=True),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations_move_into_the_convolution(activation: nn.Module) -> None:
    if isinstance(activation, nn.PReLU):
        nn.init.uniform_(activation.weight, -0.5, 0.5)
    program = assert_traced(nn.Sequential(nn.Conv2d(3, 6, 3), activation), (3, 9, 8))
    if not isinstance(activation, nn.PReLU | nn.SELU | nn.CELU) and "tanh'" not in str(activation):
        assert kinds(program) == ["Convolution"]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    rank = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    inputs, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    per_axis = st.tuples(*[st.integers(1, 3)] * rank)
    kernel, stride, dilation = draw(per_axis), draw(per_axis), draw(st.tuples(*[st.integers(1, 2)] * rank))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, far - 1)) for far in reach)
    sizes = tuple(far + draw(st.integers(0, 4)) for far in reach)
    name = f"Conv{'Transpose' if transposed else ''}{rank}d"
    options = {}
    if transposed:
        highest = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        options["output_padding"] = tuple(draw(st.integers(0, high)) for high in highest)
    torch.manual_seed(draw(st.integers(0, 99)))
    module = getattr(nn, name)(
        inputs, outputs, kernel, stride, padding, dilation=dilation, groups=groups, bias=draw(st.booleans()), **options
    )
    return module, (inputs, *sizes)


@given(convolutions())
@settings(max_examples=25, deadline=None)
def test_any_convolution(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    assert kinds(assert_traced(*case)) == ["Convolution"]


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 5, (4, 3), padding="same", dilation=(1, 2)), nn.Conv2d(4, 4, 3, groups=4, padding=1),
        nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2, 1, dilation=2),
        nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AvgPool2d(2, 2, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.AdaptiveAvgPool2d((2, 3)), nn.AdaptiveMaxPool2d(1),
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=1.7), nn.Upsample(size=(5, 17)),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample(scale_factor=1.3, mode="bilinear"),
        nn.Upsample(size=(13, 4), mode="bilinear", align_corners=True), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.LayerNorm((4, 7, 9), elementwise_affine=False),
        nn.BatchNorm2d(4), nn.ZeroPad2d((1, 2, 3, 0)), nn.ConstantPad2d((1, -2, 0, 1), 0.5), nn.ChannelShuffle(2),
        nn.Softmax(1), nn.Flatten(), nn.Dropout(0.5), nn.Identity(),
    ],
    ids=str,
)  # fmt: skip
def test_modules(module: nn.Module) -> None:
    torch.manual_seed(0)
    assert_traced(randomise(nn.Sequential(nn.Conv2d(4, 4, 1), module)), (4, 7, 9))
    assert_traced(module, (4, 7, 9))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2 + 1, lambda x: 1 - x, lambda x: -x / 3, lambda x: x * x, lambda x: x**2 + x,
        lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), lambda x: x + x.mean(1, keepdim=True),
        lambda x: x.amax((2, 3)), lambda x: x.sum((2, 3)), lambda x: x.mean((2, 3)).softmax(-1),
        lambda x: x[:, 1:3], lambda x: x[:, ::2, 1:-1, ::2], lambda x: x[:, [2, 0, 1]], lambda x: x[:, 2],
        lambda x: torch.cat([x, x[:, :2]], 1), lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
        lambda x: torch.cat([x, x.relu()], 1).view(-1, 2, 4, 6, 5).transpose(1, 2).reshape(-1, 8, 6, 5),
        lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2), lambda x: x.flatten(2).mean(2),
        lambda x: torch.maximum(x, x.flip(1)), lambda x: x.clamp(min=0.1), lambda x: x.clamp(max=0.1),
        lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), lambda x: x.unsqueeze(2).squeeze(2) - x.mean((2, 3), keepdim=True),
        lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 6, 5) + x, lambda x: (x, x.relu(), x),
        lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1), lambda x: x - x.mean((2, 3), keepdim=True) * 2,
        lambda x: x.repeat(1, 2, 1, 1), lambda x: torch.stack([x[:, 0], x[:, 3]], 1), lambda x: x.view(-1, 8, 3, 5),
        lambda x: x / x.sigmoid(), lambda x: (x.mean((2, 3), keepdim=True) - x) * 2,
    ],
)  # fmt: skip
def test_expressions(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert_traced(Function(function), (4, 6, 5))
    assert_traced(Function(lambda conv, x: function(conv(x)), nn.Conv2d(4, 4, 1)), (4, 6, 5))


def test_writing_in_place_to_what_is_read_afterwards() -> None:
    def forward(conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = conv(x)
        part = y[:, :2]
        part.relu_()
        y += 1
        return y + part.mean((2, 3), keepdim=True).mean(1, keepdim=True)

    assert_traced(Function(forward, nn.Conv2d(3, 4, 3)), (3, 6, 6))


def test_batch_norm_and_residual_and_activation_are_one_operation() -> None:
    def forward(a: nn.Module, b: nn.Module, bn: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = a(x)
        return (bn(b(x)) + x).relu()

    network = Function(forward, nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    assert kinds(assert_traced(randomise(network), (3, 6, 6))) == ["Convolution", "Convolution"]


def test_factors_in_sequence_are_one_operation() -> None:
    network = nn.Sequential(
        nn.Conv2d(12, 6, 1, bias=False), nn.Conv2d(6, 8, 3, 2, 1, groups=2), nn.Conv2d(8, 16, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 9, 5, bias=False), nn.Linear(5, 7),
    )  # fmt: skip
    program = assert_traced(network, (12, 6, 6))
    assert kinds(program) == ["Convolution", "Linear"]
    convolution = program.operations[0]
    assert isinstance(convolution, Convolution)
    assert convolution.projection is not None and convolution.groups == 2
    assert convolution.regions[0].decoder is not None


def test_scale_and_shift_before_a_convolution() -> None:
    inside = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))
    assert kinds(assert_traced(randomise(inside), (3, 6, 6))) == ["Convolution"]
    padded = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1))  # its shift is not seen by the padding
    assert kinds(assert_traced(randomise(padded), (3, 6, 6))) == ["Affine", "Convolution"]


def test_channels_last_blocks() -> None:
    def forward(depthwise: nn.Module, norm: nn.Module, up: nn.Module, down: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = depthwise(x).permute(0, 2, 3, 1)
        return x + down(F.gelu(up(norm(y)))).permute(0, 3, 1, 2) * 0.5

    network = Function(
        forward, nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(8, 4)
    )
    assert kinds(assert_traced(network, (4, 5, 6))) == ["Convolution", "Norm", "Convolution", "Convolution"]


def test_one_dimension() -> None:
    network = nn.Sequential(
        nn.Conv1d(3, 8, 5, 2, 2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(8, 8, 3, groups=8, padding=1), nn.Upsample(scale_factor=2, mode="linear"),
        nn.ConvTranspose1d(8, 4, 4, 2, 1), nn.AdaptiveAvgPool1d(3), nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6),
        nn.Tanh(), nn.Linear(6, 2),
    )  # fmt: skip
    assert_traced(randomise(network), (3, 40))


def u_net(rank: int, transposed: bool) -> nn.Module:
    conv, pool, norm = (getattr(nn, f"{name}{rank}d") for name in ("Conv", "MaxPool", "InstanceNorm"))

    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            conv(inputs, outputs, 3, padding=1), norm(outputs, affine=True), nn.LeakyReLU(0.1, inplace=True)
        )

    mode = "bilinear" if rank == 2 else "trilinear"
    up = getattr(nn, f"ConvTranspose{rank}d")(8, 4, 2, 2) if transposed else nn.Upsample(scale_factor=2, mode=mode)

    def forward(first: nn.Module, down: nn.Module, up: nn.Module, last: nn.Module, head: nn.Module, x):  # type: ignore
        x = first(x)
        return head(last(torch.cat([up(down(x)), x], 1)))

    joined = 8 if transposed else 12
    return Function(
        forward, block(2, 4), nn.Sequential(pool(2), block(4, 8)), up, block(joined, 4), conv(4, 3, 1)
    )  # fmt: skip


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_u_net(rank: int, transposed: bool) -> None:
    torch.manual_seed(0)
    assert_traced(u_net(rank, transposed), (2, *[8, 6, 4][:rank]))


def test_several_inputs_and_a_dictionary_of_outputs() -> None:
    def forward(conv: nn.Module, image: torch.Tensor, features: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = conv(image).mean((2, 3))
        return {"joined": torch.cat([pooled, features], 1), "pooled": pooled}

    program = assert_traced(Function(forward, nn.Conv2d(3, 4, 3)), (3, 6, 6), (5,))
    assert [entry["shape"] for entry in program.card["inputs"]] == [[3, 6, 6], [5]]  # type: ignore[attr-defined]
    assert [entry["name"] for entry in program.card["outputs"]] == ["joined", "pooled"]  # type: ignore[attr-defined]


def test_all_that_is_missing_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log_softmax(x.erf(), 1)

    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.Sequential(Odd()), nn.Flatten())
    with pytest.raises(ExportError, match="portable ONNX") as error:
        trace(network, [(3, 6, 6)])
    for part in ("reflect", "log_softmax", "erf", "1.0"):
        assert part in str(error.value)


def _written_into_zeros(x: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(x.shape)
    out[:, 1:] = x[:, :-1]
    return out


@pytest.mark.parametrize(
    "network",
    [
        Function(lambda x: torch.cat([x, x], 0)),
        Function(lambda x: x @ x.transpose(2, 3)),
        Function(lambda x: x.mean(0, keepdim=True)),
        Function(lambda x: x.transpose(2, 3)),
        Function(lambda x: torch.zeros(2, 3)),
        Function(lambda x: x * torch.arange(30.0).view(6, 5)),
        Function(lambda x: x.view(-1, 2, 6, 5).relu().mean((2, 3))),
        Function(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)),
        Function(_written_into_zeros),
        Function(lambda x: torch.stack([x, torch.ones(1, 4, 6, 5).expand(len(x), -1, -1, -1)], 1)),
        Function(lambda x: F.dropout(x, 0.5)),
        Function(lambda x: (x * 255).to(torch.uint8).float()),
    ],
)
def test_what_the_engine_cannot_do_is_refused(network: nn.Module) -> None:
    with pytest.raises(ExportError, match="does not support"):
        trace(network, [(4, 6, 5)])


@pytest.mark.parametrize("scale", [1.7, 0.7, 2.3])
def test_resizing_by_a_scale_that_single_precision_does_not_hold(scale: float) -> None:
    assert_traced(nn.Upsample(scale_factor=scale), (2, 11, 23))


def test_a_transposed_convolution_whose_padding_cuts_beyond_the_kernel() -> None:
    assert_traced(nn.ConvTranspose2d(4, 4, 1, padding=1), (4, 6, 5))


def test_a_network_that_cannot_be_traced() -> None:
    with pytest.raises(ExportError, match=r"torch\.export"):
        trace(Function(lambda x: x if x.sum() > 0 else -x), [(4, 6, 5)])


def test_the_network_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).double().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trace(network, [(3, 6, 6)])
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
