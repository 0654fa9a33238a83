"""Networks of one channel and of inputs that are not square leave torch as they are; what ships is what was timed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import hscc
from hscc.budgets import refinement
from hscc.errors import ExportError
from hscc.export.onnx_file import deploy_onnx, read_card
from hscc.export.to_onnx import to_onnx, write_onnx
from hscc.timing.runtimes import OnnxRuntime, Session
from tests.export.graph.exported import kinds
from tests.tiny import tiny_images, tiny_network


def network_of(channels: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(24 * 9, 4),
    )


@cache
def compressed(channels: int, rows: int, columns: int) -> nn.Module:
    model = network_of(channels)
    images = torch.rand(64, channels, rows, columns, generator=torch.Generator().manual_seed(1))
    method = hscc.HSCC(regions=(2, 1), clusters=1, projection=None)  # no search: it is tested elsewhere
    return hscc.compress(model, [images], method, hscc.Budget(macs=2, only=True), cells=2).eval()


def answers(path: Path, picture: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": picture[None]})
    return found


@pytest.mark.parametrize("shape", [(1, 20, 36), (3, 40, 24)], ids=str)
def test_shape_and_channels_come_from_the_calibration(shape: tuple[int, int, int], tmp_path: Path) -> None:
    small = compressed(*shape)
    hscc.save(small, tmp_path / "small")
    again = hscc.load(tmp_path / "small", network_of(shape[0]))
    path = tmp_path / "small.onnx"
    assert hscc.export_onnx(again, path) <= 1e-4
    if shape == (1, 20, 36):
        assert hscc.export_pt2(again, tmp_path / "small.pt2") <= 1e-4
    picture = np.random.default_rng(0).integers(0, 256, (*shape[1:], 1), dtype=np.uint8)
    levels = torch.from_numpy(picture).movedim(2, 0)[None].float() / 255
    if shape[0] == 3:
        statistics = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
        levels = (levels - statistics[0]) / statistics[1]
    with torch.no_grad():
        expected = torch.softmax(small(levels), 1).numpy()
    np.testing.assert_allclose(answers(path, picture), expected, atol=1e-5)
    assert f"{shape[1]} rows x {shape[2]} columns" in read_card(path)["preprocessing"]


def test_a_bare_file_of_one_channel_is_deployed_in_its_own_shape(tmp_path: Path) -> None:
    write_onnx(network_of(1), tmp_path / "bare.onnx", (1, 16, 28))
    card = hscc.DeploymentCard(("a", "b", "c", "d"))
    assert deploy_onnx(tmp_path / "bare.onnx", tmp_path / "whole.onnx", card) <= 1e-4


@pytest.mark.parametrize("export", [hscc.export_onnx, hscc.export_pt2])
def test_a_preprocessing_that_does_not_fit_is_refused_with_the_calibrated_shape(export, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"\(3, 224, 224\).*calibrated on \(1, 20, 36\)"):
        export(compressed(1, 20, 36), tmp_path / "small.pt2", hscc.Preprocessing())


def test_other_channels_than_a_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="takes 2 channels"):
        hscc.export_onnx(compressed(2, 20, 20), tmp_path / "small.onnx")


def test_a_plan_keeps_the_shape_where_its_layers_do_not_tell_it() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3, groups=2, padding=1), *network_of(2))
    images = torch.rand(64, 2, 20, 20, generator=torch.Generator().manual_seed(1))
    plan = hscc.compress(model, [images], hscc.Tucker(), hscc.Budget(macs=2, only=True), cells=2).hscc_plan
    assert plan.input_shape == (2, 20, 20) and hscc.Plan.from_json(plan.to_json()) == plan
    strided = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3, stride=2), *network_of(3))
    images = torch.rand(64, 3, 41, 31, generator=torch.Generator().manual_seed(1))
    plan = hscc.compress(strided, [images], hscc.Tucker(), hscc.Budget(macs=2, only=True), cells=2).hscc_plan
    assert plan.input_shape == (3, 41, 31) and hscc.Plan.from_json(plan.to_json()) == plan


def test_what_ships_is_the_graph_that_was_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = hscc.HSCC(projection=None, regions=(2, 1), clusters=2, rank_multiple=1)
    dense, images = tiny_network(torch.float32), tiny_images(48, torch.float32)
    small = hscc.compress(dense, [images], method, hscc.Budget(macs=2.5, only=True), cells=2)
    timed: list[onnx.ModelProto] = []
    opened = OnnxRuntime.open_graph

    def kept(runtime: OnnxRuntime, graph: onnx.ModelProto, threads: int) -> Session:
        timed.append(graph)
        return opened(runtime, graph, threads)

    monkeypatch.setattr(OnnxRuntime, "open_graph", kept)
    refinement._calls(small, (3, 18, 18), hscc.LatencyTable("here", 1, (1,)))
    hscc.export_onnx(small, tmp_path / "small.onnx")
    shipped = onnx.load(tmp_path / "small.onnx").graph
    theirs = [node.op_type for node in shipped.node if not node.name.startswith("preprocessing/")]
    assert sorted(theirs) == sorted([*kinds(timed[0]).elements(), "Softmax"])
    assert kinds(timed[0]) != kinds(to_onnx(small.eval(), (3, 18, 18)))  # without simplification
