"""Moments: what is summed, that batches do not matter, and what is refused."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hscc.api import compress
from hscc.budgets.budget import Budget
from hscc.calibration import moments as moments_module
from hscc.calibration.collect import calibrate
from hscc.calibration.layers import CONVOLUTIONS, Layer, find_layers, output_window, pad, spans, unfold
from hscc.calibration.moments import region_moments, sampled_box
from hscc.calibration.storage import load_calibration, save_calibration
from hscc.errors import ArtifactError, CompressionError
from hscc.methods import GlobalSVD
from tests.tiny import tiny_images, tiny_network


def test_one_batch_or_many_give_the_same_moments() -> None:
    network, images = tiny_network(), tiny_images()
    whole, parts = calibrate(network, [images]), calibrate(network, images.split(7))
    for name, moments in whole.moments.items():
        other = parts.moments[name]
        assert torch.equal(moments.count, other.count)
        torch.testing.assert_close(moments.total, other.total)
        torch.testing.assert_close(moments.sensitivity, other.sensitivity)
        if moments.second is not None:
            torch.testing.assert_close(moments.second, other.second)
        else:
            assert moments.sketch is not None and other.sketch is not None
            torch.testing.assert_close(moments.sketch.T @ moments.sketch, other.sketch.T @ other.sketch)


def test_second_moment_is_that_of_the_patches() -> None:
    network, images = tiny_network(), tiny_images(8)
    calibration = calibrate(network, [images], cells=4)
    layer = calibration.layers[0]
    patches = unfold(layer, pad(layer, images), (0, layer.grid[0], 0, layer.grid[1]))
    region = region_moments(calibration.moments[layer.name], range(16), calibration.images)
    assert region.positions == layer.positions
    torch.testing.assert_close(region.mean, patches.mean(0))
    assert region.covariance is not None
    torch.testing.assert_close(region.covariance, torch.cov(patches.T, correction=0))


def test_patches_times_weight_are_the_layers_output() -> None:
    network, images = tiny_network(), tiny_images(4)
    layer = calibrate(network, [images]).layers[0]
    conv = network[0]
    patches = unfold(layer, pad(layer, images), (0, layer.grid[0], 0, layer.grid[1]))
    flat = patches @ conv.weight.reshape(layer.outputs, -1).T + conv.bias
    torch.testing.assert_close(flat.reshape(4, *layer.grid, -1).permute(0, 3, 1, 2), conv(images))


@st.composite
def patches(draw: st.DrawFn) -> tuple[nn.Module, torch.Tensor, Layer]:
    """Draw a convolution of one, two or three dimensions with an input and its geometry."""
    axes = draw(st.integers(1, 3))
    torch.manual_seed(draw(st.integers(0, 99)))
    conv = CONVOLUTIONS[axes](
        2, 3, draw(st.tuples(*[st.integers(1, 3)] * axes)), draw(st.integers(1, 2)),
        draw(st.tuples(*[st.integers(0, 1)] * axes)), draw(st.integers(1, 2)),
        padding_mode=draw(st.sampled_from(["zeros", "replicate"])),
    ).double()  # fmt: skip
    images = torch.randn(draw(st.integers(1, 3)), 2, *draw(st.tuples(*[st.integers(5, 8)] * axes)), dtype=torch.float64)
    return conv, images, find_layers(nn.Sequential(conv), tuple(images.shape[1:]))[0][0]


@settings(max_examples=60, deadline=None)
@given(patches(), st.data())
def test_patches_of_a_box_times_weight_are_its_output(case: tuple[nn.Module, torch.Tensor, Layer], data) -> None:
    conv, images, layer = case
    sides = [data.draw(st.tuples(st.integers(0, size - 1), st.integers(1, size))) for size in layer.grid]
    box = tuple(edge for first, end in sides for edge in (first, max(end, first + 1)))
    steps = data.draw(st.tuples(*[st.integers(1, 3)] * layer.axes))
    with torch.no_grad():
        expected = output_window(conv(images), box, steps).movedim(1, -1).reshape(-1, layer.outputs)
        found = unfold(layer, pad(layer, images), box, steps) @ conv.weight.flatten(1).T + conv.bias
    torch.testing.assert_close(found, expected)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(7, 20)), min_size=1, max_size=3), st.data())
def test_samples_of_successive_images_reach_every_position_once(sides: list[tuple[int, int]], data) -> None:
    box = tuple(edge for first, size in sides for edge in (first, first + size))
    steps = data.draw(st.tuples(*[st.sampled_from([1, 3, 5])] * len(sides)))
    seen = np.zeros([first + size for first, size in sides], dtype=int)
    for image in range(math.prod(steps)):
        chosen = spans(sampled_box(box, steps, image))
        seen[tuple(slice(first, end, step) for (first, end), step in zip(chosen, steps, strict=True))] += 1
    inside = tuple(slice(*span) for span in spans(box))
    assert (seen[inside] == 1).all() and seen.sum() == seen[inside].size


def test_sampled_moments_stand_for_all_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(2, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 3))
    network = network.double().eval()
    level = torch.randn(12, 2, 1, 1, 1, dtype=torch.float64)
    uniform = level.expand(-1, -1, 9, 9, 9)  # all patches of an image are the same: which are taken does not matter
    texture = uniform + 0.3 * torch.randn(12, 2, 9, 9, 9, dtype=torch.float64)
    whole = [calibrate(network, [images], cells=2).moments["0"] for images in (uniform, texture)]
    monkeypatch.setattr(moments_module, "_MOST_PRODUCTS", 7**3 * 54**2 / 5)
    sampled = [calibrate(network, images.split(5), cells=2).moments["0"] for images in (uniform, texture)]
    for full, part, tolerance in zip(whole, sampled, (1e-9, 0.3), strict=True):
        assert torch.equal(full.count, part.count)
        torch.testing.assert_close(full.sensitivity, part.sensitivity)
        assert full.second is not None and part.second is not None
        assert float((full.second - part.second).norm()) <= tolerance * float(full.second.norm())
        assert float((full.total - part.total).norm()) <= tolerance * float(full.total.norm())
    assert not torch.allclose(whole[1].second, sampled[1].second)  # type: ignore[arg-type]
    again = calibrate(network, [texture], cells=2).moments["0"]
    torch.testing.assert_close(again.second, sampled[1].second)  # whatever the batches


def test_sketch_gives_the_covariance_of_a_linear_layer() -> None:
    network, images = tiny_network(), tiny_images(20)
    calibration = calibrate(network, images.split(5))
    layer = next(layer for layer in calibration.layers if layer.kind == "linear")
    inputs = network[:8](images)
    region = region_moments(calibration.moments[layer.name], [0], calibration.images)
    assert region.root is not None
    torch.testing.assert_close(region.root.T @ region.root, torch.cov(inputs.T, correction=0))


def test_sensitivity_is_that_of_the_centred_logits() -> None:
    network, images = tiny_network(), tiny_images(6)
    layer = next(layer for layer in calibrate(network, [images]).layers if layer.name == "8")
    expected = torch.zeros(layer.outputs, layer.outputs, dtype=torch.float64)
    hidden = network[:8](images).detach()
    outputs = network[8](hidden).detach().requires_grad_(True)
    logits = network[10](F.relu(outputs))
    for index in range(4):
        (gradient,) = torch.autograd.grad(logits[:, index].sum() - logits.mean(1).sum(), outputs, retain_graph=True)
        expected += gradient.T @ gradient
    found = calibrate(network, [images]).moments[layer.name].sensitivity[0]
    torch.testing.assert_close(found, expected)


def test_model_is_left_as_it_was() -> None:
    network, images = tiny_network().train(), tiny_images(4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    calibrate(network, [images])
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_round_trip_on_disk(tmp_path) -> None:
    calibration = calibrate(tiny_network(), [tiny_images(6)])
    save_calibration(calibration, tmp_path / "m.safetensors")
    loaded = load_calibration(tmp_path / "m.safetensors")
    assert loaded.layers == calibration.layers
    assert (loaded.cells, loaded.images, loaded.input_shape) == (4, 6, (3, 18, 18))
    for name, moments in calibration.moments.items():
        for part in ("count", "total", "second", "sketch", "sensitivity"):
            one, other = getattr(moments, part), getattr(loaded.moments[name], part)
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, msg=f"{name}.{part}")


def test_damaged_file_is_named(tmp_path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(ArtifactError, match=r"m\.safetensors.*hscc calibrate"):
        load_calibration(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "no calibration image"),
        ([torch.zeros(4, dtype=torch.int64)], "without labels"),
        ([torch.full((2, 3, 18, 18), float("nan"), dtype=torch.float64)], "NaN"),
        ([torch.zeros(2, 3, 18, 18, dtype=torch.float64), torch.zeros(2, 3, 20, 20, dtype=torch.float64)], "one input"),
    ],
)
def test_bad_images_are_refused(batches: list[torch.Tensor], message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        calibrate(tiny_network(), batches)


def test_network_without_layers_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Flatten())
    with pytest.raises(CompressionError, match="nothing to compress"):
        calibrate(model, [torch.zeros(1, 4, 8, 8)])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(2, 20), st.sampled_from([1, 2, 3, 4, 8]))
def test_cells_are_two_positions_wide(axes: int, side: int, cells: int) -> None:
    side = side if axes < 3 else min(side, 9)
    conv = CONVOLUTIONS[axes](2, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(4 * side**axes, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that images are few
        moments = calibrate(model, [torch.randn(3, 2, *[side] * axes)], cells).moments["0"]
    halvings = [cells >> times for times in range(cells.bit_length())]
    assert moments.cells == next(number for number in halvings if number == 1 or side >= 2 * number)


class Masked(nn.Module):
    """A mask, which may be left out, between a convolution and its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)
        self.norm.running_mean.fill_(-0.7)

    def forward(self, image: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        x = self.conv(image)
        return self.head(torch.relu(self.norm(x if mask is None else x * mask)).mean((2, 3)))


def test_an_optional_input_that_leads_past_what_was_folded_is_refused() -> None:
    torch.manual_seed(0)
    images, masks = torch.randn(8, 3, 6, 6), (torch.rand(8, 1, 4, 4) > 0.5).float()
    calibrate(Masked(), [images])
    with pytest.raises(CompressionError, match="path"):
        calibrate(Masked(), [{"image": images, "mask": masks}])


class TimeFirst(nn.Module):
    """An answer whose first dimension is time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean(2).permute(2, 0, 1)


def test_an_answer_without_the_images_first_is_refused() -> None:
    with pytest.raises(CompressionError, match="first dimension"):
        calibrate(TimeFirst(), [torch.randn(6, 3, 6, 6)])


class Reading(nn.Module):
    """A forward that reads a layer's size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 16, 3), nn.Linear(16 * 16, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.conv(x)).reshape(-1, self.linear.in_features))


def test_a_forward_may_read_the_geometry_of_what_was_replaced() -> None:
    torch.manual_seed(0)
    images = torch.randn(32, 3, 6, 6)
    small = compress(Reading().eval(), [images], GlobalSVD(), Budget(macs=2, only=True), cells=1, refit=False)
    assert not isinstance(small.linear, nn.Linear)
    assert small(images).shape == (32, 12)
