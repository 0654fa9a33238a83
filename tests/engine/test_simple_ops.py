"""Each operation but convolutions and linear layers, against torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.engine.engine import Engine
from hscc.engine.program import (
    ACTIVATIONS,
    BINARY,
    Activation,
    AdaptivePool,
    Affine,
    Binary,
    Concat,
    Norm,
    Operation,
    Pad,
    Pool,
    Program,
    Reshape,
    Resize,
    Select,
    Shape,
    Softmax,
)
from hscc.engine.program_file import write_program
from hscc.engine.reference import run_program

pytestmark = pytest.mark.usefixtures("engine_library")

CHANNELS = st.sampled_from([1, 2, 3, 4, 7, 16, 17, 33, 70])
# Depth, rows, columns: 1-D, 2-D and 3-D values.
GRIDS = st.one_of(
    st.tuples(st.just(1), st.just(1), st.integers(1, 40)),
    st.tuples(st.just(1), st.integers(1, 13), st.integers(1, 13)),
    st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
)
SHAPES = st.builds(lambda channels, grid: Shape(channels, *grid), CHANNELS, GRIDS)
SMALL = st.floats(-2, 2, width=32)
ACTS = st.builds(
    lambda name, a: Activation(name, a, a + 1.5), st.sampled_from(ACTIVATIONS), st.floats(0.125, 1.0, width=32)
)  # fmt: skip
Drawn = tuple[Program, list[torch.Tensor]]


def program_of(inputs: Sequence[Shape], output: Shape, make: Callable[[tuple[int, ...], int], Operation]) -> Program:
    program = Program()
    program.inputs = [program.value(shape) for shape in inputs]
    program.outputs = [program.value(output)]
    program.operations = [make(tuple(program.inputs), program.outputs[0])]
    return program


def vector(draw: st.DrawFn, count: int) -> np.ndarray | None:
    if draw(st.booleans()):
        return None
    return np.random.default_rng(draw(st.integers(0, 99))).normal(size=count).astype(np.float32)


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape, sizes = draw(SHAPES), []
    kernel, stride, pad, after = [], [], [], []
    mode = draw(st.sampled_from(["max", "average"]))
    dilation = [draw(st.integers(1, 2)) if mode == "max" else 1 for _ in range(3)]
    for size, step in zip(shape.grid, dilation, strict=True):
        kernel.append(draw(st.integers(1, max(1, min(4, (size - 1) // step + 1)))))
        stride.append(draw(st.integers(1, 3)))
        pad.append(draw(st.integers(0, kernel[-1] // 2)))
        after.append(draw(st.integers(0, kernel[-1] // 2)))
        sizes.append(max(1, (size + pad[-1] + after[-1] - step * (kernel[-1] - 1) - 1) // stride[-1] + 1))
    count = draw(st.booleans())
    act = draw(ACTS)
    return (
        [shape],
        Shape(shape.channels, *sizes),
        lambda inputs, output: Pool(
            inputs, output, mode, tuple(kernel), tuple(stride), tuple(pad), tuple(dilation), count, tuple(after), act
        ),
    )


@st.composite
def adaptive_pools(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape, mode, act = draw(SHAPES), draw(st.sampled_from(["max", "average"])), draw(ACTS)
    return [shape], Shape(shape.channels, *draw(GRIDS)), lambda i, o: AdaptivePool(i, o, mode, act)


@st.composite
def binaries(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape, which, act = draw(SHAPES), draw(st.sampled_from(BINARY)), draw(ACTS)
    other = draw(st.sampled_from([shape, Shape(shape.channels), Shape(1, *shape.grid)]))
    return [shape, other], shape, lambda i, o: Binary(i, o, which, act)


@st.composite
def affines(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape, act = draw(SHAPES), draw(ACTS)
    scale, shift = vector(draw, shape.channels), vector(draw, shape.channels)
    return [shape], shape, lambda i, o: Affine(i, o, scale, shift, act)


@st.composite
def concats(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    grid, channels = draw(GRIDS), draw(st.lists(CHANNELS, min_size=1, max_size=4))
    return [Shape(c, *grid) for c in channels], Shape(sum(channels), *grid), lambda i, o: Concat(i, o)


@st.composite
def resizes(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape, mode = draw(SHAPES), draw(st.sampled_from(["nearest", "linear"]))
    scales = [draw(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])) for _ in range(3)]
    sizes = [
        max(1, int(size * scale)) if scale else draw(st.integers(1, 12))
        for size, scale in zip(shape.grid, scales, strict=True)
    ]  # fmt: skip
    align = mode == "linear" and draw(st.booleans())
    return [shape], Shape(shape.channels, *sizes), lambda i, o: Resize(i, o, mode, align, tuple(scales))


@st.composite
def selects(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape = draw(SHAPES)
    start = draw(st.integers(0, shape.channels - 1))
    ranges = st.integers(start, shape.channels - 1).map(lambda end: list(range(start, end + 1)))
    some = st.lists(st.integers(0, shape.channels - 1), min_size=1, max_size=40)
    channels = np.array(draw(st.one_of(ranges, some)), np.int32)
    return [shape], Shape(len(channels), *shape.grid), lambda i, o: Select(i, o, channels)


@st.composite
def softmaxes(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape = draw(SHAPES)
    return [shape], shape, lambda i, o: Softmax(i, o)


@st.composite
def pads(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape, value = draw(SHAPES), draw(SMALL)
    before = [draw(st.integers(-(size - 1) // 2, 3)) for size in shape.grid]
    after = [draw(st.integers(-(size - 1) // 2, 3)) for size in shape.grid]
    sizes = [max(b + size + a, 1) for b, size, a in zip(before, shape.grid, after, strict=True)]
    after = [to - b - size for to, b, size in zip(sizes, before, shape.grid, strict=True)]
    return [shape], Shape(shape.channels, *sizes), lambda i, o: Pad(i, o, tuple(before), tuple(after), value)


@st.composite
def norms(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape, act = draw(SHAPES), draw(ACTS)
    divisors = [g for g in range(1, shape.channels + 1) if shape.channels % g == 0]
    # Torch refuses a norm of one number.
    groups = draw(st.sampled_from([0, *(g for g in divisors if shape.size > g)]))
    weight, bias = vector(draw, shape.channels), vector(draw, shape.channels)
    return [shape], shape, lambda i, o: Norm(i, o, groups, 1e-3, weight, bias, act)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[list[Shape], Shape, Callable[..., Operation]]:
    shape = draw(SHAPES)
    c, d, h, w = shape.channels, *shape.grid
    output = draw(
        st.sampled_from([Shape(c * d * h * w), Shape(c * d, 1, h, w), Shape(w, c, d, h), Shape(1, 1, c, d * h * w)])
    )
    return [shape], output, lambda i, o: Reshape(i, o)


OPERATIONS = {
    "pool": pools(), "adaptive pool": adaptive_pools(), "binary": binaries(), "affine": affines(), "concat": concats(),
    "resize": resizes(), "select": selects(), "softmax": softmaxes(), "pad": pads(), "norm": norms(),
    "reshape": reshapes(),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_operation_computes_what_torch_does(name: str, data: st.DataObject) -> None:
    inputs, output, make = data.draw(OPERATIONS[name])
    program = program_of(inputs, output, make)
    batch, threads = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    # Away from zero: a quotient is compared too.
    images = [
        torch.randn(batch, shape.channels, *shape.grid, generator=generator).abs().add(0.2)
        * torch.randint(0, 2, (batch, shape.channels, *shape.grid), generator=generator).mul(2).sub(1)
        for shape in inputs
    ]
    (expected,) = run_program(program, [image.double() for image in images])
    with Engine(write_program(program), threads) as engine:
        given_images = [image.reshape(batch, *shape) for image, shape in zip(images, engine.input_shapes, strict=True)]
        found = engine(*given_images)
        assert found.shape == (batch, *engine.output_shapes[0])
        assert np.array_equal(found, engine(*given_images))
    np.testing.assert_allclose(found.reshape(expected.shape), expected.numpy(), rtol=2e-5, atol=2e-5)


# From far below to far above, dense near zero.
RANGE = torch.cat([torch.linspace(-110, 110, 4001), torch.linspace(-6, 6, 8001), torch.logspace(-12, 0, 999)])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_accurate_over_its_range(name: str) -> None:
    activation = Activation(name, 0.3, 1.5)
    shape = Shape(1, 1, 1, len(RANGE))
    program = program_of([shape], shape, lambda i, o: Affine(i, o, None, None, activation))
    images = torch.stack([RANGE, -RANGE])[:, None]
    (expected,) = run_program(program, [images.double()])
    with Engine(write_program(program), 1) as engine:
        found = engine(images)
    np.testing.assert_allclose(found, expected.reshape(found.shape).numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_every_instruction_set_computes_the_same(isa: str, tmp_path: Path) -> None:
    shape, grid = Shape(19, 1, 9, 8), (1, 9, 8)
    program = Program()
    a, b, c, d, e, f = (program.value(s) for s in (shape, shape, Shape(19, 1, 4, 4), shape, shape, Shape(38, *grid)))
    program.inputs, program.outputs = [a], [c, f]
    program.operations = [
        Affine((a,), b, np.linspace(-1, 1, 19, dtype=np.float32), None, Activation("gelu")),
        Pool((b,), c, "average", (1, 3, 3), (1, 2, 2), (0, 0, 0)),
        Resize((c,), d, "linear"),
        Norm((d,), e, 0, 1e-5),
        Concat((e, b), f),
    ]
    path, images = tmp_path / "n.hscc", torch.randn(2, 19, 9, 8, generator=torch.Generator().manual_seed(0))
    path.write_bytes(write_program(program))
    np.save(tmp_path / "images.npy", images.numpy())
    code = """
import numpy as np
from hscc.engine import library
from hscc.engine.engine import Engine
from hscc.errors import EngineError
try:
    library.isa()
except EngineError:
    raise SystemExit(7)
np.savez("outputs.npz", *Engine("n.hscc")(np.load("images.npy")))
"""
    paths = {"PYTHONPATH": str(Path(__file__).parents[2]), "HSCC_ENGINE_ISA": isa}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **paths}, check=False)
    if done.returncode == 7 and isa != "portable":
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0
    found = np.load(tmp_path / "outputs.npz")
    for array, expected in zip(found.values(), run_program(program, [images.double()]), strict=True):
        np.testing.assert_allclose(array, expected.reshape(array.shape).numpy(), rtol=1e-5, atol=1e-5)
