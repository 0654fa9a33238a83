"""The engine's 8-bit operations, drawn, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hscc.engine.engine import Engine
from hscc.engine.program import (
    Activation,
    Program,
    Quantisation,
    QuantisedConvolution,
    QuantisedLinear,
    QuantisedRegion,
    Shape,
)
from hscc.engine.program_file import write_program
from hscc.engine.reference import run_program

# Factors are rounded in another order, so that one number in thousands lies on the other side of a tie.
ATOL = 1e-5
MOST_ROUNDED_OTHERWISE = 0.02


def stage(rng: np.random.Generator) -> Quantisation:
    return Quantisation(float(np.float32(rng.uniform(0.01, 0.03))), int(rng.integers(0, 256)))


def matrix(rng: np.random.Generator, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    width = int(np.prod(shape[1:]))
    scales = rng.uniform(0.2, 1, shape[0]) / (74 * np.sqrt(width))
    return rng.integers(-128, 128, shape).astype(np.int8), scales.astype(np.float32)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Draw a convolution and a linear layer behind it."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    projected = groups * draw(st.integers(0, 4))
    channels = groups * draw(st.integers(1, 12))
    outputs = groups * draw(st.integers(1, 14))
    hidden = groups * draw(st.integers(0, 9))
    kernel, dilation, stride = (draw(st.integers(1, 3)) for _ in range(3))
    up, pad, size = draw(st.sampled_from([1, 1, 2])), draw(st.integers(0, 2)), draw(st.integers(1, 9))
    edge = max(1, ((size + 2 * pad - (kernel - 1) * dilation - 1) // stride + 1) * up)
    inner = (projected or channels) // groups
    regions = []
    for _ in range(draw(st.integers(1, 3))):
        core, core_scale = matrix(rng, hidden or outputs, 1, kernel, kernel, inner)
        decoder, decoder_scale = matrix(rng, outputs, hidden) if hidden else (None, None)
        bias = rng.standard_normal(outputs).astype(np.float32)
        regions.append(QuantisedRegion(core, decoder, bias, core_scale, decoder_scale, stage(rng) if hidden else None))
    if len(regions) > 1:
        regions.append(QuantisedRegion(None, None, bias))
    index = rng.integers(0, len(regions), (1, edge, edge)).astype(np.uint8) if len(regions) > 1 else None
    projection, projection_scale = matrix(rng, projected, channels) if projected else (None, None)
    order = rng.permutation(channels).astype(np.int32) if not projected and draw(st.booleans()) else None
    middle = Shape(outputs, 1, edge, edge)
    program = Program([Shape(channels, 1, size, size), middle, middle, Shape(7)], [0, 1], [2, 3])
    encoder, encoder_scale = matrix(rng, 5, middle.size) if draw(st.booleans()) else (None, None)
    weight, weight_scale = matrix(rng, 7, middle.size if encoder is None else 5)
    program.operations = [
        QuantisedConvolution(
            (0, 1) if draw(st.booleans()) else (0,), 2, (1, kernel, kernel), (1, stride, stride), (0, pad, pad),
            (1, dilation, dilation), tuple(regions), (1, up, up), groups, projection, order, index,
            Activation(draw(st.sampled_from(["none", "relu", "silu"]))), projection_scale, stage(rng),
            stage(rng) if projected else None,
        ),
        QuantisedLinear(
            (1,), 3, weight, np.zeros(7, np.float32), encoder, Activation("relu"), weight_scale, encoder_scale,
            stage(rng), None if encoder is None else stage(rng),
        ),
    ]  # fmt: skip
    return program


@pytest.mark.usefixtures("engine_library")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=programs(), batch=st.integers(1, 12), threads=st.integers(1, 2))
def test_drawn_operations_compute_what_the_reference_does(program: Program, batch: int, threads: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    shapes = [program.values[value] for value in program.inputs]
    inputs = [torch.randn(batch, shape.channels, shape.rows, shape.columns, generator=generator) for shape in shapes]
    wanted = run_program(program, inputs)
    with Engine(write_program(program), threads=threads) as engine:
        found = engine(*inputs)
    for a, b in zip(found, wanted, strict=True):
        difference = np.abs(a - b.numpy().reshape(a.shape))
        assert float((difference > ATOL).mean()) <= MOST_ROUNDED_OTHERWISE
        assert float(difference.max()) < 0.1


@pytest.mark.usefixtures("engine_library")
def test_nan_becomes_the_smallest_and_what_is_too_large_is_cut() -> None:
    program = Program([Shape(4), Shape(4)], [0], [1])
    weight, scale = np.eye(4, dtype=np.int8), np.ones(4, np.float32)
    program.operations = [
        QuantisedLinear(
            (0,), 1, weight, np.zeros(4, np.float32), weight_scale=scale, input_values=Quantisation(0.5, 10)
        )
    ]
    given = torch.tensor([[np.nan, np.inf, -np.inf, 1e30]])
    with Engine(write_program(program), threads=1) as engine:
        found = engine(given)
    assert np.array_equal(found, [[-5.0, 122.5, -5.0, 122.5]])
