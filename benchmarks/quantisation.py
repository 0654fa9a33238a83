"""Accuracy, size and speed of int8 variants by the settings of the quantiser, on the validation split.

python -m benchmarks.quantisation artifacts/cells/hscc-macs6-seed0 artifacts/baseline/grouped
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.common import new_table
from hscc.export.quantisation import Int8, quantise
from hscc.pipeline import layout
from hscc.pipeline.data.images import labels_of, load_images, rows_of
from hscc.pipeline.data.loading import balanced_sample
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.params import Params, read_params
from hscc.pipeline.statistics.metrics import kl_divergence
from hscc.pipeline.statistics.predictions import as_input, predict
from hscc.timing.alternation import time_pair
from hscc.timing.pinning import pinned
from hscc.timing.sessions import bind_session, open_session

THREADS, PAIRS, SECONDS = 2, 30, 3.0
BATCHES = (1, 16)
CHUNK = 16  # calibration images at a time
SETTINGS = {
    "default": (Int8(), 256),
    "hidden channels not rotated": (Int8(rotate=False), 256),
    "QOperator": (Int8(format="qoperator"), 256),
    "one scale per tensor": (Int8(per_channel=False), 256),
    "int8 activations": (Int8(activations="int8"), 256),
    "7-bit weights": (Int8(reduce_range=True), 256),
    "ranges by entropy": (Int8(ranges="entropy"), 256),
    "99.999 % of the range": (Int8(ranges="percentile"), 256),
    "99.9 % of the range": (Int8(ranges="percentile", percentile=99.9), 256),
    "first layer in floats": (Int8(keep_float=(0,)), 256),
    "last layer in floats": (Int8(keep_float=(-1,)), 256),
    "first and last in floats": (Int8(keep_float=(0, -1)), 256),
    "only convolutions and linear layers": (Int8(only_weighted=True), 256),
    "32 images": (Int8(), 32),
    "1024 images": (Int8(), 1024),
}

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Data:
    """Images, labels, the rows of two splits, and the dense network's logits on the validation split."""

    images: Images
    labels: Rows
    train: Rows
    val: Rows
    dense: npt.NDArray[np.float32]

    def batches(self, count: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield calibration images of the training split."""
        rows = self.train[balanced_sample(self.labels[self.train], count, 0)]
        for start in range(0, len(rows), CHUNK):
            yield as_input(np.asarray(self.images[rows[start : start + CHUNK]]))

    def logits(self, model: Path) -> npt.NDArray[np.float32]:
        """Run a network on the validation split."""
        return predict(model, THREADS, self.images, self.val)


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders that hold a model.onnx.")],
    only: Annotated[list[str] | None, typer.Option(help="Names of settings; all by default.")] = None,
) -> None:
    """Print one table per network."""
    data = _read(read_params(layout.PARAMS))
    console = Console(width=150)
    with pinned(THREADS):
        for folder in folders:
            console.print(_compare(data, folder, only or list(SETTINGS)))


def _read(params: Params) -> _Data:
    manifest = read_manifest(layout.MANIFEST)
    images = load_images(manifest, layout.DATA, params.data.image_size, layout.IMAGE_CACHE)
    train, val = (rows_of(manifest, params.data.protocol, split) for split in ("train", "val"))
    dense = predict(layout.baseline(params.data.protocol) / "model.onnx", THREADS, images, val)
    return _Data(images, labels_of(manifest, params.data.classes), train, val, dense)


def _compare(data: _Data, folder: Path, names: list[str]) -> Table:
    source = folder / "model.onnx"
    floats = data.logits(source)
    title = f"{folder.name}: {len(data.val)} validation images, ONNX Runtime, {THREADS} threads"
    speeds = ", ".join(f"× fp32 b{batch}" for batch in BATCHES)
    table = new_table(title, "setting", f"accuracy %, KL to dense, KL to fp32, MB, {speeds}")
    table.add_row("fp32", *_scores(data, floats, floats), f"{source.stat().st_size / 1e6:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            target = Path(scratch) / "int8.onnx"
            settings, images = SETTINGS[name]
            quantise(source, target, data.batches(images), settings)
            size = f"{target.stat().st_size / 1e6:.1f}"
            scores = _scores(data, data.logits(target), floats)
            table.add_row(name, *scores, size, *(_speedup(source, target, batch) for batch in BATCHES))
    return table


def _scores(data: _Data, logits: npt.NDArray[np.float32], floats: npt.NDArray[np.float32]) -> list[str]:
    accuracy = (logits.argmax(axis=1) == data.labels[data.val]).mean()
    to_dense, to_floats = (kl_divergence(reference, logits).mean() for reference in (data.dense, floats))
    return [f"{100 * accuracy:.1f}", f"{to_dense:.4f}", f"{to_floats:.5f}"]


def _speedup(source: Path, target: Path, batch: int) -> str:
    first, second = (bind_session(open_session(path, THREADS), path, batch, 1) for path in (source, target))
    found = time_pair(first, second, PAIRS, SECONDS).speedup
    return f"{found.median:.2f} ±{found.se:.2f}"


if __name__ == "__main__":
    typer.run(main)
