"""Regions keep their results when zeros, slices and activations change places."""

from __future__ import annotations

import onnx
import pytest
from torch import nn

from hscc.export.graph.simplify import simplify
from tests.export.graph.exported import assert_same, exported, factored, kinds, low_rank, region

ALL = list(range(8))
QUARTERS = [((a, a + 2, b, b + 2),) for a in (0, 2) for b in (0, 2)]


def _network(kernel: int, stride: int, padding: int | str, activation: nn.Module, ranks: list[int]) -> nn.Sequential:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, kernel, stride, padding), activation,
        nn.MaxPool2d(2), nn.Flatten(),
    )  # fmt: skip
    structure = low_rank(*(region(tiles, (ALL, rank)) for tiles, rank in zip(QUARTERS, ranks, strict=True)))
    return factored(network, {"2": structure})


def _readers(proto: onnx.ModelProto, kind: str) -> set[str]:
    """Kinds of the nodes that read what nodes of a kind put out."""
    outputs = {name for node in proto.graph.node if node.op_type == kind for name in node.output}
    return {node.op_type for node in proto.graph.node if outputs & set(node.input)}


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (2, 1, "same"), (3, 1, 2), (1, 1, 0)])
def test_zeros_are_added_by_the_convolutions(kernel: int, stride: int, padding: int | str) -> None:
    proto = exported(_network(kernel, stride, padding, nn.ReLU(), [2, 3, 2, 1]))
    small = simplify(proto)
    assert kinds(small)["Pad"] == 0
    assert kinds(small)["Slice"] == 4  # one a tile
    assert_same(proto, small)


def test_wide_kernels_keep_the_pad_but_cut_each_tile_once() -> None:
    proto = exported(_network(5, 1, 2, nn.ReLU(), [2, 3, 2, 1]))
    assert kinds(proto)["Pad"] == 1
    assert kinds(proto)["Slice"] > 4
    small = simplify(proto)
    assert kinds(small)["Pad"] == 1
    assert kinds(small)["Slice"] == 4
    assert_same(proto, small)


def test_zeros_go_through_clusters_of_unequal_size() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Flatten(),
    )  # fmt: skip
    regions = [region(tiles, ([0, 3, 5], 2), ([1, 2, 4, 6, 7], 1 + i)) for i, tiles in enumerate(QUARTERS)]
    proto = exported(factored(network, {"2": low_rank(*regions)}))
    assert kinds(proto)["Split"] == 4
    small = simplify(proto)
    assert kinds(small)["Pad"] == kinds(small)["Gather"] == 0
    assert_same(proto, small)


@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2)], ids=lambda module: module._get_name()
)
def test_activations_are_applied_in_the_regions(activation: nn.Module) -> None:
    proto = exported(_network(3, 1, 1, activation, [2, 3, 2, 1]))
    assert "MaxPool" not in _readers(proto, "Concat")
    small = simplify(proto)
    assert _readers(small, "Concat") == {"Concat", "MaxPool"}
    assert_same(proto, small)


def test_a_constant_region_is_activated_before_the_run() -> None:
    proto = exported(_network(3, 1, 1, nn.ReLU(), [2, 0, 0, 1]))
    assert kinds(proto)["Expand"] == 2
    small = simplify(proto)
    assert _readers(small, "Expand") == {"Concat"}
    assert kinds(small)["Slice"] == 2  # nothing is cut for a region that reads nothing
    assert_same(proto, small)


def test_what_others_read_is_left() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[N,4,6,6] x) => (float[N,4,12,6] y) {
        both = Concat <axis = 2> (x, x)
        active = Relu (both)
        y = Add (active, both)
    }"""
    proto = onnx.parser.parse_model(text)
    small = simplify(proto)
    assert kinds(small) == kinds(proto)
    assert_same(proto, small)


def test_other_pads_are_left() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1, padding_mode="reflect"), nn.Flatten(),
    )  # fmt: skip
    regions = [region(tiles, (ALL, 2)) for tiles in QUARTERS]
    proto = exported(factored(network, {"2": low_rank(*regions)}))
    small = simplify(proto)
    assert kinds(small)["Pad"] == kinds(proto)["Pad"] > 0
    assert_same(proto, small)
