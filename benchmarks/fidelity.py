"""Fidelity of every method and control before fine-tuning, at several budgets, on one calibration.

    python -m benchmarks.fidelity
    python -m benchmarks.fidelity --budgets 6 --methods hscc,global_svd_adaptive
    python -m benchmarks.fidelity --params 3

Uses the outputs of the stages train and calibrate and the validation split; the test split stays unread.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import bootstrap
from torch.nn import functional as F

import hscc
from benchmarks.common import new_table
from hscc.calibration.storage import load_calibration
from hscc.errors import BudgetError
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.data.loading import read_splits
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.names import method_label
from hscc.pipeline.params import read_params
from hscc.training.agreement import split_logits


def main(
    methods: Annotated[str, typer.Option(help="Names in hscc.METHODS, separated by commas; all if empty.")] = "",
    budgets: Annotated[str, typer.Option(help="Times fewer MACs, separated by commas.")] = "3,6,12",
    params: Annotated[float, typer.Option(help="Times fewer parameters as well; 0 for no such bound.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the clustering.")] = 0,
    protocol: Annotated[str, typer.Option(help="Split protocol; empty for data.protocol of params.yaml.")] = "",
    moments: Annotated[Path, typer.Option(help="Calibration of that protocol's baseline.")] = Path(layout.MOMENTS),
    out: Annotated[Path | None, typer.Option(help="CSV to write.")] = None,
) -> None:
    """Print the table."""
    protocol = protocol or read_params().data.protocol
    dense, card = load_dense(Path(layout.baseline(protocol)) / "model.safetensors")
    calibration = load_calibration(moments)
    _, val = read_splits(read_manifest(Path(layout.MANIFEST)), card, protocol, Path("."))
    targets, labels = split_logits(dense, val), torch.from_numpy(val.labels)
    rows: list[dict[str, Any]] = []
    for ratio in (float(budget) for budget in budgets.split(",")):
        for name in methods.split(",") if methods else hscc.METHODS:
            started = time.monotonic()
            try:
                plan = hscc.plan(dense, calibration, hscc.METHODS[name], hscc.Budget(ratio, params or None), seed)
            except BudgetError as error:
                print(f"{name}: {error}")
                continue
            seconds = time.monotonic() - started
            logits = split_logits(hscc.apply(dense, plan), val)
            terms = F.kl_div(logits.log_softmax(1), targets.log_softmax(1), log_target=True, reduction="none")
            divergence, correct = terms.sum(1).double().numpy(), (logits.argmax(1) == labels).double().numpy()
            rows.append(
                {
                    "method": name,
                    "budget": ratio,
                    "macs_ratio": plan.dense_macs / plan.macs,
                    "params_ratio": plan.dense_params / plan.params,
                    "loss": plan.loss,
                    "kl": divergence.mean(),
                    "kl_se": _standard_error(divergence),
                    "accuracy": correct.mean(),
                    "accuracy_se": _standard_error(correct),
                    "seconds": seconds,
                }
            )
            print(f"{name} at {ratio:g}x: KL {divergence.mean():.4f}, accuracy {correct.mean():.1%}, {seconds:.1f} s")
    accuracy = float((targets.argmax(1) == labels).double().mean())
    title = f"{protocol} protocol, {len(val)} validation images, no fine-tuning; dense accuracy {accuracy:.1%}"
    Console(width=118).print(_table(rows, title))
    if out:
        pd.DataFrame(rows).to_csv(out, index=False, float_format="%.6g")


def _standard_error(values: np.ndarray) -> float:
    return float(bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=0).standard_error)


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = new_table(title, "method", "budget, MACs, params, predicted loss, KL to dense, accuracy %")
    previous = None
    for row in rows:
        if previous not in (None, row["budget"]):
            table.add_section()
        previous = row["budget"]
        table.add_row(
            method_label(row["method"]),
            f"{row['budget']:g}x",
            f"{row['macs_ratio']:.2f}x",
            f"{row['params_ratio']:.2f}x",
            f"{row['loss']:.3g}",
            f"{row['kl']:.3f} ± {row['kl_se']:.3f}",
            f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_se']:.1f}",
        )
    return table


if __name__ == "__main__":
    typer.run(main)
