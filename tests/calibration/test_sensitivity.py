"""Sensitivities: exact where outputs are few, unbiased by random directions where they are many, for every task."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.calibration.collect import Calibration, calibrate
from hscc.calibration.storage import load_calibration, save_calibration
from hscc.errors import CompressionError
from hscc.outputs import Outputs

pytestmark = pytest.mark.filterwarnings("ignore:.*calibration images are few")
KINDS = ["classes", "independent", "values"]


def network(outputs: int, maps: bool, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    head: list[nn.Module] = [nn.Conv2d(3, outputs, 1)]
    if not maps:
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, outputs)]
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), *head).double().eval()


def pictures(count: int, rows: int = 6, columns: int = 5) -> torch.Tensor:
    return torch.randn(count, 2, rows, columns, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def first_layer(calibration: Calibration) -> torch.Tensor:
    return calibration.moments["0"].sensitivity[0]


def by_jacobian(model: nn.Sequential, images: torch.Tensor, outputs: Outputs) -> torch.Tensor:
    """Sum over images and positions of g g^T, averaged over the answer's positions, from the definition."""
    total = torch.zeros(3, 3, dtype=torch.float64)
    for image in images:
        hidden = model[0](image[None]).detach()
        jacobian = torch.autograd.functional.jacobian(lambda y: outputs.centred(model[1:](y)), hidden)
        positions = jacobian[0, 0].numel() // hidden.numel()
        rows = jacobian.reshape(-1, 3, hidden[0, 0].numel())
        total += torch.einsum("kcp,kdp->cd", rows, rows) / positions
    return total


@given(st.integers(2, 4), st.booleans(), st.sampled_from(KINDS), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_the_mean_over_directions_is_the_exact_second_moment(
    outputs: int, maps: bool, kind: str, count: int, seed: int
) -> None:
    model, images = network(outputs, maps, seed), pictures(count)
    what = Outputs(kind, scale=tuple(range(1, outputs + 1)) if kind == "values" else ())  # type: ignore[arg-type]
    exact = first_layer(calibrate(model, [images], 1, what, probes=48))
    torch.testing.assert_close(exact, by_jacobian(model, images, what))
    probes = 400 if maps and outputs * 12 > 400 else min(400, outputs * (12 if maps else 1) - 1)
    # Of independent samples of the same mean: their second moments spread by sqrt(2) times the trace at most.
    samples = [first_layer(calibrate(model, [images], 1, what, probes, seed=s)) for s in range(max(1, 200 // probes))]
    error = (sum(samples) / len(samples) - exact).norm()
    assert float(error) <= 4 * (2 / (probes * len(samples))) ** 0.5 * float(exact.trace()) + 1e-12


def test_the_error_falls_with_the_root_of_the_number_of_directions() -> None:
    model, images = network(5, maps=True), pictures(2)
    exact = first_layer(calibrate(model, [images], 1, probes=60))

    def squared_error(probes: int) -> float:
        found = [first_layer(calibrate(model, [images], 1, probes=probes, seed=seed)) for seed in range(12)]
        return sum(float((one - exact).square().sum()) for one in found) / len(found)

    assert 4 < squared_error(2) / squared_error(16) < 16  # 8 in expectation


def test_directions_depend_on_the_seed_and_on_the_image_but_not_on_its_batch() -> None:
    model, images = network(5, maps=True), pictures(7)
    whole = calibrate(model, [images], 1, probes=3)
    parts = calibrate(model, images.split(2), 1, probes=3)
    other = calibrate(model, [images], 1, probes=3, seed=1)
    torch.testing.assert_close(first_layer(whole), first_layer(parts))
    assert torch.equal(first_layer(whole), first_layer(calibrate(model, [images], 1, probes=3)))
    assert not torch.allclose(first_layer(whole), first_layer(other))
    twice = calibrate(model, [images[:1].repeat(2, 1, 1, 1)], 1, probes=3)
    once = calibrate(model, [images[:1]], 1, probes=3)
    assert not torch.allclose(first_layer(twice), 2 * first_layer(once))  # each image has directions of its own


@pytest.mark.parametrize("maps", [False, True])
def test_many_outputs_cost_no_more_than_the_probes(maps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, grad = [], torch.autograd.grad

    def counted(*args, **kwargs):
        passes.append(1)
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    calibrate(network(300, maps), [pictures(4)], 1, probes=5)
    assert len(passes) == 5 + 2  # two find out which layers are reached, and which give the answer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("maps", [False, True])
def test_a_last_layer_that_gives_the_answer_is_exact(kind: str, maps: bool) -> None:
    what = Outputs(kind, scale=(1.0, 2.0, 3.0, 4.0, 5.0) if kind == "values" else ())  # type: ignore[arg-type]
    model, images = network(5, maps), pictures(3)
    exact, few = (calibrate(model, [images], 2, what, probes).moments for probes in (60, 1))
    head = "2" if maps else "4"
    torch.testing.assert_close(few[head].sensitivity, exact[head].sensitivity)
    assert not torch.allclose(few["0"].sensitivity, exact["0"].sensitivity)


def test_the_size_of_a_map_does_not_change_the_scale() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.Tanh(), nn.Conv2d(3, 4, 1)).double()
    colour = torch.tensor([0.5, -1.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    small, large = (
        first_layer(calibrate(model, [colour + 1e-6 * pictures(1, size, size)], 1, probes=256)) for size in (4, 8)
    )
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-9)  # the loss of a map is the mean over its positions


class Scaled(nn.Module):
    def __init__(self, inner: nn.Module, units: torch.Tensor) -> None:
        super().__init__()
        self.inner, self.units = inner, units

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images) * self.units


@pytest.mark.parametrize("probes", [2, 8])
def test_the_units_of_values_do_not_matter(probes: int) -> None:
    images, units = pictures(6), torch.tensor([1.0, 1e3, 1e-3, 5.0], dtype=torch.float64)
    plain = calibrate(network(4, maps=False), [images], 1, Outputs("values"), probes)
    scaled = calibrate(Scaled(network(4, maps=False), units), iter(images.split(4)), 1, Outputs("values"), probes)
    torch.testing.assert_close(scaled.moments["inner.0"].sensitivity[0], first_layer(plain))
    answers = network(4, maps=False)(images)
    torch.testing.assert_close(torch.tensor(plain.outputs.scale), answers.std(0, correction=0).float())


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.side, self.head = nn.Conv2d(2, 6, 3), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, image: torch.Tensor, record: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = torch.tanh(self.conv(image)).mean((2, 3)) + torch.tanh(self.side(record))
        return {"logits": self.head(hidden), "features": hidden}


def test_several_inputs_are_given_by_position_or_keyword() -> None:
    torch.manual_seed(0)
    model, images, records = TwoInputs().double(), pictures(9), pictures(9)[:, 0, 0, :4]
    by_position = calibrate(model, [(images[:5], records[:5]), [images[5:], records[5:]]], 1)
    by_keyword = calibrate(model, [{"record": records, "image": images}], 1)
    assert by_position.input_shape == ((2, 6, 5), (4,))
    assert by_keyword.input_shape == {"record": (4,), "image": (2, 6, 5)}
    assert by_position.images == by_keyword.images == 9
    for name in ("conv", "side", "head"):
        one, other = by_position.moments[name], by_keyword.moments[name]
        torch.testing.assert_close(one.sensitivity, other.sensitivity)
        torch.testing.assert_close(one.total, other.total)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (lambda x, y: (x, y), "without labels"),  # labels as a second input
        (lambda x, y: {"picture": x}, "cannot run"),
        (lambda x, y: (x, y[:-1]), "without labels"),
        (lambda x, y: {}, "float tensors"),
    ],
)
def test_inputs_that_do_not_fit_are_named(batch: Callable, message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        calibrate(network(3, maps=False), [batch(pictures(4), torch.zeros(4))], 1)


def test_a_tuple_of_one_is_its_tensor() -> None:
    assert calibrate(network(3, maps=False), [(pictures(4),)], 1).input_shape == (2, 6, 5)


def test_outputs_that_are_not_finite_or_settings_out_of_range_are_named() -> None:
    model = network(3, maps=False)
    with torch.no_grad():
        model[-1].bias[0] = torch.inf
    with pytest.raises(CompressionError, match="NaN or infinity"):
        calibrate(model, [pictures(4)], 1)
    with pytest.raises(CompressionError, match="probes=0"):
        calibrate(network(3, maps=False), [pictures(4)], 1, probes=0)
    with pytest.raises(CompressionError, match=r"hscc\.Outputs"):
        calibrate(network(3, maps=False), [pictures(4)], 1, "values")  # type: ignore[arg-type]


def test_the_file_remembers_what_counts_and_old_files_are_of_classes(tmp_path) -> None:
    torch.manual_seed(0)
    batch = {"image": pictures(6), "record": pictures(6)[:, 0, 0, :4]}
    calibration = calibrate(TwoInputs().double(), [batch], 1, Outputs("values", entry="features"))
    path = tmp_path / "m.safetensors"
    save_calibration(calibration, path)
    loaded = load_calibration(path)
    assert (loaded.outputs, loaded.input_shape) == (calibration.outputs, calibration.input_shape)
    with safetensors.safe_open(path, framework="pt") as file:
        header = {**file.metadata(), "input_shape": json.dumps([2, 6, 5])}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["outputs"]
    safetensors.torch.save_file(tensors, path, header)
    assert load_calibration(path).outputs == Outputs("classes")
    assert load_calibration(path).input_shape == (2, 6, 5)
