from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hscc
from hscc.engine.export import _check, _check_rounded
from hscc.engine.library import available
from hscc.engine.program_file import load_program
from hscc.engine.reference import run_program
from hscc.errors import ExportError
from hscc.export.card import DeploymentCard
from hscc.export.preprocessing import Preprocessing
from tests.tiny import tiny_images, tiny_network


def test_a_compressed_network_in_one_file(tmp_path: Path) -> None:
    small = hscc.compress(tiny_network(), [tiny_images()], hscc.HSCC(), hscc.Budget(macs=2.5, only=True))
    card = DeploymentCard(("a", "b", "c", "d"), protocol="grouped")
    done = hscc.export_engine(small, tmp_path / "small.hscc", card=card, images=tiny_images(4))
    assert done.path.stat().st_size == done.size and done.difference < 1e-5
    assert done.checked_by == ("engine" if available() else "reference")
    found = load_program(done.path).card
    assert json.loads(str(found["classes"])) == ["a", "b", "c", "d"]
    assert found["protocol"] == "grouped" and "hscc" in str(found["method"])
    assert found["inputs"][0]["shape"] == [3, 18, 18]  # type: ignore[index]
    assert found["preprocessing"]["size"] == [18, 18]  # type: ignore[index]


@pytest.mark.parametrize(("weights", "part"), [("float16", 0.55), ("bfloat16", 0.55)])
def test_narrow_weights_take_half_the_room(tmp_path: Path, weights: str, part: float) -> None:
    sizes = [
        hscc.export_engine(tiny_network(), tmp_path / name, input_shape=(3, 18, 18), weights=name).size  # type: ignore[arg-type]
        for name in ("float32", weights)
    ]
    assert sizes[1] < part * sizes[0]


def test_preprocessing_is_written_down(tmp_path: Path) -> None:
    done = hscc.export_engine(
        tiny_network(), tmp_path / "a.hscc", Preprocessing((18, 18), grey=False), input_shape=(3, 18, 18)
    )
    card = load_program(done.path).card
    assert card["preprocessing"]["grey"] is False and "classes" not in card  # type: ignore[index]


def test_mistakes_are_named_and_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.hscc"
    path.write_bytes(b"old")
    for options, match in (
        ({}, "input_shape"), ({"input_shape": (4, 18, 18)}, "cannot run"), ({"input_shape": (3, 0, 18)}, "input_shape"),
        ({"input_shape": (3, 18, 18), "weights": "int3"}, "int3"),
        ({"input_shape": (3, 18, 18), "tolerance": 0.0, "weights": "bfloat16"}, "differs"),
    ):  # fmt: skip
        with pytest.raises(ExportError, match=match):
            hscc.export_engine(tiny_network(), path, **options)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="portable ONNX"):
        hscc.export_engine(nn.Sequential(nn.LogSoftmax(1)), path, input_shape=(3, 2, 2))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_network_that_behaves_otherwise_when_it_is_run_again(tmp_path: Path) -> None:
    class Counting(nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            type(self).calls += 1
            return x * type(self).calls

    with pytest.raises(ExportError, match="differs"):
        hscc.export_engine(Counting(), tmp_path / "a.hscc", input_shape=(3, 2, 2))


def test_int8(tmp_path: Path) -> None:
    network = tiny_network()
    batches = [tiny_images(8), tiny_images(8)]
    done = hscc.export_engine(network, tmp_path / "a.hscc", input_shape=(3, 18, 18), precision="int8", images=batches)
    whole = hscc.export_engine(network, tmp_path / "b.hscc", input_shape=(3, 18, 18))
    assert done.divergence is not None and done.divergence.kl is not None and done.divergence.kl < 1e-3
    assert whole.divergence is None and done.size < whole.size and done.difference <= 1e-4
    assert any(kind.startswith("Quantised") for kind in done.operations)
    with torch.no_grad():
        wanted = network.eval()(batches[0])
    (found,) = run_program(load_program(done.path), [batches[0]])
    assert float((found.flatten(1) - wanted).abs().mean() / wanted.abs().mean()) < 0.1


def test_int8_needs_images(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="images"):
        hscc.export_engine(tiny_network(), tmp_path / "a.hscc", input_shape=(3, 18, 18), precision="int8")
    with pytest.raises(ExportError, match="int5"):
        hscc.export_engine(tiny_network(), tmp_path / "a.hscc", input_shape=(3, 18, 18), precision="int5")  # type: ignore[arg-type]


def test_int8_of_two_inputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.first(x).relu() + self.second(y)

    pairs = [(torch.randn(4, 4, 6, 6), torch.randn(4, 4, 6, 6)) for _ in range(2)]
    for images in (pairs, pairs[0]):
        done = hscc.export_engine(
            Two(), tmp_path / "a.hscc", input_shape=[(4, 6, 6), (4, 6, 6)], precision="int8", images=images
        )
        assert done.operations == {"QuantisedConvolution": 2} and done.divergence is not None
        assert done.divergence.kl is None and done.divergence.mean < 0.02


def test_a_tie_in_one_image_is_no_defect_and_a_difference_in_most_is_one(tmp_path: Path) -> None:
    rounded = [[np.ones((4, 3), np.float32)], [np.ones((3, 3), np.float32)]]
    exact = [[part + np.float32(0.05) for part in outputs] for outputs in rounded]  # what 8 bits change
    one = [[part.copy() for part in outputs] for outputs in rounded]
    one[0][0][1, 2] += 0.04
    assert _check_rounded(tmp_path, one, rounded, exact, 1e-3) == pytest.approx(0.04, rel=1e-3)
    with pytest.raises(ExportError):
        _check(tmp_path, one, rounded, 1e-4)  # in float32 nothing is rounded
    one[0][0][1, 2] += 0.02  # further than 8 bits take any output
    with pytest.raises(ExportError):
        _check_rounded(tmp_path, one, rounded, exact, 1e-3)
    most = [[part + np.float32(0.01) for part in outputs] for outputs in rounded]
    with pytest.raises(ExportError):
        _check_rounded(tmp_path, most, rounded, exact, 1e-3)
    with pytest.raises(ExportError):
        _check_rounded(tmp_path, [[part * np.nan for part in outputs] for outputs in rounded], rounded, exact, 1e-3)


def test_ties_all_over_a_map_are_no_defect_where_rounding_moves_it_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rounded = [[rng.normal(size=(2, 2, 1, 30, 30)).astype(np.float32)]]
    exact = [[rounded[0][0] + rng.normal(size=rounded[0][0].shape).astype(np.float32) * 0.2]]
    ties = rng.normal(size=rounded[0][0].shape).astype(np.float32) * (rng.random(rounded[0][0].shape) < 0.3)
    assert _check_rounded(tmp_path, [[rounded[0][0] + 0.1 * ties]], rounded, exact, 1e-3) > 1e-3
    with pytest.raises(ExportError):
        _check_rounded(tmp_path, [[rounded[0][0] + 0.5 * ties]], rounded, exact, 1e-3)
