"""How far each runtime's resize is from Pillow's, which training uses, and what it costs.

    python -m benchmarks.resizing [FOLDER]          # the JPEGs below data/ or FOLDER

One row per resize: images and pixels that differ from Pillow's, the largest difference in levels of 255, and the median
milliseconds per image on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.common import new_table
from hscc.export.deployed import dynamic_axes
from hscc.export.preprocessing import PillowResize
from hscc.timing.sessions import open_graph

SIZE = 224
Levels = npt.NDArray[np.uint8]
Resize = Callable[[Levels], Levels]  # (rows, columns) to (SIZE, SIZE)

ANTIALIASED = f"""<ir_version: 10, opset_import: ["": 20]>
resize (uint8[n, 1, rows, columns] image) => (uint8[n, 1, {SIZE}, {SIZE}] square) <int64[2] size = {{{SIZE}, {SIZE}}}>
{{ square = Resize<axes = [2, 3], mode = "linear", antialias = 1>(image, , , size) }}"""


def main(folder: Annotated[Path, typer.Argument(help="Folder with JPEGs.")] = Path("data")) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    table = new_table(
        f"To {SIZE} x {SIZE}, {folder}", "resize", "images that differ, pixels, largest difference, ms per image"
    )
    levels = [np.asarray(Image.open(path).convert("L")) for path in sorted(folder.rglob("*.jpg"))]
    wanted = [pillow(image) for image in levels]
    for name, resize in resizes().items():
        differences, times = [], []
        for image, square in zip(track(levels, name), wanted, strict=True):
            started = time.perf_counter()
            found = resize(image)
            times.append(time.perf_counter() - started)
            differences.append(np.abs(found.astype(int) - square))
        images = sum(int(difference.any()) for difference in differences)
        pixels = sum(int(np.count_nonzero(difference)) for difference in differences)
        largest = max(int(difference.max()) for difference in differences)
        table.add_row(name, f"{images:,}", f"{pixels:,}", str(largest), f"{np.median(times) * 1e3:.2f}")
    Console(width=100).print(table)


def resizes() -> dict[str, Resize]:
    exported = PillowResize(SIZE)
    example = torch.zeros(2, SIZE + 17, SIZE + 5, dtype=torch.uint8)
    axes = {axis: size for axis, size in dynamic_axes()[0].items() if axis < 3}
    program = torch.onnx.export(exported, (example,), dynamo=True, verbose=False, dynamic_shapes=(axes,))
    assert program is not None
    return {
        "Pillow": pillow,
        "ONNX Runtime's Resize": partial(run, open_graph(onnx.parser.parse_model(ANTIALIASED), threads=1), (1, 1)),
        "torch's interpolate": interpolate,
        "exported, torch": lambda image: exported(torch.tensor(image)[None])[0].numpy(),
        "exported, ONNX Runtime": partial(run, open_graph(program.model_proto, threads=1), (1,)),
    }


def pillow(image: Levels) -> Levels:
    return np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def interpolate(image: Levels) -> Levels:
    pixels = torch.tensor(image)[None, None]
    square = torch.nn.functional.interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    return square[0, 0].numpy()


def run(of: onnxruntime.InferenceSession, leading: tuple[int, ...], image: Levels) -> Levels:
    (square,) = of.run(None, {of.get_inputs()[0].name: image.reshape(*leading, *image.shape)})
    return square.reshape(SIZE, SIZE)


if __name__ == "__main__":
    typer.run(main)
