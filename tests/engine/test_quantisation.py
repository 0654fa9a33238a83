from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.engine.program import (
    Activation,
    Convolution,
    Linear,
    Program,
    Quantisation,
    QuantisedConvolution,
    QuantisedLinear,
    QuantisedRegion,
    RegionWeights,
    Shape,
)
from hscc.engine.program_file import read_program, write_program
from hscc.engine.quantisation import choose_quantisation, quantise_program, quantise_rows
from hscc.engine.reference import centred, run_program
from hscc.engine.trace import trace
from hscc.errors import ExportError

ONE = (1, 1, 1)
ALL = {"most_kl": np.inf, "most_difference": np.inf}


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_rows_are_quantised_no_worse_than_by_their_largest_weight(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((rows, columns)) * 10.0 ** rng.integers(-3, 3, (rows, 1))).astype(np.float32)
    integers, scale = quantise_rows(weight)
    error = np.square(integers * scale[:, None] - weight).sum(1)
    whole = np.abs(weight).max(1, keepdims=True) / 127
    assert integers.dtype == np.int8 and np.abs(integers.astype(int)).max() <= 127 and (scale > 0).all()
    assert (error <= np.square(np.rint(weight / whole) * whole - weight).sum(1) * (1 + 1e-4) + 1e-12).all()


def test_a_row_of_zeros_stays_one() -> None:
    integers, scale = quantise_rows(np.zeros((2, 3), np.float32))
    assert not integers.any() and (scale > 0).all()


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50))
@example([8.839006757181721e-39])  # below float32's normal numbers
@settings(max_examples=50, deadline=None)
def test_zero_has_an_integer_and_numbers_stay_within_half_a_step_or_the_cut(numbers: list[float]) -> None:
    sample = np.float32(numbers)
    values = choose_quantisation(sample, float(sample.min()), float(sample.max()))
    assert 0 <= values.zero <= 255 and values.scale > 0
    found = centred(torch.from_numpy(sample), values) * values.scale
    assert float(centred(torch.zeros(1), values)) == 0
    inside = (found > -values.zero * values.scale) & (found < (255 - values.zero) * values.scale)
    assert bool(((found - torch.from_numpy(sample)).abs()[inside] <= values.scale * 0.5001).all())


def test_an_outlier_is_cut_off() -> None:
    sample = np.append(np.random.default_rng(0).standard_normal(500_000), 20).astype(np.float32)
    values = choose_quantisation(sample, float(sample.min()), 20.0)
    assert (255 - values.zero) * values.scale < 15


def convolution_program(seed: int, hidden: int = 6, projected: int = 0, groups: int = 1, regions: int = 2) -> Program:
    """A factored convolution, unevenly scaled hidden channels, with what else the operation can have."""
    rng = np.random.default_rng(seed)

    def array(*sizes: int) -> np.ndarray:
        return rng.standard_normal(sizes).astype(np.float32)

    seen = projected or 8
    width = hidden or 12
    parts = []
    for _ in range(regions):
        core = array(width, 1, 3, 3, seen // groups) * 10.0 ** rng.integers(-2, 3, (width, 1, 1, 1, 1))
        decoder = array(12, hidden) / np.abs(core).max((1, 2, 3, 4)) if hidden else None
        parts.append(
            RegionWeights(core.astype(np.float32), None if decoder is None else decoder.astype(np.float32), array(12))
        )
    parts.append(RegionWeights(None, None, array(12)))
    index = rng.integers(0, len(parts), (1, 5, 5)).astype(np.uint8)
    program = Program([Shape(8, 1, 9, 9), Shape(12, 1, 5, 5), Shape(12, 1, 5, 5), Shape(4)], [0, 1], [3])
    program.operations = [
        Convolution(
            (0, 1), 2, (1, 3, 3), (1, 2, 2), (0, 1, 1), ONE, tuple(parts), groups=groups,
            projection=array(projected, 8) if projected else None,
            permutation=None if projected else rng.permutation(8).astype(np.int32), region_index=index,
            activation=Activation("relu"),
        ),
        Linear((2,), 3, array(4, 7), array(4), array(7, 300) * 0.1),
    ]  # fmt: skip
    return program


def images_of(program: Program, count: int = 4, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [program.values[value] for value in program.inputs]
    return [torch.randn(count, shape.channels, *shape.grid, generator=generator) for shape in shapes]


OPTIONS = st.sampled_from([(6, 0, 1), (6, 0, 2), (0, 0, 2), (6, 4, 1), (4, 8, 2), (0, 6, 1)])


@given(st.integers(0, 999), OPTIONS)
@settings(max_examples=12, deadline=None)
def test_a_quantised_program_computes_nearly_the_same(seed: int, options: tuple[int, int, int]) -> None:
    program = convolution_program(seed, *options)
    done = quantise_program(program, [images_of(program, 64), images_of(program, 64, seed=1)], **ALL)
    assert [type(operation) for operation in done.program.operations] == [QuantisedConvolution, QuantisedLinear]
    assert not done.kept_float
    inputs = images_of(program, 6, seed=2)
    (wanted,), (found,) = run_program(program, inputs), run_program(done.program, inputs)
    assert float((found - wanted).abs().mean() / wanted.abs().mean()) < 0.1
    assert done.divergence.mean < 0.1


@given(st.integers(0, 999), OPTIONS)
@settings(max_examples=12, deadline=None)
def test_reading_gives_what_was_written(seed: int, options: tuple[int, int, int]) -> None:
    program = convolution_program(seed, *options)
    small = quantise_program(program, [images_of(program)], **ALL).program
    content = write_program(small)
    read = read_program(content)
    assert write_program(read) == content
    inputs = images_of(program)
    assert torch.equal(run_program(read, inputs)[0], run_program(small, inputs)[0])


def test_integer_products_are_exact() -> None:
    """By hand: inputs and weights that are integers times their scale, sums beyond what float32 holds."""
    rng = np.random.default_rng(0)
    integers = rng.integers(0, 256, (2, 20_000))
    weight = rng.integers(-127, 128, (3, 20_000)).astype(np.int8)
    program = Program([Shape(20_000), Shape(3)], [0], [1])
    bias, scale = np.zeros(3, np.float32), np.float32([1, 0.5, 2])
    program.operations = [QuantisedLinear((0,), 1, weight, bias, weight_scale=scale, input_values=Quantisation(2, 100))]
    found = run_program(program, [torch.from_numpy(2.0 * (integers - 100))])[0].reshape(2, 3).numpy()
    assert np.array_equal(found, (integers - 100) @ weight.T.astype(np.int64) * scale * 2)


def test_equalising_keeps_small_hidden_channels() -> None:
    """A hidden channel of a thousandth of the others' range would be lost under their scale."""
    rng = np.random.default_rng(0)
    encoder = rng.standard_normal((2, 32)).astype(np.float32) * np.float32([[1000], [1]])
    program = Program([Shape(32), Shape(2)], [0], [1])
    weight = np.float32([[0.001, 1], [-0.001, 1]])
    program.operations = [Linear((0,), 1, weight, np.zeros(2, np.float32), encoder)]
    done = quantise_program(program, [[torch.randn(200, 32, generator=torch.Generator().manual_seed(0))]], **ALL)
    assert done.divergence.mean < 0.03


def test_layers_that_cost_too_much_stay_float() -> None:
    program = convolution_program(0)
    batches = [images_of(program)]
    free = quantise_program(program, batches, **ALL)
    strict = quantise_program(program, batches, most_kl=0.0)
    assert strict.program.operations == program.operations and strict.divergence.largest == 0
    assert [name.split()[:2] for name in strict.kept_float] == [["0", "Convolution"], ["1", "Linear"]]
    assert free.divergence.kl is not None
    some = quantise_program(program, batches, free.divergence.kl * 0.9, np.inf)
    assert some.divergence.kl is not None and some.divergence.kl <= free.divergence.kl * 0.9


def test_a_layer_whose_sums_would_not_fit_stays_float() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(70_000, 2), nn.ReLU(), nn.Linear(2, 4)).eval()
    done = quantise_program(trace(network, [(1, 70_000)]), [[torch.randn(4, 1, 70_000)]], **ALL)
    kinds = [type(operation) for operation in done.program.operations if isinstance(operation, Linear)]
    assert kinds == [Linear, QuantisedLinear]


def test_depthwise_layers_stay_float() -> None:
    network = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3)).eval()
    done = quantise_program(trace(network, [(8, 9, 9)]), [[torch.randn(2, 8, 9, 9)]], **ALL)
    kinds = [type(operation) for operation in done.program.operations]
    assert kinds == [Convolution, QuantisedConvolution] and done.divergence.kl is None


def test_inconsistent_quantisation_is_refused() -> None:
    small = quantise_program(program := convolution_program(0), [images_of(program)], **ALL).program
    convolution, linear = small.operations
    assert isinstance(convolution, QuantisedConvolution) and isinstance(linear, QuantisedLinear)
    region, *others = convolution.regions
    broken = [
        replace(linear, weight_scale=None),
        replace(linear, weight_scale=np.zeros(4, np.float32)),
        replace(linear, hidden_values=None),
        replace(linear, input_values=Quantisation(1.0, 256)),
        replace(linear, weight=linear.weight.astype(np.float32)),
        replace(convolution, regions=(replace(region, core_scale=None), *others)),
        replace(convolution, regions=(replace(region, hidden_values=Quantisation(0.0, 0)), *others)),
        replace(convolution, projection_scale=np.ones(3, np.float32)),
    ]
    for operation in broken:
        place = 1 if isinstance(operation, QuantisedLinear) else 0
        operations = [*small.operations[:place], operation, *small.operations[place + 1 :]]
        with pytest.raises(ExportError):
            write_program(replace(small, operations=operations))


def test_a_float_operation_with_integer_weights_is_refused() -> None:
    program = Program([Shape(2), Shape(1)], [0], [1])
    program.operations = [Linear((0,), 1, np.ones((1, 2), np.int8), np.zeros(1, np.float32))]
    with pytest.raises(ExportError, match="type"):
        write_program(program)


def test_a_region_without_quantised_hidden_values_has_none() -> None:
    program = convolution_program(0, hidden=0)
    small = quantise_program(program, [images_of(program)], **ALL).program
    convolution = read_program(write_program(small)).operations[0]
    assert isinstance(convolution, QuantisedConvolution)
    assert all(isinstance(r, QuantisedRegion) and r.hidden_values is None for r in convolution.regions)


@given(st.integers(0, 999), OPTIONS)
@settings(max_examples=12, deadline=None)
def test_the_engine_computes_the_same_integers(seed: int, options: tuple[int, int, int]) -> None:
    from hscc.engine.engine import Engine
    from hscc.engine.library import available

    if not available():
        pytest.skip("the C++ library is not built")
    program = convolution_program(seed, *options)
    small = quantise_program(program, [images_of(program)], **ALL).program
    inputs = images_of(program, 5, seed=3)
    (wanted,) = run_program(small, inputs)
    with Engine(write_program(small), threads=1) as engine:
        found = engine(*(x.reshape(5, *shape) for x, shape in zip(inputs, engine.input_shapes, strict=True)))
    assert isinstance(found, np.ndarray)
    assert np.abs(found - wanted.flatten(1).numpy()).max() <= 1e-6 * float(wanted.abs().max())


def test_few_images_leave_room_for_others() -> None:
    """A linear layer sees one value per image; the range of 16 images does not hold those of 500."""
    rng = np.random.default_rng(0)
    program = Program([Shape(64), Shape(8)], [0], [1])
    encoder, weight = (rng.standard_normal(sizes).astype(np.float32) for sizes in ((6, 64), (8, 6)))
    program.operations = [Linear((0,), 1, weight, np.zeros(8, np.float32), encoder)]
    images = torch.randn(516, 64, generator=torch.Generator().manual_seed(0))
    small = quantise_program(program, [[images[:16]]], **ALL).program
    (wanted,), (found,) = run_program(program, [images[16:]]), run_program(small, [images[16:]])
    assert float((found - wanted).abs().mean() / wanted.abs().mean()) < 0.03
