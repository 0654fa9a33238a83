"""Run a network traced: by the reference, by the C++ engine where it is built, and by torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils import _pytree as pytree

from hscc.engine.library import available
from hscc.engine.program import Program
from hscc.engine.program_file import read_program, write_program
from hscc.engine.reference import run_program
from hscc.engine.trace import trace


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw BatchNorm's statistics and affine parameters: as made they do nothing."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm):
            for name, low, high in (
                ("running_mean", -0.5, 0.5), ("running_var", 0.5, 2.0), ("weight", 0.5, 1.5), ("bias", -0.5, 0.5),
            ):  # fmt: skip
                tensor = getattr(module, name)
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    return network.eval()


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.reshape(wanted.shape) - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


def assert_traced(
    network: nn.Module, *shapes: Sequence[int], tolerance: float = 1e-5, batch: int = 3, scale: float = 1.0
) -> Program:  # fmt: skip
    """Trace a network, and compare what the written program computes with torch."""
    network.eval()
    program = trace(network, shapes)
    content = write_program(program)
    generator = torch.Generator().manual_seed(3)
    inputs = [torch.randn(batch, *shape, generator=generator) * scale for shape in shapes]
    with torch.no_grad():
        wanted = [leaf for leaf in pytree.tree_leaves(network(*inputs)) if isinstance(leaf, torch.Tensor)]
        found = run_program(read_program(content), inputs)
    assert len(found) == len(wanted)
    assert max(map(relative_error, found, wanted)) < tolerance
    if available():
        from hscc.engine.engine import Engine

        with Engine(content, threads=1) as engine:
            outputs = engine(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert max(map(relative_error, map(torch.from_numpy, outputs), wanted)) < max(tolerance, 2e-5)
    return program


def kinds(program: Program) -> list[str]:
    return [type(operation).__name__ for operation in program.operations]
