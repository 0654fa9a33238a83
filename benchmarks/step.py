"""What a training step of a backbone costs, with memory given back after each step and with memory kept, in turn.

python -m benchmarks.step --backbone alexnet --batch 32
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

from hscc.networks.backbones import build, initialise
from hscc.pipeline.memory import keep_freed
from hscc.training.loop import autocast

_ROUNDS = 3


def main(
    backbone: Annotated[str, typer.Option(help="Name in the registry of backbones.")] = "alexnet",
    batch: Annotated[int, typer.Option(help="Images a step.")] = 32,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 224,
    kept: Annotated[str, typer.Option(help="Measure one of them in this process: yes or no.", hidden=True)] = "",
) -> None:
    """Print milliseconds a step and the ratio."""
    if kept:
        if kept == "yes":
            keep_freed()
        print(_step(backbone, batch, size))
        return
    found: dict[str, list[float]] = {"no": [], "yes": []}
    for _ in range(_ROUNDS):
        for choice, times in found.items():
            command = [sys.executable, "-m", "benchmarks.step", "--backbone", backbone, "--batch", str(batch)]
            command += ["--size", str(size), "--kept", choice]
            environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
            times.append(float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout))
    given, stays = (statistics.median(times) for times in found.values())
    print(f"{backbone}, {batch} images a step: given back {given:.0f} ms, kept {stays:.0f} ms, {given / stays:.2f}x")


def _step(backbone: str, batch: int, size: int) -> float:
    model = build(backbone, 4)
    initialise(model)
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 4, (batch,))
    times = []
    for _ in range(10):
        started = time.perf_counter()
        with autocast("bf16", torch.device("cpu")):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[3:])


if __name__ == "__main__":
    typer.run(main)
