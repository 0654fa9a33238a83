"""Fidelity of every method and control without fine-tuning, at several budgets, on one calibration.

Reads what the stages train and calibrate wrote and measures on the validation split, so the test split stays unread:

    python -m benchmarks.quality                          # all methods at 3x, 6x and 12x fewer MACs
    python -m benchmarks.quality --budgets 6 --methods hscc,global_svd_adaptive
    python -m benchmarks.quality --params 3               # the same MACs with a third of the parameters as well
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import bootstrap
from torch.nn import functional as F

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.calibration.storage import load_calibration
from hscc.errors import BudgetError
from hscc.methods import METHODS
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.data.loading import read_splits
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.names import method_label
from hscc.pipeline.params import read_params
from hscc.training.distillation import teacher_logits


def main(
    methods: Annotated[str, typer.Option(help="Names in hscc.METHODS, with commas; all if empty.")] = "",
    budgets: Annotated[str, typer.Option(help="Times fewer MACs, with commas.")] = "3,6,12",
    params: Annotated[float, typer.Option(help="Times fewer parameters as well; 0 for no such bound.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the clustering.")] = 0,
    protocol: Annotated[str, typer.Option(help="Of the baseline; empty for data.protocol of params.yaml.")] = "",
    moments: Annotated[Path, typer.Option(help="Calibration of that baseline.")] = Path(layout.MOMENTS),
    out: Annotated[Path | None, typer.Option(help="CSV to write.")] = None,
) -> None:
    """Print the table."""
    protocol = protocol or read_params().data.protocol
    dense, card = load_dense(Path(layout.baseline(protocol)) / "model.safetensors")
    calibration = load_calibration(moments)
    _, val = read_splits(read_manifest(Path(layout.MANIFEST)), card.image_size, protocol, Path("."))
    targets = teacher_logits(dense, val)
    labels = torch.from_numpy(val.labels)
    rows = []
    for ratio in (float(budget) for budget in budgets.split(",")):
        for name in methods.split(",") if methods else METHODS:
            started = time.monotonic()
            budget = Budget(ratio, params or None)
            try:
                made = plan(dense, calibration, METHODS[name], budget, seed)
            except BudgetError as error:
                print(f"{name}: {error}")
                continue
            seconds = time.monotonic() - started
            logits = teacher_logits(apply(dense, made), val)
            divergence = F.kl_div(logits.log_softmax(1), targets.log_softmax(1), log_target=True, reduction="none").sum(
                1
            )
            correct = (logits.argmax(1) == labels).double().numpy()
            rows.append(
                {
                    "method": name,
                    "budget": ratio,
                    "macs_ratio": made.dense_macs / made.macs,
                    "params_ratio": made.dense_params / made.params,
                    "loss": made.loss,
                    "kl": float(divergence.mean()),
                    "kl_se": _standard_error(divergence.double().numpy()),
                    "accuracy": correct.mean(),
                    "accuracy_se": _standard_error(correct),
                    "seconds": seconds,
                }
            )
            print(
                f"{name} at {ratio:g}x: KL {rows[-1]['kl']:.4f}, accuracy {rows[-1]['accuracy']:.1%}, {seconds:.1f} s"
            )
    baseline = float((targets.argmax(1) == labels).double().mean())
    title = f"{protocol} protocol, {len(val)} validation images, no fine-tuning; dense accuracy {baseline:.1%}"
    Console(width=118).print(_table(rows, title))
    if out:
        pd.DataFrame(rows).to_csv(out, index=False, float_format="%.6g")


def _standard_error(values: np.ndarray) -> float:
    return float(bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=0).standard_error)


def _table(rows: list[dict], title: str) -> Table:
    table = Table(title=title)
    for heading in ("budget", "method", "MACs", "params", "predicted loss", "KL to dense", "accuracy %"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    previous = None
    for row in rows:
        if previous not in (None, row["budget"]):
            table.add_section()
        previous = row["budget"]
        table.add_row(
            f"{row['budget']:g}x",
            method_label(row["method"]),
            f"{row['macs_ratio']:.2f}x",
            f"{row['params_ratio']:.2f}x",
            f"{row['loss']:.3g}",
            f"{row['kl']:.3f} ± {row['kl_se']:.3f}",
            f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_se']:.1f}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
