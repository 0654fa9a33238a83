from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hscc.errors import CompressionError
from hscc.networks.backbones import build
from hscc.pipeline.insight.class_activation import grad_cam, last_feature_map


def test_a_map_is_the_paper_s_formula_on_the_last_activations(
    dense: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    assert isinstance(dense, nn.Sequential)
    found = grad_cam(dense, "5", list(zip(images.split(10), labels.split(10), strict=True)))
    activations = dense[:6](images).detach().requires_grad_()
    logits = dense[6:](activations)[torch.arange(24), labels]
    (gradients,) = torch.autograd.grad(logits.sum(), activations)
    expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1)
    np.testing.assert_allclose(found, expected.detach(), atol=1e-6)
    assert found.shape == (24, 9, 9) and np.abs(found).max() > 1e-4
    assert all(parameter.requires_grad for parameter in dense.parameters())


def test_the_last_convolution_and_its_activation_are_found(dense: nn.Module, images: torch.Tensor) -> None:
    assert last_feature_map(dense, images[:1]) == ("4", "5")
    assert last_feature_map(nn.Sequential(nn.Conv2d(3, 4, 3)), images[:1]) == ("0", "0")


def test_in_a_residual_network_it_is_the_activation_behind_the_sum() -> None:
    network = build("resnet18", 4).eval()
    assert last_feature_map(network, torch.zeros(1, 3, 64, 64)) == ("layer4.1.conv2", "layer4.1.relu")


def test_a_compressed_network_is_mapped_at_the_same_place(
    dense: nn.Module, small: nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> None:
    at = last_feature_map(dense, images[:1]).at
    first, second = (grad_cam(model, at, [(images, labels)]) for model in (dense, small))
    assert first.shape == second.shape
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.7


def test_a_network_without_a_feature_map_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(CompressionError, match="no convolution with a feature map"):
        last_feature_map(nn.Sequential(nn.Flatten(), nn.Linear(3 * 18 * 18, 4)), images[:1])
