"""The verbs of the library: plan, apply, compress."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass

import torch
from torch import nn

from hscc.calibration.collect import Calibration, calibrate
from hscc.compression.budget import Budget
from hscc.compression.methods import METHODS
from hscc.compression.methods.base import Method
from hscc.compression.modules import replacement
from hscc.compression.plan import Plan
from hscc.errors import BudgetError, CompressionError
from hscc.models.counting import count_macs


def plan(model: nn.Module, calibration: Calibration, method: Method, budget: Budget, seed: int = 0) -> Plan:
    """Decide what becomes of each layer, and compute the weights.

    Parameters
    ----------
    model : nn.Module
        The dense network; left as it was.
    calibration : Calibration
        From `calibrate` on the same network.
    method : Method
        Such as ``HSCC()``.
    budget : Budget
        For the whole network, linear layers included.
    seed : int
        Of what the method draws; the same seed gives the same plan to the bit.

    Returns
    -------
    Plan
        Its MACs never exceed the budget.

    Raises
    ------
    CompressionError
        If the calibration belongs to another network.
    BudgetError
        If the method cannot reach the budget.
    """
    _check_fit(model, calibration)
    dense = count_macs(model, calibration.input_shape)
    other = dense - sum(layer.macs for layer in calibration.layers)
    limit = budget.limit(dense) - other
    if limit <= 0:
        raise BudgetError(
            f"{budget.macs:g}x fewer MACs leave {budget.limit(dense):,}, but layers that cannot be factored need "
            f"{other:,}; ask for less than {dense / other:.1f}x."
        )
    layers, weights = method.plan_layers(model, calibration, limit, seed)
    assert is_dataclass(method)
    return Plan(
        method=_name(method),
        settings=asdict(method),
        budget=budget.macs,
        seed=seed,
        dense_macs=dense,
        other_macs=other,
        layers=tuple(layers),
        left_dense=dict(calibration.left_dense),
        weights=weights,
    )


def apply(model: nn.Module, plan: Plan) -> nn.Module:
    """Return a copy of a network with the plan's layers in place.

    Parameters
    ----------
    model : nn.Module
        The dense network; left as it was.
    plan : Plan
        With weights from `plan`; one read from JSON gives untrained layers whose state is loaded afterwards.

    Returns
    -------
    nn.Module
        On the same device, in the same mode and dtype.
    """
    like = next(model.parameters())
    small = copy.deepcopy(model)
    for entry in plan.layers:
        if entry.structure.kind == "dense":
            continue
        module = replacement(entry.layer, entry.structure)
        if entry.layer.name in plan.weights:
            module.load_state_dict(plan.weights[entry.layer.name])
        module.to(device=like.device, dtype=like.dtype).train(model.training)
        parent, _, child = entry.layer.name.rpartition(".")
        setattr(small.get_submodule(parent), child, module)
    return small


def compress(
    model: nn.Module, images: Iterable[torch.Tensor], method: Method, budget: Budget, seed: int = 0
) -> nn.Module:
    """Calibrate, plan and apply.

    Parameters
    ----------
    model : nn.Module
        The dense network; left as it was.
    images : iterable of Tensor, shape (N, C, H, W)
        Batches of network inputs.
    method, budget, seed
        As in `plan`.
    """
    return apply(model, plan(model, calibrate(model, images), method, budget, seed))


def _check_fit(model: nn.Module, calibration: Calibration) -> None:
    modules = dict(model.named_modules())
    for layer in calibration.layers:
        module = modules.get(layer.name)
        weight = getattr(module, "weight", None)
        if weight is None or weight.numel() != layer.weights or weight.shape[0] != layer.outputs:
            raise CompressionError(
                f"the calibration is of another network: layer {layer.name} does not fit; calibrate this one."
            )


def _name(method: Method) -> str:
    for name, known in METHODS.items():
        if known == method:
            return name
    return type(method).__name__
