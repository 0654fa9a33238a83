"""The graph of the preprocessing gives Pillow's bytes; the torch module's tests have the same cases."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hscc.errors import ExportError
from hscc.export.preprocessing import Preprocess, Preprocessing, preprocess
from hscc.export.preprocessing_graph import preprocessing_graph
from tests.export.conftest import as_batch
from tests.export.graph.exported import opened
from tests.export.test_preprocessing import SHAPES


@cache
def session(preprocessing: Preprocessing, opset: int = 20) -> onnxruntime.InferenceSession:
    graph = preprocessing_graph(preprocessing, opset, "image", "prepared")
    onnx.checker.check_model(graph, full_check=True)
    return opened(graph)


def run(preprocessing: Preprocessing, pictures: np.ndarray, opset: int = 20) -> torch.Tensor:
    return torch.from_numpy(session(preprocessing, opset).run(["prepared"], {"image": pictures})[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [24, 7, (20, 31), (40, 9)], ids=str)
@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_it_gives_pillows_bytes(shape: tuple[int, int], size: int | tuple[int, int], grey: bool, channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8)
    preprocessing = Preprocessing(size, grey=grey)
    found, expected = run(preprocessing, as_batch(picture, 2)), preprocessing.prepare(picture)
    assert torch.equal(found, expected.expand(2, -1, -1, -1))


def test_one_channel_gets_one_grey_level() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (31, 40, 3), dtype=np.uint8)
    preprocessing = Preprocessing((20, 28), mean=(0.5,), std=(0.25,))
    assert torch.equal(run(preprocessing, picture[None]), preprocessing.prepare(picture))


def test_every_colour_becomes_pillows_grey() -> None:
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)[: 364**2].reshape(1, 364, 364, 3)
    preprocessing = Preprocessing(364)  # no resizing: the grey levels come through as they are
    assert torch.equal(run(preprocessing, colours), Preprocess(preprocessing)(torch.from_numpy(colours)))


@pytest.mark.parametrize("opset", [13, 18])
def test_other_versions_of_the_operators(opset: int) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (31, 40, 3), dtype=np.uint8)
    assert torch.equal(run(Preprocessing(24), picture[None], opset), Preprocessing(24).prepare(picture))


@pytest.mark.parametrize(("mean", "std"), [((0.2,), (0.3,)), ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))])
def test_volumes_of_the_networks_size_are_normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    volumes = np.random.default_rng(4).integers(0, 256, (2, 4, 6, 5), dtype=np.uint8)
    preprocessing = Preprocessing((4, 6, 5), mean, std)
    expected = torch.cat([preprocessing.prepare(volume) for volume in volumes])
    assert expected.shape == (2, len(mean), 4, 6, 5)
    torch.testing.assert_close(run(preprocessing, volumes), expected)
    torch.testing.assert_close(preprocess(preprocessing)(torch.from_numpy(volumes)), expected)
    with pytest.raises(ExportError, match="not \\(4, 6, 6\\)"):
        preprocessing.prepare(np.zeros((4, 6, 6), dtype=np.uint8))
