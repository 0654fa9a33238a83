"""Plan, apply, compress: from a dense network and its calibration to a compressed network."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from torch import nn

from hscc.budgets.budget import Budget
from hscc.budgets.estimate import NEGLIGIBLE, estimates
from hscc.budgets.resources import RESOURCES, Limit
from hscc.calibration.collect import Calibration, calibrate, fingerprint
from hscc.calibration.layers import Conv, is_channels_last, take_channels_last
from hscc.errors import BudgetError, CompressionError
from hscc.methods import METHODS
from hscc.methods.base import Method
from hscc.networks.folding import fold_batch_norms
from hscc.networks.inputs import Batch, one_tensor
from hscc.outputs import Outputs
from hscc.plans import Plan
from hscc.search.allocation import UnreachableError
from hscc.search.parallel import each_layer
from hscc.structures.dense import DENSE

if TYPE_CHECKING:
    from hscc.budgets.latency_table import LatencyTable

_GEOMETRY = (
    "in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation",
    "groups", "padding_mode",
)  # fmt: skip
_USED = 0.98  # of a limit: less needs a reason


def plan(
    model: nn.Module,
    calibration: Calibration,
    method: Method,
    budget: Budget,
    seed: int = 0,
    latency: LatencyTable | None = None,
) -> Plan:
    """Choose the structure and ranks of each layer, and compute the weights.

    Parameters
    ----------
    model : nn.Module
        The dense network; left as it was.
    calibration : Calibration
        From `calibrate` on the same network. It keeps the spectra, so that another plan takes seconds.
    method : Method
        Such as ``HSCC()``.
    budget : Budget
        For the whole network, linear layers included. Parameters and time that it does not name stay at most the dense
        network's, unless it is for its resources ``only``.
    seed : int
        Of what the method draws; the same seed gives the same plan to the bit, unless the budget has a latency.
    latency : LatencyTable, optional
        For a budget with a latency; what it lacks is measured, in its runtime, and stays in it. Without one
        `hscc.budgets.latency_table.new_table` makes one. For a budget without a latency it takes the place of
        `hscc.budgets.estimate.Estimate` in bounding the time.

    Returns
    -------
    Plan
        Never beyond the budget; `Plan.bound` says why if it is more than 2 % under it, and what the dense network's
        parameters or time kept it from.

    Raises
    ------
    CompressionError
        If the calibration belongs to another network, or the method is not a dataclass with the functions of `Method`.
    BudgetError
        If the method cannot reach the budget, the message names the most it can; or not without more parameters or
        time than the dense network's.
    """
    if not isinstance(method, Method) or not is_dataclass(method) or isinstance(method, type):
        raise CompressionError(f"{method!r} is not a method; pass an instance such as hscc.HSCC() or hscc.Tucker().")
    if not isinstance(budget, Budget):
        raise CompressionError(f"{budget!r} is not a budget; pass one such as hscc.Budget(macs=6).")
    folded = fold_batch_norms(model)
    _check_network(model, folded, calibration)
    task = _Task(model, folded, calibration, method, budget, seed, latency)
    if budget.latency is None:
        return task.planned([])
    from hscc.budgets.latency_table import new_table
    from hscc.budgets.refinement import latency_limits, refine_to_latency, time_dense

    table = latency if latency is not None else new_table()
    if not one_tensor(calibration.input_shape):
        raise BudgetError("a latency budget times networks of one image; plan this network by macs or params.")
    timer = time_dense(folded, calibration.input_shape, table)
    limits = latency_limits(timer, budget.latency, calibration.layers, table)

    def within(limits: Mapping[int, Limit]) -> tuple[Plan, nn.Module]:
        made = task.planned(list(limits.values()))
        return made, assemble(model, made)

    return refine_to_latency(within, timer, limits, budget.latency, calibration, table)


@dataclass(frozen=True)
class _Task:
    """A network to be planned."""

    model: nn.Module
    folded: nn.Module
    calibration: Calibration
    method: Method
    budget: Budget
    seed: int
    table: LatencyTable | None

    def planned(self, timed: list[Limit]) -> Plan:
        """Plan within the budget's counted resources, some limits on time, and what the dense network needs."""
        made = first = self._within(timed, [])
        binding: list[Limit] = []
        if self.budget.only:
            return made
        bounds = self._bounds()
        while more := [bound for bound in bounds if bound not in binding and _used(made, bound) > bound.most]:
            binding += more  # only these: a limit that holds by itself costs the search time and needs no price
            made = self._within(timed, binding)
        return replace(made, bound=_held(first, binding)) if binding else made

    def _within(self, timed: list[Limit], binding: list[Limit]) -> Plan:
        calibration, dense, other = self.calibration, self._dense, self._other
        most = self.budget.limits(dense)
        limits = [Limit(name, RESOURCES[name].model, limit - other[name]) for name, limit in most.items()]
        try:
            layers, weights = self.method.plan_layers(
                self.folded, calibration, [*limits, *timed, *binding], self.seed
            )  # fmt: skip
        except UnreachableError as error:
            raise _beyond(self.budget, dense, other, [*limits, *timed], binding, error) from None
        made = Plan(
            method=_name(self.method),
            settings=asdict(self.method),  # type: ignore[call-overload]
            budget=self.budget,
            seed=self.seed,
            dense_macs=int(dense["macs"]),
            dense_params=int(dense["params"]),
            other_macs=int(other["macs"]),
            other_params=int(other["params"]),
            layers=tuple(layers),
            left_dense=dict(calibration.left_dense),
            calibration=calibration.network,
            input_shape=calibration.input_shape,
            weights=weights,
        )
        return replace(made, bound=_bound(made, limits, other))

    def _bounds(self) -> list[Limit]:
        """What the layers may use because the dense ones do: parameters and time, unless the budget names them."""
        bounds = []
        if self.budget.params is None:
            params = int(self._dense["params"] - self._other["params"])
            bounds.append(Limit("parameters", RESOURCES["params"].model, params))
        if self.budget.latency is None:
            models = estimates() if self.table is None else self.table.models()
            for name, model in models.items():
                dense = sum(model.of_structure(layer, DENSE) for layer in self.calibration.layers)
                bounds.append(Limit(name, model, max(dense, NEGLIGIBLE)))
        return bounds

    @cached_property
    def _dense(self) -> dict[str, float]:
        """Resource to the cost of the dense network."""
        shape = self.calibration.input_shape
        return {name: RESOURCES[name].count(self.model, shape) for name in self._resources}

    @cached_property
    def _other(self) -> dict[str, float]:
        """Resource to the cost of what is not in the calibration's layers."""
        calibration = self.calibration
        return {
            name: RESOURCES[name].count(self.folded, calibration.input_shape)
            - sum(RESOURCES[name].model.of_structure(layer, DENSE) for layer in calibration.layers)
            for name in self._resources
        }

    @property
    def _resources(self) -> list[str]:
        asked = (name for name in self.budget.ratios if name != "latency")
        return list(dict.fromkeys(["macs", "params", *asked]))


def apply(model: nn.Module, plan: Plan, calibration: Calibration | None = None) -> nn.Module:
    """Return a copy of a network with the plan's layers in place and its BatchNorms folded where that is safe.

    Parameters
    ----------
    model : nn.Module
        The dense network; left as it was.
    plan : Plan
        From `plan`, or read from JSON.
    calibration : Calibration, optional
        Only for a plan that was read from JSON: the weights are computed from it again.

    Returns
    -------
    nn.Module
        On the same device, in the same mode and dtype. Its attribute ``hscc_plan`` is the plan.

    Raises
    ------
    CompressionError
        If the plan has no weights and no calibration of its network was given.
    """
    if not plan.weights and any(entry.structure != DENSE for entry in plan.layers):
        if calibration is None:
            raise CompressionError(
                "the plan was read without weights; pass its calibration too, apply(model, plan, calibration), "
                "or read the compressed network with hscc.load."
            )
        plan = _refactored(model, plan, calibration)
    return assemble(model, plan)


def assemble(model: nn.Module, plan: Plan) -> nn.Module:
    """Do what `apply` does, but leave layers whose weights the plan lacks as they are initialised."""
    folded = fold_batch_norms(model)
    small = _copy(folded) if folded is model else folded
    for entry in plan.layers:
        if entry.structure == DENSE:
            continue
        old = small.get_submodule(entry.layer.name)
        assert isinstance(old, Conv | nn.Linear)
        module = entry.structure.module(entry.layer).to(old.weight.dtype)  # before weights come: they keep bits
        if is_channels_last(old, entry.layer):
            take_channels_last(module)
        if entry.layer.name in plan.weights:
            module.load_state_dict(plan.weights[entry.layer.name])
        module.to(old.weight.device).train(old.training).requires_grad_(old.weight.requires_grad)
        for name in _GEOMETRY:  # a forward may read them
            if hasattr(old, name) and not hasattr(module, name):
                setattr(module, name, getattr(old, name))
        for name in [name for name, held in small.named_modules(remove_duplicate=False) if held is old]:
            small.set_submodule(name, module)
    small.hscc_plan = replace(plan, weights={})  # type: ignore[assignment]
    return small


def compress(
    model: nn.Module,
    images: Iterable[Batch],
    method: Method,
    budget: Budget,
    seed: int = 0,
    cells: int = 4,
    refit: bool = True,
    output: Outputs | None = None,
) -> nn.Module:
    """Calibrate, plan, apply and refit: compression without training.

    Parameters
    ----------
    model : nn.Module
        The dense network; left as it was.
    images : iterable of Tensor, shape (N, C, H, W), or of tuples or dicts of Tensor
        Batches of network inputs, as for `calibrate`; labels are not needed. They are read several times, in the same
        order each time; an iterator that can be read only once is listed.
    method, budget, seed
        As in `plan`.
    cells, output
        As in `hscc.calibration.collect.calibrate`.
    refit : bool
        Whether to fit the factors to the dense network once more, layer by layer; see `hscc.refit`, which also says
        what each layer brought. It takes a few hundred images, and minutes on a large network.
    """
    batches = list(images) if isinstance(images, Iterator) else images
    calibration = calibrate(model, batches, cells, output, seed=seed)
    small = apply(model, plan(model, calibration, method, budget, seed))
    if not refit:
        return small
    from hscc.refitting.refit import refit as fit_again

    return fit_again(small, model, calibration, batches).network


def _check_network(model: nn.Module, folded: nn.Module, calibration: Calibration) -> None:
    # Hashing 200 MB takes longer than a second budget; the same tensors at the same version were hashed before.
    identity = tuple((id(model), p.data_ptr(), p._version) for p in [*model.parameters(), *model.buffers()])
    if calibration.cache.verified == identity:
        return
    if fingerprint(folded) != calibration.network:
        raise CompressionError("the calibration is of another network, or its weights changed; calibrate this one.")
    calibration.cache.verified = identity


def _refactored(model: nn.Module, plan: Plan, calibration: Calibration) -> Plan:
    folded = fold_batch_norms(model)
    _check_network(model, folded, calibration)
    if plan.calibration != calibration.network:
        raise CompressionError("the plan was made from another calibration; plan again from this one.")
    method = _method(plan)
    factored = [entry for entry in plan.layers if entry.structure != DENSE]
    states = each_layer(
        lambda entry: method.factor_layer(folded, entry.layer, calibration, entry.structure)[1], factored, "factors"
    )
    weights = {entry.layer.name: state for entry, state in zip(factored, states, strict=True)}
    return replace(plan, weights=weights)


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise CompressionError(
            f"{type(model).__name__} cannot be copied ({error}); where it is pruned, make that permanent with "
            "torch.nn.utils.prune.remove, and remove weight norms."
        ) from error


def _name(method: Method) -> str:
    return METHODS.name_of(method) or type(method).__name__


def _method(plan: Plan) -> Method:
    if plan.method in METHODS:
        return type(METHODS[plan.method])(**plan.settings)
    kind = {type(method).__name__: type(method) for method in METHODS.values()}.get(plan.method)
    if kind is None:
        raise CompressionError(f"the plan's method {plan.method!r} is unknown here; enter it in hscc.METHODS first.")
    return kind(**plan.settings)


def _beyond(
    budget: Budget,
    dense: dict[str, float],
    other: dict[str, float],
    limits: list[Limit],
    binding: list[Limit],
    error: UnreachableError,
) -> BudgetError:
    if binding:
        names = " or ".join(limit.name for limit in binding)
        return BudgetError(
            f"{budget} cannot be reached by this method without more {names} than the dense network has; ask for less, "
            "or pass only=True to the budget to leave them free."
        )
    smallest = {limit.name: (limit, least) for limit, least in zip(limits, error.smallest, strict=True)}
    most = {name: dense[name] / (other[name] + smallest[name][1]) for name in dense if name in smallest}
    reach = [f"{name}={math.floor(ratio * 100) / 100:g}" for name, ratio in most.items()]
    reach += [
        f"{least:.3g} of {limit.most:.3g} ms of {name}"
        for name, (limit, least) in smallest.items()
        if name not in dense
    ]
    together = ", each on its own" if len(reach) > 1 else ""
    return BudgetError(
        f"{budget} cannot be reached by this method; the most it can do here is {' and '.join(reach)}{together}."
    )


def _used(plan: Plan, limit: Limit) -> float:
    return sum(limit.model.of_structure(entry.layer, entry.structure) for entry in plan.layers)


def _held(free: Plan, binding: list[Limit]) -> str:
    """Say what the dense network's parameters and time kept a plan from."""
    found = [f"{limit.name} ({_used(free, limit) / limit.most:.2f} times as much otherwise)" for limit in binding]
    return f"Held to the dense network's {', '.join(found)}; only=True in the budget leaves the rest free."


def _bound(made: Plan, limits: list[Limit], other: dict[str, float]) -> str:
    if not limits:
        return ""
    for limit in limits:
        if other[limit.name] + _used(made, limit) >= _USED * (other[limit.name] + limit.most):
            return ""
    if all(entry.structure == DENSE for entry in made.layers):
        return "Every layer is dense: there is nothing to spend the rest of the budget on."
    return "The next larger choice of ranks would exceed the budget."
