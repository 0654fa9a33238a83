"""Opening, calling, measuring and closing engines, from Python and from C."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from hscc.engine import library
from hscc.engine.engine import Engine, OperationTime
from hscc.engine.program import Affine, Binary, Linear, Pool, Program, Shape, Softmax
from hscc.engine.program_file import write_program
from hscc.engine.reference import run_program
from hscc.errors import ArtifactError, EngineError
from tests.engine.test_damaged_files import network

pytestmark = pytest.mark.usefixtures("engine_library")


@pytest.fixture(scope="module")
def content() -> bytes:
    return write_program(network())


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def two_inputs() -> Program:
    program = Program()
    a, b, total, maximum = (program.value(Shape(3, 1, 4, 5)) for _ in range(4))
    program.inputs, program.outputs = [a, b], [total]
    program.operations = [Binary((a, b), maximum, "max"), Binary((maximum, b), total, "sub")]
    return program


def test_a_file_and_its_bytes_compute_what_torch_does(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "network.hscc"
    path.write_bytes(content)
    images = drawn(5, 4, 6, 7)
    expected = run_program(network(), [torch.from_numpy(images)])
    for source in (content, path, str(path)):
        with Engine(source) as engine:
            assert engine.card == {"name": "all operations"}
            assert (engine.input_shapes, engine.output_shapes) == (((4, 6, 7),), ((5,), (8, 3, 4)))
            for found, wanted in zip(engine(images), expected, strict=True):
                np.testing.assert_allclose(found, wanted.reshape(found.shape), rtol=1e-4, atol=1e-4)


def test_arrays_tensors_and_views_are_the_same_images(content: bytes) -> None:
    engine, images = Engine(content, threads=1), drawn(3, 4, 6, 7)
    wanted = engine(images)[0]
    turned = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for same in (torch.from_numpy(images).requires_grad_(), turned, images.astype(np.float64)):
        assert np.array_equal(engine(same)[0], wanted)


def test_several_inputs_are_several_arguments() -> None:
    engine = Engine(write_program(two_inputs()))
    a, b = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, seed=1)
    assert np.array_equal(engine(a, b), np.maximum(a, b) - b)


def test_no_image_gives_no_output(content: bytes) -> None:
    assert [found.shape for found in Engine(content)(drawn(0, 4, 6, 7))] == [(0, 5), (0, 8, 3, 4)]


def test_an_axis_of_one_may_be_spelled_out() -> None:
    program = Program()
    program.inputs, program.outputs = [program.value(Shape(2, 1, 1, 6))], [program.value(Shape(2, 1, 1, 6))]
    program.operations = [Softmax((0,), 1)]
    engine, images = Engine(write_program(program)), drawn(2, 2, 6)
    assert np.array_equal(engine(images[:, :, None]), engine(images))


@pytest.mark.parametrize(
    ("images", "word"),
    [
        ([], "1 input"),
        ([drawn(1, 4, 6, 7)] * 2, "1 input"),
        ([drawn(4, 6, 7)], "shape"),
        ([drawn(1, 3, 6, 7)], "shape"),
        ([drawn(1, 4, 7, 6)], "shape"),
        ([np.zeros((1, 4, 6, 7), np.uint8)], "uint8"),
        ([torch.zeros(1, 4, 6, 7, device="meta")], "meta"),
    ],
)
def test_other_images_are_refused(content: bytes, images: list[np.ndarray], word: str) -> None:
    with pytest.raises(EngineError, match=word):
        Engine(content)(*images)


def test_inputs_of_different_batches_are_refused() -> None:
    with pytest.raises(EngineError, match="different numbers"):
        Engine(write_program(two_inputs()))(drawn(2, 3, 4, 5), drawn(3, 3, 4, 5))


def test_what_cannot_be_opened_is_named(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"absent\.hscc"):
        Engine(tmp_path / "absent.hscc")
    damaged = tmp_path / "damaged.hscc"
    damaged.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match=r"damaged\.hscc"):
        Engine(damaged)
    with pytest.raises(EngineError, match="threads"):
        Engine(content, threads=0)


def test_a_closed_engine_says_so(content: bytes) -> None:
    with Engine(content) as engine:
        pass
    engine.close()
    for call in (lambda: engine(drawn(1, 4, 6, 7)), engine.profile, engine.memory):
        with pytest.raises(EngineError, match="closed"):
            call()


def test_a_profile_has_one_row_per_operation(content: bytes) -> None:
    engine = Engine(content)
    rows = engine.profile(drawn(2, 4, 6, 7), calls=3)
    assert rows[0].operation == "input" and all(isinstance(row, OperationTime) for row in rows)
    assert len(rows) == 1 + len(network().operations) + 2
    assert rows[-1].shape == (8, 3, 4) and sum(row.share for row in rows) == pytest.approx(1)
    assert len(engine.profile()) == len(rows)


def test_a_large_batch_runs_in_parts_and_gives_the_same_bits(content: bytes) -> None:
    engine, images = Engine(content, threads=2), drawn(24, 4, 6, 7)
    whole = engine(images)
    assert engine.memory(24) > engine.memory(8) > engine.memory(6) > engine.memory(1)
    for images_at_once in (8, 6):
        engine.limit_memory(1 << 40)
        engine.limit_memory(engine.memory(images_at_once))
        again = engine(images)
        assert engine.memory(24) == engine.memory(images_at_once)
        parts = [engine(images[i : i + images_at_once]) for i in range(0, 24, images_at_once)]
        for output, found in enumerate(again):
            assert np.array_equal(found, np.concatenate([part[output] for part in parts]))
            np.testing.assert_allclose(found, whole[output], rtol=1e-4, atol=1e-5)
    engine.limit_memory(0)
    assert engine.memory(24) == engine.memory(1) and engine(images)[0].shape == (24, 5)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_bits_from_run_to_run(content: bytes, threads: int) -> None:
    images = drawn(7, 4, 6, 7)
    first = Engine(content, threads)(images)
    engine = Engine(content, threads)
    for batch in (7, 1, 3, 7):  # what other batches left in memory does not matter
        found = engine(images[:batch])
    for a, b in zip(first, found, strict=True):
        assert np.array_equal(a, b)


def test_memory_is_shared_by_values_that_are_not_needed_at_the_same_time() -> None:
    program = Program()
    shape = Shape(16, 1, 32, 32)
    values = [program.value(shape) for _ in range(21)]
    program.inputs, program.outputs = [values[0]], [values[-1]]
    for a, b in pairwise(values):  # every second one can be written in place
        act = (
            Affine((a,), b, np.full(16, 0.9, np.float32))
            if a % 2
            else Pool((a,), b, "max", (1, 3, 3), (1, 1, 1), (0, 1, 1))
        )
        program.operations.append(act)
    engine, images = Engine(write_program(program)), drawn(2, 16, 32, 32)
    assert engine.memory(1) < 2.2 * shape.size * 4
    (expected,) = run_program(program, [torch.from_numpy(images)])
    np.testing.assert_allclose(engine(images), expected[:, :, 0], rtol=1e-5)


def test_a_value_that_is_read_later_is_not_overwritten() -> None:
    program = Program()
    shape = Shape(3, 1, 1, 4)
    a, b, c, d = (program.value(shape) for _ in range(4))
    program.inputs, program.outputs = [a], [d, b]
    program.operations = [
        Affine((a,), b, None, np.ones(3, np.float32)), Affine((b,), c, np.full(3, 2, np.float32)),
        Binary((c, a), d, "add"),
    ]  # fmt: skip
    images = drawn(2, 3, 4)
    found = Engine(write_program(program))(images)
    np.testing.assert_allclose(found[0], 2 * (images + 1) + images, rtol=1e-6)
    np.testing.assert_allclose(found[1], images + 1, rtol=1e-6)


def test_an_input_may_be_an_output() -> None:
    program = Program()
    a, b = program.value(Shape(3, 1, 2, 2)), program.value(Shape(3, 1, 2, 2))
    program.inputs, program.outputs = [a], [a, b, a]
    program.operations = [Affine((a,), b, np.full(3, 2, np.float32))]
    images = drawn(2, 3, 2, 2)
    first, second, third = Engine(write_program(program))(images)
    assert np.array_equal(first, images) and np.array_equal(second, 2 * images) and np.array_equal(third, images)


def test_two_engines_in_two_threads_and_one_engine_in_four(content: bytes) -> None:
    images = [drawn(1 + seed % 3, 4, 6, 7, seed=seed) for seed in range(12)]
    expected = [Engine(content, threads=2)(batch) for batch in images]
    engines = [Engine(content, threads=2) for _ in range(2)]

    def run(job: int) -> None:
        for found, wanted in zip(engines[job % 2](images[job % 12]), expected[job % 12], strict=True):
            assert np.array_equal(found, wanted)

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(run, range(400)))) == 400


def test_closing_waits_for_a_call(content: bytes) -> None:
    engine, images = Engine(content, threads=2), drawn(64, 4, 6, 7)
    expected = engine(images)
    wrong = []

    def call() -> None:
        for _ in range(50):
            try:
                found = engine(images)
            except EngineError:
                return
            wrong.extend(pair for pair in zip(found, expected, strict=True) if not np.array_equal(*pair))

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    engine.close()
    for thread in threads:
        thread.join()
    assert not wrong
    with pytest.raises(EngineError):
        engine(images)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_an_engine_works_in_a_forked_process(content: bytes, tmp_path: Path) -> None:
    code = """
import os, sys
import numpy as np
from hscc.engine.engine import Engine
engine = Engine("n.hscc", threads=2)
images = np.ones((4, 4, 6, 7), np.float32)
first = engine(images)[0]
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(engine(images)[0], first) else 1)
sys.exit(os.waitpid(child, 0)[1])
"""
    (tmp_path / "n.hscc").write_bytes(content)
    paths = {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **paths}, check=True)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_over_calls_and_engines() -> None:
    program = Program()
    program.inputs, program.outputs = [program.value(Shape(8, 1, 4, 4))], [program.value(Shape(3))]
    program.operations = [Linear((0,), 1, drawn(3, 128), drawn(3))]
    content, images = write_program(program), drawn(2, 8, 4, 4)
    engine = Engine(content, threads=2)
    for call in range(10_000):
        engine(images)
        if call % 20 == 0:
            Engine(content, threads=2)(images)
            with pytest.raises(ArtifactError):
                Engine(content[:-1])
        if call == 2000:
            gc.collect()
            before = resident()
    gc.collect()
    assert resident() - before < 4 << 20


def test_a_missing_library_is_named_with_the_command_that_builds_it(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used = os.environ[library.VARIABLE]
    monkeypatch.delenv(library.VARIABLE)
    monkeypatch.setattr(library, "NATIVE", tmp_path / "native")
    library.load_library.cache_clear()
    try:
        assert not library.available()
        with pytest.raises(EngineError, match=r"c\+\+ -std=c\+\+17"):
            Engine(content)
        (tmp_path / "_native.so").write_bytes(b"no library")
        with pytest.raises(EngineError, match="is not the engine's library"):
            Engine(content)
        monkeypatch.setenv(library.VARIABLE, str(tmp_path / "absent.so"))
        with pytest.raises(EngineError, match=library.VARIABLE):
            Engine(content)
        monkeypatch.setenv(library.VARIABLE, used)
        assert library.available()
    finally:
        library.load_library.cache_clear()


def test_the_command_that_builds_the_library_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on a stand-in for the sources, since these take long to compile."""
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    monkeypatch.setattr(library, "NATIVE", tmp_path / "native")
    for name in ("src", "include"):
        (tmp_path / "native" / name).mkdir(parents=True)
    header = (Path(library.__file__).parent / "native" / "include" / "hscc_engine.h").read_text(encoding="utf-8")
    (tmp_path / "native" / "include" / "hscc_engine.h").write_text(header, encoding="utf-8")
    source = '#include "hscc_engine.h"\nconst char* hscc_version(void) { return "7"; }\n'
    (tmp_path / "native" / "src" / "version.cpp").write_text(source, encoding="utf-8")
    subprocess.run(library.build_command(), shell=True, check=True)
    assert (tmp_path / "_native.so").is_file()


def test_the_c_example_prints_what_the_engine_computes(content: bytes, engine_library: Path, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "network.hscc").write_bytes(content)
    command = [
        compiler, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", library.NATIVE / "example.c",
        f"-I{library.NATIVE / 'include'}", engine_library, f"-Wl,-rpath,{engine_library.parent}", "-o", "example",
    ]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(["./example", "network.hscc"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "all operations" in done.stdout and "input 0: N x 4 x 6 x 7" in done.stdout
    count = 4 * 6 * 7
    expected = Engine(content)(np.arange(count, dtype=np.float32).reshape(1, 4, 6, 7) / count)[0]
    found = [float(line.split("= ")[1]) for line in done.stdout.splitlines() if line.startswith("0[")]
    np.testing.assert_allclose(found, expected[0], atol=1e-5)
    failed = subprocess.run(["./example", "absent.hscc"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert failed.returncode == 1 and "absent.hscc" in failed.stderr
