"""What a training step costs with freed memory returned to the system, and with it kept, in alternating processes.

python -m benchmarks.training_step --backbone alexnet --batch 32
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Annotated

import torch
import typer
from torch.nn import functional as F

from benchmarks.common import CLASSES, random_network
from hscc.pipeline.memory import keep_freed
from hscc.training.loop import autocast

_PROCESSES, _STEPS, _WARM_UP = 3, 10, 3


def main(
    backbone: Annotated[str, typer.Option(help="Registered name.")] = "alexnet",
    batch: Annotated[int, typer.Option(help="Images per step.")] = 32,
    size: Annotated[int, typer.Option(help="Image side in pixels.")] = 224,
    memory: Annotated[str, typer.Option(help="Measure in this process: returned or kept.", hidden=True)] = "",
) -> None:
    """Print milliseconds per step and their ratio."""
    if memory:
        if memory == "kept":
            keep_freed()
        print(_step_ms(backbone, batch, size))
        return
    times: dict[str, list[float]] = {"returned": [], "kept": []}
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    settings = ["--backbone", backbone, "--batch", str(batch), "--size", str(size)]
    for _ in range(_PROCESSES):
        for choice, found in times.items():
            command = [sys.executable, "-m", "benchmarks.training_step", *settings, "--memory", choice]
            found.append(float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout))
    returned, kept = (statistics.median(found) for found in times.values())
    print(
        f"{backbone}, {batch} images per step: returned {returned:.0f} ms, kept {kept:.0f} ms, {returned / kept:.2f}x"
    )


def _step_ms(backbone: str, batch: int, size: int) -> float:
    model = random_network(backbone).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,))
    times = []
    for _ in range(_STEPS):
        started = time.perf_counter()
        with autocast("bf16", torch.device("cpu")):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[_WARM_UP:])


if __name__ == "__main__":
    typer.run(main)
