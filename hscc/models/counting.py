"""Multiply-accumulates and parameters, counted on the real modules."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of one image's forward pass, as torch's ``FlopCounterMode`` sees it.

    A floating-point operation is half a multiply-accumulate; biases, activations and pooling do not count, as is
    usual in the compression literature.
    """
    parameter = next(model.parameters())
    image = torch.zeros(1, *input_shape, dtype=parameter.dtype, device=parameter.device)
    training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(image)
    model.train(training)
    return int(counter.get_total_flops()) // 2


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers of a network, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
