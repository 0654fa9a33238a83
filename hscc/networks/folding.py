"""Batch normalisation folded into the layer before it."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import Counter
from operator import attrgetter
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hscc.networks.inspection import held_aside, intercepted

_NORM_OF = {
    nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d, nn.Linear: nn.BatchNorm1d,
}  # fmt: skip
_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
_ACTIVATIONS = (nn.ELU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.PReLU, nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.SiLU, nn.Tanh)
_KEEPS_AXES = (nn.BatchNorm1d, nn.Dropout, nn.Identity, nn.Linear, *_ACTIVATIONS)
_KEEPS_AXES_AS_FUNCTION = (torch.relu, F.relu, F.dropout, F.gelu, F.silu, "relu")


def fold_batch_norms(model: nn.Module) -> nn.Module:
    r"""Fold every batch normalisation that `foldable` finds into its layer.

    In evaluation a batch normalisation is a fixed affine map of each channel, so it can be a part of the weights:

    .. math::
        w' = w \, \gamma / \sqrt{\sigma^2 + \epsilon}, \qquad
        b' = (b - \mu) \, \gamma / \sqrt{\sigma^2 + \epsilon} + \beta

    (Jacob et al., "Quantization and Training of Integer-Arithmetic-Only Inference", 2018, section 3.2).

    Parameters
    ----------
    model : nn.Module
        Any network. It is left as it was.

    Returns
    -------
    nn.Module
        A copy with the fused layers, and an ``nn.Identity`` in the place of each normalisation folded; the very same
        object where there is none to fold. In evaluation it computes what the given network does; in training mode
        it no longer normalises by the batch. Modes, devices, dtypes and ``requires_grad`` are kept; a bias that the
        layer did not have takes ``requires_grad`` from the normalisation's, or else from the layer's weight.
    """
    pairs = foldable(model)
    if not pairs:
        return model
    folded = copy.deepcopy(model)
    for layer_name, norm_name in pairs.items():
        norm = folded.get_submodule(norm_name)
        _absorb(folded.get_submodule(layer_name), norm)
        folded.set_submodule(norm_name, nn.Identity().train(norm.training))
    return folded


def foldable(model: nn.Module) -> dict[str, str]:
    """Find the batch normalisations that can be folded into the layer before them.

    A ``BatchNorm2d`` behind a ``Conv2d`` (and so in one and three dimensions), or a ``BatchNorm1d`` behind a ``Linear``
    that sees (N, features), where nothing else reads the layer's output, both run once, both hold their tensors alone
    and neither has hooks or parametrizations, and the normalisation has running statistics. The path is that of a call
    with one image, in evaluation mode. The input of a network that starts with a ``Linear`` is taken as (N, features).

    Parameters
    ----------
    model : nn.Module
        Any network. It is left as it was.

    Returns
    -------
    dict of str to str
        Name of the layer to name of its normalisation, in order of execution; empty where the network's forward
        cannot be traced.
    """
    graph = _trace(model)
    if graph is None:
        return {}
    modules = dict(model.named_modules())
    once = _run_once(graph)
    holders, aside = _holders(model), held_aside(model)
    pairs = {}
    for node in graph.nodes:
        if node not in once or len(node.all_input_nodes) != 1:
            continue
        before = node.all_input_nodes[0]
        if before not in once or len(before.users) != 1:
            continue
        layer, norm = modules[before.target], modules[node.target]
        if (
            not _fit(layer, norm)
            or {id(layer), id(norm)} & aside
            or any(holders[id(tensor)] > 1 for tensor in _tensors(layer, norm))
        ):
            continue
        if isinstance(layer, _Conv) or _has_two_axes(before, modules):
            pairs[before.target] = node.target
    return pairs


def _absorb(layer: nn.Module, norm: nn.Module) -> None:
    assert isinstance(layer, _Conv | nn.Linear) and isinstance(norm, _Norm)
    assert norm.running_mean is not None and norm.running_var is not None
    # The convolution's formula serves linear weights too; torch's own for linear layers fails without gamma.
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(
            layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
    if layer.bias is None:
        bias.requires_grad_((layer.weight if norm.bias is None else norm.bias).requires_grad)
    layer.weight, layer.bias = weight, bias


def _fit(layer: nn.Module, norm: nn.Module) -> bool:
    # Exact types: a subclass or a parametrized layer may compute anything.
    if _NORM_OF.get(type(layer)) is not type(norm):
        return False
    mean = norm.running_mean
    return (
        norm.track_running_stats is True
        and isinstance(mean, torch.Tensor)
        and mean.device == layer.weight.device
        and not intercepted(layer)
        and not intercepted(norm)
    )


def _tensors(*modules: nn.Module) -> list[torch.Tensor]:
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def _holders(model: nn.Module) -> Counter[int]:
    """Under how many names the network holds each tensor, by ``id``: tied ones, and those of a shared module, many."""
    parameters = model.named_parameters(remove_duplicate=False)
    buffers = model.named_buffers(remove_duplicate=False)
    return Counter(id(tensor) for _, tensor in (*parameters, *buffers))


def _run_once(graph: fx.Graph) -> set[fx.Node]:
    """Calls of modules that are called exactly once, and none of whose tensors is read elsewhere in a forward."""
    calls = [node for node in graph.nodes if node.op == "call_module"]
    count = Counter(node.target for node in calls)
    read = {f"{node.target}." for node in graph.nodes if node.op == "get_attr"}
    aside = {node for node in calls if any(name.startswith(f"{node.target}.") for name in read)}
    return {node for node in calls if count[node.target] == 1} - aside


def _has_two_axes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a value is (N, features) for sure: with a third axis a ``BatchNorm1d`` would normalise the second."""
    while node.op != "placeholder":
        if node.op == "call_module":
            module = modules[str(node.target)]
            if isinstance(module, nn.Flatten):
                return (module.start_dim, module.end_dim) == (1, -1)
            if type(module) not in _KEEPS_AXES or intercepted(module):
                return False
        elif node.target in (torch.flatten, "flatten"):
            return (node.args[1:], node.kwargs) in (((1,), {}), ((), {"start_dim": 1}))
        elif node.target in ("view", "reshape"):
            return len(node.args) == 3
        elif node.target not in _KEEPS_AXES_AS_FUNCTION:
            return False
        node = node.all_input_nodes[0]
    return True


class _Tracer(fx.Tracer):
    """Follows a network, but not into hooked modules: their hooks would run, and on symbols instead of tensors."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return intercepted(m) or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module) -> fx.Graph | None:
    """Graph of a call with one image in evaluation mode, or None.

    Tracing runs the network's own forward, which may store what it sees on the modules, so a copy is traced; its
    tensors are on the meta device and take no memory.
    """
    if "forward" in vars(model):  # the tracer would follow the class's forward instead
        return None
    # An argument with a default is not given: its branch would otherwise be followed.
    try:
        given = inspect.signature(model.forward).parameters.values()
        defaults = {entry.name: entry.default for entry in given if entry.default is not entry.empty}
        blank = _without_memory(model).eval()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            graph = _Tracer().trace(blank, concrete_args=defaults)
    except Exception:  # forward is the user's code and may raise anything on symbolic values
        return None
    # A value computed from weights outside of the graph: from which weights is unknown.
    held = set(map(id, _tensors(blank)))
    read = [attrgetter(str(node.target))(blank) for node in graph.nodes if node.op == "get_attr"]
    loose = [value for value in read if isinstance(value, torch.Tensor) and id(value) not in held]
    return None if any(value.is_meta for value in loose) else graph


def _without_memory(model: nn.Module) -> nn.Module:
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)
