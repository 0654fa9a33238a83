"""Simplified networks of every form compute the same; a file is replaced only by its equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import Calibration, calibrate
from hscc.errors import ArtifactError
from hscc.export.graph import simplify as graph
from hscc.export.graph.simplify import simplify, simplify_file
from hscc.methods import ALDS, HSCC, SpatialSVD, Tucker
from tests.export.graph.exported import assert_same, constants, exported, kinds, opened
from tests.tiny import tiny_images, tiny_network

METHODS = {
    "tiles": HSCC(projection=None, regions=2, clusters=2, rank_multiple=1),
    "merged": HSCC(projection=None, regions="merged", clusters=1, rank_multiple=1, region_similarity=0.95),
    "bands": HSCC(regions=(4, 1), clusters=1, rank_multiple=1),
    "unequal clusters": HSCC(projection=None, regions=1, clusters=0.3, rank_multiple=1),
    "tiles behind a projection": HSCC(regions=2, clusters=1, projection=4, rank_multiple=1),
    "tucker": Tucker(),
    "spatial": SpatialSVD(),
    "alds": ALDS(groups=(2,), rank_multiple=1),
}


@pytest.fixture(scope="module")
def single() -> tuple[nn.Module, Calibration]:
    network = tiny_network(torch.float32)
    return network, calibrate(network, [tiny_images(48, torch.float32)], cells=2)


@pytest.fixture(scope="module")
def tiled(single) -> onnx.ModelProto:
    return exported(apply(single[0], plan(*single, METHODS["tiles"], Budget(2.5, only=True))).eval())


@pytest.mark.parametrize("name", list(METHODS))
def test_every_form_computes_the_same_in_torch_exported_and_simplified(single, name: str) -> None:
    network = apply(single[0], plan(*single, METHODS[name], Budget(2.5, only=True))).eval()
    proto = exported(network)
    small = simplify(proto)
    onnx.checker.check_model(small, full_check=True)
    for made in (proto, small):
        session = opened(made)
        for count in (1, 2, 5):
            images = tiny_images(count, torch.float32)
            (found,) = session.run(["logits"], {"image": images.numpy()})
            torch.testing.assert_close(torch.from_numpy(found), network(images).detach(), rtol=1e-4, atol=1e-5)
    assert len(small.graph.node) <= len(proto.graph.node) + kinds(small)["Relu"]


def test_nothing_is_left_for_a_second_time_and_the_original_stays(tiled: onnx.ModelProto) -> None:
    before = tiled.SerializeToString()
    once = simplify(tiled)
    assert tiled.SerializeToString() == before
    assert simplify(once) == once


def test_names_and_metadata_stay(tiled: onnx.ModelProto) -> None:
    onnx.helper.set_model_props(tiled, {"card": "brain"})
    small = simplify(tiled)
    for entries in ("input", "output"):
        for old, new in zip(getattr(tiled.graph, entries), getattr(small.graph, entries), strict=True):
            assert (new.name, new.type) == (old.name, old.type)
    assert small.metadata_props == tiled.metadata_props
    assert (small.ir_version, small.opset_import) == (tiled.ir_version, tiled.opset_import)


def test_equal_constants_are_stored_once() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[N,3] x) => (float[N,3] y) <float[3] a = {1, 2, 3}, float[3] b = {1, 2, 3}, float[3] c = {1, 2, 4}> {
        first = Add (x, a)
        second = Mul (first, b)
        y = Sub (second, c)
    }"""
    proto = onnx.parser.parse_model(text)
    small = simplify(proto)
    assert set(constants(small)) == {"a", "c"}
    assert_same(proto, small)


def test_a_file_is_replaced_by_its_simpler_equal(tiled: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(tiled, path)
    simplify_file(path)
    assert kinds(onnx.load(path)) == kinds(simplify(tiled)) != kinds(tiled)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_would_change_its_results_stays(tiled: onnx.ModelProto, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(tiled, path)
    before = path.read_bytes()

    def wrong(proto: onnx.ModelProto) -> onnx.ModelProto:
        small = simplify(proto)
        bias = next(entry for entry in small.graph.initializer if entry.name.endswith("bias"))
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1), bias.name))
        return small

    monkeypatch.setattr(graph, "simplify", wrong)
    with pytest.raises(ArtifactError, match="differs by"):
        simplify_file(path)
    assert path.read_bytes() == before


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be simplified"):
        simplify_file(path)
    assert path.read_bytes() == b"not a network"
