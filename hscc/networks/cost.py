"""Multiply-accumulates, parameters and bytes, counted on the real modules."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from hscc.errors import CompressionError, first_line
from hscc.networks.inputs import Batch, InputShape, as_shape, input_shape_of, run, zeros
from hscc.networks.inspection import evaluating
from hscc.terminal import table_text


@dataclass(frozen=True)
class LayerCost:
    """What one module costs by itself, without the modules inside it.

    Attributes
    ----------
    name : str
        Its path, as in ``named_modules``; empty for the network itself.
    kind : str
        Name of its class.
    macs : int
        Multiply-accumulates in its own forward, all its runs for one image added.
    params : int
        Numbers in its own parameters, less those that an earlier row already holds.
    bytes : int
        Size of its own parameters and buffers, less those that an earlier row already holds.
    """

    name: str
    kind: str
    macs: int
    params: int
    bytes: int


@dataclass(frozen=True)
class CostReport:
    """What a network costs, one row per module; the rows add up to the totals.

    Attributes
    ----------
    rows : tuple of LayerCost
        Every module that holds tensors or does arithmetic, in order of registration.
    """

    rows: tuple[LayerCost, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def params(self) -> int:
        """Numbers in all parameters, shared ones once."""
        return sum(row.params for row in self.rows)

    @property
    def bytes(self) -> int:
        """Size of all parameters and buffers, shared ones once."""
        return sum(row.bytes for row in self.rows)

    def __str__(self) -> str:
        """Return a table that a person reads."""
        from rich.table import Table

        table = Table(title="cost of one image")
        table.add_column("layer", overflow="fold")
        table.add_column("kind", overflow="fold")
        for heading in ("MMACs", "params", "bytes"):
            table.add_column(heading, justify="right")
        for row in self.rows:
            table.add_row(row.name or "(network)", row.kind, *_figures(row))
        table.add_section()
        table.add_row("total", "", *_figures(self))
        return table_text(table, width=118)


def cost(
    model: nn.Module, input_shape: Sequence[int] | Sequence[Sequence[int]] | Mapping[str, Sequence[int]]
) -> CostReport:
    """Cost of a network for one image, module by module.

    Arithmetic counts for the module in whose forward it happens, be it a layer's or a matrix product written in a
    block; tensors for the module that holds them, shared ones for the first. `CostReport.macs` is therefore
    `count_macs` and `CostReport.params` is `count_parameters`. The network runs once on zeros, in evaluation mode,
    and is left as it was.

    Parameters
    ----------
    model : nn.Module
        Any network.
    input_shape : sequence of int, or a sequence or dict of these
        (N, C, H, W), or (C, H, W); with one or three axes behind the channels where the network's convolutions have as
        many. Figures are for one image whatever N is. Of a network with several inputs the shape of each without N, by
        position or keyword, as in `hscc.Calibration.input_shape`.

    Returns
    -------
    CostReport

    Raises
    ------
    CompressionError
        If the shape is not an image's, or the network cannot run on it.
    """
    macs = _macs_by_module(model, _one_image(model, input_shape))
    rows = []
    seen: set[int] = set()
    for name, module in model.named_modules():
        held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if not held and not macs[module]:
            continue
        new = [tensor for tensor in held if id(tensor) not in seen]
        seen.update(map(id, new))
        params = sum(tensor.numel() for tensor in new if isinstance(tensor, nn.Parameter))
        size = sum(tensor.numel() * tensor.element_size() for tensor in new)
        rows.append(LayerCost(name, type(module).__name__, macs[module], params, size))
    return CostReport(tuple(rows))


@contextlib.contextmanager
def _counted_attention() -> Iterator[None]:
    """Keep torch from its fused attention, which frozen networks take and its counter does not know."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def count_macs(model: nn.Module, input_shape: InputShape) -> int:
    """Multiply-accumulates of one image's forward pass, as torch's ``FlopCounterMode`` sees it.

    A floating-point operation is half a multiply-accumulate; biases, activations and pooling do not count, as is
    usual in the compression literature.
    """
    with evaluating(model), _counted_attention(), FlopCounterMode(display=False) as counter:
        run(model, zeros(model, input_shape))
    return int(counter.get_total_flops()) // 2


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers of a network, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _figures(row: LayerCost | CostReport) -> tuple[str, str, str]:
    return f"{row.macs / 1e6:,.3f}", f"{row.params:,}", f"{row.bytes:,}"


def _one_image(model: nn.Module, input_shape: Any) -> Batch:
    if isinstance(input_shape, Mapping) or (input_shape and all(isinstance(sizes, Sequence) for sizes in input_shape)):
        return zeros(model, as_shape(input_shape))
    shape = tuple(input_shape)
    # (2, 64, 64) is one image or two signals: the network's convolutions tell.
    convs = [module for module in model.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    axes = len(convs[0].kernel_size) if convs else 2
    if len(shape) - axes not in (1, 2) or not all(isinstance(length, int) and length > 0 for length in shape):
        forms = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)", 3: "(N, C, D, H, W) or (C, D, H, W)"}
        raise CompressionError(
            f"input_shape {shape} is not an image's; give {forms[axes]}, all positive, as (1, 3, 224, 224) in 2-D."
        )
    like = next(model.parameters(), torch.empty(0))
    return torch.zeros(1, *shape[-axes - 1 :], dtype=like.dtype, device=like.device)


def _macs_by_module(model: nn.Module, image: Batch) -> Counter[nn.Module]:
    """Share out the counter's total: what is added while a module is the innermost running one is that module's.

    The counter's own table names modules by class and path: it loses one of two names of a shared module and adds
    children to parents, also those that run without their parent. A running difference needs neither.
    """
    registered = set(model.modules())
    shape = tuple(image.shape) if isinstance(image, torch.Tensor) else input_shape_of(image)
    macs: Counter[nn.Module] = Counter()
    running = [model]
    counted = 0

    def count() -> None:
        nonlocal counted
        total = int(counter.get_total_flops()) // 2
        macs[running[-1]] += total - counted
        counted = total

    def enter(module: nn.Module, inputs: Any) -> None:
        count()
        running.append(module if module in registered else running[-1])

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        count()
        running.pop()

    with (
        evaluating(model),
        _counted_attention(),
        FlopCounterMode(display=False) as counter,
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    ):
        try:
            run(model, image)
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise CompressionError(
                f"the network cannot run on an input of shape {shape} ({first_line(error)}); give the "
                "input_shape it was made for."
            ) from error
        count()
    return macs
