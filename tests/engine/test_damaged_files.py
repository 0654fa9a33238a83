"""Files that are damaged or made to harm, read by a build with AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import selectors
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hscc.engine.program import (
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
    Quantisation,
    QuantisedConvolution,
    QuantisedLinear,
    QuantisedRegion,
    RegionWeights,
    Reshape,
    Resize,
    Select,
    Shape,
    Softmax,
)
from hscc.engine.program_file import write_program
from tests.engine.builds import fuzz
from tests.engine.test_simple_ops import OPERATIONS, program_of

OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


class Driver:
    """The sanitized program as a process that answers one line per file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process: subprocess.Popen[bytes] | None = None
        self.log = tempfile.TemporaryFile()  # noqa: SIM115

    def __call__(self, content: bytes) -> str:
        if self.process is None:
            self.process = subprocess.Popen(
                [self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                env={**os.environ, **OPTIONS},
            )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(struct.pack("<Q", len(content)) + content)
        self.process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(timeout=900), "no answer"
        answer = self.process.stdout.readline().decode(errors="replace").strip()
        if not answer:
            code = self.process.wait()
            self.process = None
            raise AssertionError(f"it died with {code}: {self._said()}")
        return answer

    def close(self) -> None:
        if self.process is not None:
            assert self.process.stdin and self.process.stdout
            self.process.stdin.close()
            self.process.stdout.close()
            assert self.process.wait(900) == 0, self._said()  # leaks are found at its end

    def _said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-4000:]


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    made = Driver(fuzz())
    yield made
    made.close()


def network() -> Program:
    """Every operation once, with regions, a residual, groups, a permutation and low ranks."""
    rng = np.random.default_rng(0)
    program = Program(card={"name": "all operations"})

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    def bytes_(*shape: int) -> np.ndarray:
        return rng.integers(-128, 128, shape).astype(np.int8)

    def scales(rows: int) -> np.ndarray:
        return rng.uniform(0.001, 0.01, rows).astype(np.float32)

    def add(shape: Shape, make: Callable[[int], Operation]) -> int:
        output = program.value(shape)
        program.operations.append(make(output))
        return output

    x = program.value(Shape(4, 1, 6, 7))
    program.inputs = [x]
    grid, ones, pad = Shape(4, 1, 6, 7), (1, 1, 1), (0, 1, 1)
    region = RegionWeights(weights(3, 1, 3, 3, 2), weights(4, 3), weights(4))
    whole = RegionWeights(weights(4, 1, 3, 3, 2), None, weights(4))
    empty = RegionWeights(None, None, weights(4))
    index = rng.integers(0, 3, (1, 6, 7)).astype(np.uint8)
    relu = Activation("relu")
    a = add(
        grid,
        lambda o: Convolution(
            (x, x), o, (1, 3, 3), ones, pad, ones, (region, whole, empty), projection=weights(2, 4), region_index=index,
            activation=relu,
        ),
    )  # fmt: skip
    order = np.array([2, 0, 3, 1], np.int32)
    plain = RegionWeights(weights(4, 1, 3, 3, 1), None, weights(4))
    b = add(grid, lambda o: Convolution((a,), o, (1, 3, 3), ones, pad, ones, (plain,), groups=4, permutation=order))
    c = add(Shape(4, 1, 3, 4), lambda o: Pool((b,), o, "max", (1, 3, 3), (1, 2, 2), pad))
    d = add(Shape(4, 1, 2, 2), lambda o: AdaptivePool((c,), o, "average"))
    e = add(Shape(4, 1, 3, 4), lambda o: Resize((d,), o, "linear"))
    f = add(Shape(4, 1, 3, 4), lambda o: Binary((e, c), o, "mul", Activation("silu")))
    g = add(Shape(8, 1, 3, 4), lambda o: Concat((f, c), o))
    h = add(Shape(8, 1, 3, 4), lambda o: Norm((g,), o, 2, 1e-5, weights(8), weights(8), Activation("gelu")))
    i = add(Shape(3, 1, 3, 4), lambda o: Select((h,), o, np.array([7, 0, 3], np.int32)))
    j = add(Shape(3, 1, 3, 4), lambda o: Affine((i,), o, weights(3), None, Activation("tanh")))
    k = add(Shape(3, 1, 4, 3), lambda o: Pad((j,), o, (0, 1, 0), (0, 0, -1), 0.5))
    m = add(Shape(9, 1, 1, 4), lambda o: Reshape((k,), o))
    n = add(Shape(5), lambda o: Linear((m,), o, weights(5, 2), weights(5), weights(2, 36), relu))
    low = QuantisedRegion(
        bytes_(3, 1, 3, 3, 1), bytes_(4, 3), weights(4), scales(3), scales(4), Quantisation(0.03, 100)
    )
    high = QuantisedRegion(bytes_(4, 1, 3, 3, 1), None, weights(4), scales(4))
    eight = add(
        grid,
        lambda o: QuantisedConvolution(
            (a, b), o, (1, 3, 3), ones, pad, ones, (low, QuantisedRegion(None, None, weights(4)), high), (1, 1, 2),
            projection=bytes_(1, 4), region_index=index, projection_scale=scales(1), input_values=Quantisation(0.02, 7),
            projected_values=Quantisation(0.01, 255),
        ),
    )  # fmt: skip
    small = add(
        Shape(5),
        lambda o: QuantisedLinear(
            (eight, n), o, bytes_(5, 3), weights(5), bytes_(3, 168), weight_scale=scales(5), encoder_scale=scales(3),
            hidden_values=Quantisation(0.1, 128),
        ),
    )  # fmt: skip
    p = add(Shape(5), lambda o: Softmax((small,), o))
    program.outputs = [p, h]
    return program


WHOLE = write_program(network())
CARD, PROGRAM, WEIGHTS = struct.unpack_from("<3Q", WHOLE, 16)
START = 40 + CARD  # of the program


def sealed(content: bytes) -> bytes:
    """With the checksum that goes with it, so that the checks behind it are reached."""
    return content[:12] + struct.pack("<I", zlib.crc32(content[16:])) + content[16:]


def resized(program: bytes) -> bytes:
    """With another program, at the sizes that go with it."""
    before = WHOLE[40:START] + program
    weights = WHOLE[len(WHOLE) - WEIGHTS :]
    sizes = struct.pack("<3Q", CARD, len(program), WEIGHTS)
    return sealed(WHOLE[:16] + sizes + before + bytes(-(40 + len(before)) % 64) + weights)


def test_the_network_runs(driver: Driver) -> None:
    assert driver(WHOLE).startswith("run")
    assert driver(write_program(network(), "float16")).startswith("run")
    assert driver(write_program(network(), "bfloat16")).startswith("run")


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_drawn_operations_run_clean(driver: Driver, name: str, data: st.DataObject) -> None:
    assert driver(write_program(program_of(*data.draw(OPERATIONS[name])))).startswith("run")


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, len(WHOLE) - 1))
def test_a_cut_file_is_refused(driver: Driver, length: int) -> None:
    assert driver(WHOLE[:length]).startswith("error")


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(driver: Driver, place: int, bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[place] ^= 1 << bit
    assert driver(bytes(damaged)).startswith("error")


WORDS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7F800000, 0x7FC00000, 0x10000, 0xFFFF]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 40),
)


@settings(max_examples=400, deadline=None)
@given(words=st.lists(st.tuples(st.integers(0, PROGRAM // 4 - 1), WORDS), min_size=1, max_size=3))
def test_other_numbers_in_the_program_do_no_harm(driver: Driver, words: list[tuple[int, int]]) -> None:
    program = bytearray(WHOLE[START : START + PROGRAM])
    for place, word in words:
        struct.pack_into("<I", program, 4 * place, word)
    assert driver(resized(bytes(program))).split()[0] in ("error", "run", "large")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_inserted_and_removed_bytes_do_no_harm(driver: Driver, data: st.DataObject) -> None:
    program = WHOLE[START : START + PROGRAM]
    start, end = sorted(data.draw(st.tuples(st.integers(0, PROGRAM), st.integers(0, PROGRAM))))
    changed = (
        program[:start] + data.draw(st.binary(max_size=12)) + program[min(end, start + data.draw(st.integers(0, 12))) :]
    )
    assert driver(resized(changed)).split()[0] in ("error", "run", "large")


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 39), number=st.binary(min_size=1, max_size=8))
def test_another_header_is_refused(driver: Driver, place: int, number: bytes) -> None:
    changed = WHOLE[:place] + number[: 40 - place] + WHOLE[min(place + len(number), 40) :]
    answer = driver(sealed(changed))
    assert answer.startswith("error") or sealed(changed) == WHOLE


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, WEIGHTS // 4 - 1), word=WORDS)
def test_other_weights_do_no_harm(driver: Driver, place: int, word: int) -> None:
    changed = bytearray(WHOLE)
    struct.pack_into("<I", changed, len(WHOLE) - WEIGHTS + 4 * place, word)
    assert driver(sealed(bytes(changed))).split()[0] in ("error", "run")


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *(number & 0xFFFFFFFF for number in numbers))


VALUE = u32(2, 1, 1, 3)  # a shape
ENDS = u32(1, 0) + u32(1, 1)  # value 0 is the input, 1 the output
RELU = u32(6, 1, 0, 1) + u32(1, 1) + u32(2, 0, 0) + u32(2) + u32(0, 0, 0, 0, 0) * 2


@pytest.mark.parametrize(
    ("program", "word"),
    [
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU, "run"),
        (b"", "values"),
        (u32(2**32 - 1) + VALUE * 2, "values"),
        (u32(2) + VALUE + u32(2, 1, 0, 3) + ENDS + u32(1) + RELU, "value 1"),
        (u32(2) + VALUE + u32(2, 1, -1, 3) + ENDS + u32(1) + RELU, "value 1"),
        (u32(2) + VALUE + u32(2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1) + ENDS + u32(1) + RELU, "value 1"),
        (u32(2) + VALUE * 2 + u32(0) + u32(1, 1) + u32(1) + RELU, "no input"),
        (u32(2) + VALUE * 2 + u32(1, 0) + u32(0) + u32(1) + RELU, "no output"),
        (u32(2) + VALUE * 2 + u32(1, 7) + u32(1, 1) + u32(1) + RELU, "value 7"),
        (u32(2) + VALUE * 2 + u32(2, 0, 0) + u32(1, 1) + u32(1) + RELU, "written before"),
        (u32(2) + VALUE * 2 + ENDS + u32(2) + RELU * 2, "written before"),
        (u32(2) + VALUE * 2 + u32(1, 1) + u32(1, 1) + u32(1) + RELU, "before it is written"),
        (u32(2) + VALUE * 2 + ENDS + u32(0), "before it is written"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + u32(99) + RELU[4:], "kind 99"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU + u32(0), "too many"),
        (u32(2) + VALUE * 2 + ENDS + u32(9) + RELU, "operations"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU[:-40] + u32(9, 0, 0, 0, 0) * 2, "type, 9"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU[:-40] + u32(0, 4, 0, 2, 0) * 2, "multiple of 64"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU[:-40] + u32(0, 64, -1, 2, 0) * 2, "outside"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU[:-40] + u32(0, 0, 0, 2, 2**30) * 2, "outside"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU[:-40] + u32(0, -64, -1, 64, 0) * 2, "outside"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU[:-40] + u32(0, 0, 0, 3, 0) * 2, "channels"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU.replace(u32(2, 0, 0), u32(2, 0x7FC00000, 0), 1), "not a number"),
        (u32(2) + VALUE * 2 + ENDS + u32(1) + RELU[:20] + u32(77) + RELU[24:], "activation"),
        (u32(2) + VALUE + u32(3, 1, 1, 2) + ENDS + u32(1) + RELU, "shape"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(driver: Driver, program: bytes, word: str) -> None:
    assert word in driver(resized(program))


def test_weights_that_are_not_finite_are_refused(driver: Driver) -> None:
    for number in (0x7F800000, 0xFF800000, 0x7FC00001):
        changed = bytearray(WHOLE)
        struct.pack_into("<I", changed, len(WHOLE) - WEIGHTS, number)
        assert "not a number" in driver(sealed(bytes(changed)))


def test_a_network_larger_than_the_machine_is_refused(driver: Driver) -> None:
    huge = u32(2**10, 2**10, 2**10, 1)
    operations = b"".join(u32(6, 1, i, i + 1) + RELU[16:] for i in range(600))
    outputs = u32(601, *range(601))
    assert "memory" in driver(resized(u32(601) + huge * 601 + u32(1, 0) + outputs + u32(600) + operations))
