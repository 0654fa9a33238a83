from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.engine.program import (
    ACTIVATIONS,
    BINARY,
    Activation,
    AdaptivePool,
    Affine,
    Binary,
    Concat,
    Convolution,
    Linear,
    Norm,
    Operation,
    Pad,
    Pool,
    Program,
    RegionWeights,
    Reshape,
    Resize,
    Select,
    Shape,
    Softmax,
)
from hscc.engine.program_file import WEIGHT_FORMATS, load_program, read_program, save_program, write_program
from hscc.engine.reference import run_program
from hscc.errors import ArtifactError, ExportError

ONE, NONE = (1, 1, 1), (0, 0, 0)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """One of each operation on values of drawn sizes, with drawn options."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))

    def array(*sizes: int) -> np.ndarray:
        return rng.standard_normal(sizes).astype(np.float32)

    def activation() -> Activation:
        name = draw(st.sampled_from(ACTIVATIONS))
        return Activation(name, *{"clip": (-0.5, 0.75), "leaky_relu": (0.25, 0.0), "elu": (0.5, 0.0)}.get(name, (0, 0)))

    shape = Shape(2 * draw(st.integers(1, 4)), *(draw(st.integers(1, 5)) for _ in range(3)))
    program = Program(card={"classes": ["ein", "зwei"], "scores": {"f1": 0.5}})
    program.inputs = [program.value(shape), program.value(shape)]

    def add(kind: type[Operation], output: Shape, *inputs: int, **options: object) -> int:
        value = program.value(output)
        program.operations.append(kind(inputs, value, **options))
        return value

    channels, outputs, grid = shape.channels, draw(st.integers(1, 3)) * 2, shape.grid
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(3))
    pad = tuple(k // 2 for k in kernel)
    count = draw(st.integers(1, 3))
    projected = 2 * draw(st.integers(0, 2))
    groups = draw(st.sampled_from([1, 2]))
    seen = (projected or channels) // groups
    regions = []
    for _ in range(count):
        hidden = draw(st.sampled_from([-1, 0, 2, 4]))
        core = None if hidden < 0 else array(hidden or outputs, *kernel, seen)
        regions.append(RegionWeights(core, array(outputs, hidden) if hidden > 0 else None, array(outputs)))
    permutation = rng.permutation(channels).astype(np.int32) if not projected and draw(st.booleans()) else None
    index = rng.integers(0, count, grid).astype(np.uint8) if count > 1 or draw(st.booleans()) else None
    wide = Shape(outputs, *grid)
    first = add(
        Convolution, wide, 0, kernel=kernel, stride=ONE, pad=pad, dilation=ONE, regions=tuple(regions), groups=groups,
        projection=array(projected, channels) if projected else None, permutation=permutation, region_index=index,
        activation=activation(),
    )  # fmt: skip
    doubled = Shape(outputs, *(2 * size for size in grid))
    core = RegionWeights(array(outputs, 1, 1, 1, outputs), None, array(outputs))
    phases = np.indices(doubled.grid).sum(0).astype(np.uint8) % 2
    fine = add(
        Convolution, doubled, first, kernel=ONE, stride=ONE, pad=NONE, dilation=ONE,
        regions=(core, RegionWeights(None, None, array(outputs))), up=(2, 2, 2), region_index=phases,
    )  # fmt: skip
    up = add(Resize, doubled, first, mode=draw(st.sampled_from(["nearest", "linear"])), scale=(2.0, 0.0, 2.0))
    up = add(Binary, doubled, up, fine, which="add", activation=activation())
    pooled = add(
        Pool, wide, up, mode=draw(st.sampled_from(["max", "average"])), kernel=(2, 2, 2), stride=(2, 2, 2), pad=NONE,
        count_include_pad=draw(st.booleans()), activation=activation(),
    )  # fmt: skip
    joined = add(Binary, wide, pooled, first, which=draw(st.sampled_from(BINARY[:3])), activation=activation())
    scaled = add(
        Affine, wide, joined, scale=draw(st.sampled_from([None, array(outputs)])), shift=array(outputs),
        activation=activation(),
    )  # fmt: skip
    normed = add(
        Norm, wide, scaled, groups=draw(st.sampled_from([0, 1, 2])), eps=2.0**-10, weight=array(outputs),
        bias=draw(st.sampled_from([None, array(outputs)])), activation=activation(),
    )  # fmt: skip
    both = add(Concat, Shape(2 * outputs, *grid), normed, first)
    chosen = add(Select, wide, both, channels=rng.integers(0, 2 * outputs, outputs).astype(np.int32))
    padded = Shape(outputs, grid[0] + 1, grid[1] + 2, grid[2])
    padded_value = add(Pad, padded, chosen, before=(1, 0, 0), after=(0, 2, 0), value=draw(st.floats(-2, 2, width=32)))
    small = add(AdaptivePool, Shape(outputs, 1, 2, 1), padded_value, mode="average", activation=activation())
    probabilities = add(Softmax, Shape(outputs, 1, 2, 1), small)
    flat = add(Reshape, Shape(2 * outputs), probabilities)
    hidden = draw(st.sampled_from([0, 3]))
    last = add(
        Linear, Shape(5), flat, weight=array(5, hidden or 2 * outputs), bias=array(5), activation=activation(),
        encoder=array(hidden, 2 * outputs) if hidden else None,
    )  # fmt: skip
    program.outputs = [last, joined]
    return program


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Operation | RegionWeights):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return a == b


@given(programs())
@settings(max_examples=25, deadline=None)
def test_reading_gives_what_was_written(program: Program) -> None:
    content = write_program(program)
    found = read_program(content)
    assert (found.values, found.inputs, found.outputs, found.card) == (
        program.values, program.inputs, program.outputs, program.card,
    )  # fmt: skip
    assert same(tuple(found.operations), tuple(program.operations))
    assert write_program(found) == content


@given(programs())
@settings(max_examples=15, deadline=None)
def test_the_engine_computes_what_the_reference_says(program: Program) -> None:
    from hscc.engine.engine import Engine
    from hscc.engine.library import available

    if not available():
        pytest.skip("the C++ library is not built")
    generator = torch.Generator().manual_seed(0)
    shape = program.values[program.inputs[0]]
    inputs = [torch.randn(3, shape.channels, *shape.grid, generator=generator) for _ in program.inputs]
    wanted = run_program(program, [given.double() for given in inputs])
    with Engine(write_program(replace(program, card={})), threads=2) as engine:
        found = engine(*(given.reshape(3, *shape_) for given, shape_ in zip(inputs, engine.input_shapes, strict=True)))
    for a, b in zip(found, wanted, strict=True):
        assert np.abs(a.reshape(b.shape) - b.numpy()).max() <= 1e-4 * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_narrow_weights_are_the_nearest_of_their_format(weights: str) -> None:
    program = _linear_program(np.float32([[1.0, 1 / 3, -2.7182817, 65000.0]]))
    read = read_program(write_program(program, weights)).operations[0]  # type: ignore[arg-type]
    assert isinstance(read, Linear)
    wanted = torch.from_numpy(program.operations[0].weight).to(getattr(torch, weights)).float()  # type: ignore[attr-defined]
    assert np.array_equal(read.weight, wanted.numpy())


def test_a_weight_beyond_the_format_is_refused() -> None:
    with pytest.raises(ExportError, match="float16"):
        write_program(_linear_program(np.float32([[70000.0]])), "float16")
    with pytest.raises(ExportError, match="not finite"):
        write_program(_linear_program(np.float32([[np.nan]])))
    with pytest.raises(ExportError, match="int4"):
        write_program(_linear_program(np.float32([[1.0]])), "int4")  # type: ignore[arg-type]


def _linear_program(weight: np.ndarray) -> Program:
    program = Program([Shape(weight.shape[1]), Shape(len(weight))], [0], [1])
    program.operations.append(Linear((0,), 1, weight, np.zeros(len(weight), np.float32)))
    return program


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_refused(data: st.DataObject) -> None:
    content = bytearray(write_program(_linear_program(np.float32([[1.0, 2.0]]))))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ArtifactError):
        read_program(bytes(content))


def test_a_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "some" / "network.hscc"
    with pytest.raises(ArtifactError, match=r"network\.hscc"):
        load_program(path)
    save_program(_linear_program(np.float32([[1.0, 2.0]])), path)
    assert load_program(path).values == [Shape(2), Shape(1)]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"network\.hscc.*bytes"):
        load_program(path)
    path.write_bytes(b"something else")
    with pytest.raises(ArtifactError, match="not an engine file"):
        load_program(path)


def test_an_inconsistent_program_is_refused() -> None:
    program = _linear_program(np.float32([[1.0, 2.0]]))
    for broken in (
        replace(program, outputs=[2]),
        replace(program, outputs=[]),
        replace(program, values=[Shape(3), Shape(1)]),
        replace(program, operations=[replace(program.operations[0], inputs=(1,))]),
        replace(program, operations=[*program.operations, *program.operations]),
        replace(program, values=[Shape(2, 0), Shape(1)]),
        replace(program, operations=[replace(program.operations[0], activation=Activation("mish"))]),
    ):
        with pytest.raises(ExportError):
            write_program(broken)
