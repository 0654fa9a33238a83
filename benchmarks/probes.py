"""What random directions of the outputs lose against exact sensitivities, and how many are enough.

    python -m benchmarks.probes
    python -m benchmarks.probes --images 64 --no-plans

Uses the outputs of the stage train of the workspace it runs in. The network of a few classes is calibrated exactly and
with single random directions, which are averaged in groups. Divergences are of the validation split.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated
from unittest.mock import patch

import torch
import typer
from rich.console import Console

import hscc
from benchmarks.common import new_table
from benchmarks.engine import Budgets, Workspace
from hscc.budgets.latency_table import this_machine
from hscc.calibration import collect
from hscc.calibration.cache import PlanningCache
from hscc.calibration.moments import LayerMoments, LayerSums
from hscc.pipeline.params import read_params
from hscc.timing.runtimes import ONNXRUNTIME
from hscc.training.images import to_input

Sensitivities = dict[str, torch.Tensor]  # layer to (cells, C_out, C_out)
_PLANNED = (8,)  # averages that plans are made from: as many directions as `calibrate` takes
_METHODS = {"1 region": hscc.HSCC(regions=1, clusters=1), "regions": hscc.HSCC(clusters=1)}


class _Gradients(LayerSums):
    """Sums without the inputs' moments, which take most of the time and depend on no direction."""

    def add_input(self, inputs: torch.Tensor) -> None:
        """Leave them out."""

    def result(self) -> LayerMoments:
        """Return the sensitivities."""
        return LayerMoments(self.count, self.total, None, None, self.sensitivity)


def main(
    images: Annotated[int, typer.Option(help="Calibration images.")] = 128,
    directions: Annotated[int, typer.Option(help="Single directions that are averaged, a power of two.")] = 8,
    budgets: Budgets = "6",
    plans: Annotated[bool, typer.Option(help="Whether to plan with them too, which takes most of the time.")] = True,
) -> None:
    """Print the table."""
    space = Workspace(read_params().data.protocol)
    batches = list(to_input(space.training_images(images, 0)).split(32))
    with nullcontext() if plans else patch.object(collect, "LayerSums", _Gradients):
        exact = hscc.calibrate(space.dense, batches)
    wanted = _sensitivities(exact)
    single = []
    for seed in range(directions):
        with patch.object(collect, "LayerSums", _Gradients):
            single.append(_sensitivities(hscc.calibrate(space.dense, batches, probes=1, seed=seed)))
        Console(stderr=True).print(f"direction {seed + 1} of {directions}: done")
    headings = "G of layers: error %, trace, G of cells: error %"
    ratios = [float(ratio) for ratio in budgets.split(",")] if plans else []
    columns = [f"KL at {ratio:g}x: {name}" for ratio in ratios for name in _METHODS]
    table = new_table(
        f"{images} images, {space.protocol} protocol, {len(space.validation)} validation images, seed 0; "
        f"{this_machine(ONNXRUNTIME)}",
        "probes",
        ", ".join([headings, *columns]),
    )
    table.add_row("exact", "", "1", "", *_divergences(space, exact, ratios))
    for probes in [2**power for power in range(directions.bit_length())]:
        groups = [_mean(single[first : first + probes]) for first in range(0, directions, probes)]
        errors = [_error(group, wanted, whole=True) for group in groups]
        cells = [_error(group, wanted, whole=False) for group in groups]
        figures = (f"{100 * sum(errors) / len(errors):.1f}", f"{_trace(groups[0], wanted):.3f}")
        divergences = _divergences(space, _with(exact, groups[0]), ratios) if probes in _PLANNED else []
        table.add_row(str(probes), *figures, f"{100 * sum(cells) / len(cells):.1f}", *divergences)
        Console(stderr=True).print(f"{probes} probes: done")
    Console(width=150).print(table)


def _divergences(space: Workspace, calibration: hscc.Calibration, ratios: Sequence[float]) -> list[str]:
    found = []
    for ratio in ratios:
        for method in _METHODS.values():
            plan = hscc.plan(space.dense, calibration, method, hscc.Budget(macs=ratio))
            mean, error = space.divergence(hscc.apply(space.dense, plan).eval())
            found.append(f"{mean:.4f} ± {error:.4f}")
    calibration.cache.forget_spectra()
    return found


def _sensitivities(calibration: hscc.Calibration) -> Sensitivities:
    return {name: moments.sensitivity for name, moments in calibration.moments.items()}


def _with(calibration: hscc.Calibration, sensitivities: Sensitivities) -> hscc.Calibration:
    moments = {
        name: replace(own, sensitivity=sensitivities[name]) for name, own in calibration.moments.items()
    }  # fmt: skip
    return replace(calibration, moments=moments, cache=PlanningCache())


def _mean(samples: Sequence[Sensitivities]) -> Sensitivities:
    return {name: sum(sample[name] for sample in samples) / len(samples) for name in samples[0]}  # type: ignore[misc]


def _error(found: Sensitivities, wanted: Sensitivities, whole: bool) -> float:
    """Relative Frobenius error of the layers' or of the cells' second moments, mean over layers."""
    errors = []
    for name, exact in wanted.items():
        one, other = (value.sum(0, keepdim=True) if whole else value for value in (found[name], exact))
        errors.append(float(((one - other).norm(dim=(1, 2)) / other.norm(dim=(1, 2)).clamp_min(1e-30)).mean()))
    return sum(errors) / len(errors)


def _trace(found: Sensitivities, wanted: Sensitivities) -> float:
    """Trace of the second moments relative to the exact ones, mean over layers."""
    ratios = [
        float(found[name].diagonal(dim1=1, dim2=2).sum() / exact.diagonal(dim1=1, dim2=2).sum())
        for name, exact in wanted.items()
    ]
    return sum(ratios) / len(ratios)


if __name__ == "__main__":
    typer.run(main)
