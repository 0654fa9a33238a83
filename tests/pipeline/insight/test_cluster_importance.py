from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import calibrate
from hscc.methods.controls import RandomRegions
from hscc.pipeline.insight.cluster_importance import (
    Cluster,
    cluster_importances,
    clustered_layers,
    importance_pictures,
    importance_rows,
)
from hscc.pipeline.insight.rank_maps import rank_map
from hscc.plans import Plan

CLASSES = ("a", "b", "c", "d")


def irregular(dense: nn.Module, images: torch.Tensor) -> nn.Module:
    """Regions of several tiles: their modules run several times in one pass."""
    with pytest.warns(UserWarning, match="few"):
        calibration = calibrate(dense, images.split(12), cells=4)
    method = RandomRegions(regions=(3,), clusters=(2,), rank_multiple=1)
    return apply(dense, plan(dense, calibration, method, Budget(macs=1.5, only=True), 0)).eval()


def by_hand(small: nn.Module, found: Plan, images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    """The same falls from whole forward passes, the mean taken from the encoders themselves."""
    importances = []
    for places in clustered_layers(small, found).values():
        for place in places:
            for cluster in place.clusters:
                importances.append(
                    score(small, images, labels) - without(small, place.module.decoder, cluster, images, labels)
                )
    return importances


def score(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(images)
    return (logits - logits.mean(1, keepdim=True))[torch.arange(len(labels)), labels]


def without(
    model: nn.Module, decoder: nn.Module, cluster: Cluster, images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    def flatten(_: nn.Module, taken: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        hidden = taken[0].clone()
        own = hidden[:, cluster.start : cluster.start + cluster.rank]
        own[:] = own.mean(0)  # all images are in one batch
        return (hidden,)

    handle = decoder.register_forward_pre_hook(flatten)
    fallen = score(model, images, labels)
    handle.remove()
    return fallen


@pytest.mark.parametrize("kind", ["grid", "irregular"])
def test_worths_are_what_whole_passes_without_each_cluster_lose(
    kind: str, dense: nn.Module, small: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    model = small if kind == "grid" else irregular(dense, images)
    made = model.hscc_plan
    assert isinstance(made, Plan)
    batches = list(zip(images.split(7), labels.split(7), strict=True))
    clusters, importances = cluster_importances(model, made, batches)
    expected = torch.stack(by_hand(model, made, images, labels)).numpy()
    assert len(clusters) == len(expected) > 10
    np.testing.assert_allclose(importances, expected, atol=1e-5)
    assert np.abs(importances).max() > 1e-3


def test_the_network_is_left_as_it_was(
    small: nn.Module, plan_of_small: Plan, images: torch.Tensor, labels: torch.Tensor
) -> None:
    before = score(small, images, labels)
    cluster_importances(small, plan_of_small, [(images, labels)])
    torch.testing.assert_close(score(small, images, labels), before, rtol=0, atol=0)
    assert all("forward" not in vars(module) for module in small.modules())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in small.modules())


def test_a_cluster_that_says_the_same_of_every_image_is_worth_nothing(
    small: nn.Module, plan_of_small: Plan, images: torch.Tensor
) -> None:
    same = images[:1].expand(6, -1, -1, -1).contiguous()
    _, importances = cluster_importances(small, plan_of_small, [(same, torch.arange(6) % 4)])
    np.testing.assert_allclose(importances, 0.0, atol=1e-5)


def test_a_network_without_clusters_has_nothing_to_weigh(
    dense: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    calibration = calibrate(dense, images.split(12), cells=1)
    small = apply(
        dense,
        plan(
            dense,
            calibration,
            RandomRegions(regions=(1,), clusters=(1,), rank_multiple=1),
            Budget(macs=2, only=True),
            0,
        ),
    )
    made = small.hscc_plan
    assert isinstance(made, Plan)
    clusters, importances = cluster_importances(small, made, [(images, labels)])
    assert clusters == [] and importances.shape == (0, 24)


def test_rows_average_over_the_images_of_a_class() -> None:
    cluster = Cluster("conv", 1, 0, ((0, 1, 0, 2),), 2, 8, 4, 0)
    importances = np.array([[1.0, 3.0, 5.0, 7.0, 100.0]])
    labels, groups = np.array([0, 0, 0, 0, 2]), np.array([0, 0, 1, 1, 2])
    (row,) = importance_rows([cluster], importances, labels, groups, ("a", "b", "c"), 4000, 0)
    assert row["per_class"] == [4.0, None, 100.0]
    assert row["tiles"] == [[0, 1, 0, 2]]
    # Two groups of means 2 and 6: a resample has mean 2, 4, 4 or 6, so a standard deviation of the square root of 2.
    assert row["per_class_se"][0] == pytest.approx(np.sqrt(2.0), rel=0.05)
    assert row["per_class_se"][1] is None and row["per_class_se"][2] == 0.0


def test_the_last_layer_with_regions_is_drawn_for_each_class(
    small: nn.Module, plan_of_small: Plan, images: torch.Tensor, labels: torch.Tensor
) -> None:
    maps = [rank_map(entry) for entry in plan_of_small.layers]
    clusters, importances = cluster_importances(small, plan_of_small, [(images, labels)])
    rows = importance_rows(clusters, importances, labels.numpy(), np.arange(24), CLASSES, 100, 0)
    means = {name: np.full((18, 18), 90, dtype=np.uint8) for name in ("a", "c")}
    index, pictures = importance_pictures(rows, maps, CLASSES, means)
    assert [(entry["layer"], entry["class"]) for entry in index] == [("4", "a"), ("4", "c")]
    assert [entry["picture"] for entry in index] == list(pictures)
    assert importance_pictures(rows, [found for found in maps if found.is_flat], CLASSES, means) == ([], {})
