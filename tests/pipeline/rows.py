"""Rows of the results table, made and not measured."""

from __future__ import annotations

from typing import Any

from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.statistics.schema import (
    DENSE,
    AskedBudget,
    ClassScores,
    Comparison,
    Estimate,
    Machine,
    NetworkRow,
    OnValidation,
    Requirements,
    Results,
    Timing,
)

SCORE = Estimate(value=0.9, se=0.03, low=0.84, high=0.96)


def row(method: str = "hscc", *, macs: float = 6.0, **changes: Any) -> NetworkRow:
    """Make a row; ``difference``, ``speedups`` (by batch size) and ``val_kl`` are short for what they change."""
    dense = method == DENSE
    value, low, high = changes.pop("difference", (-0.005, -0.02, 0.01))
    speedups = changes.pop("speedups", {1: 2.0})
    against = Comparison(
        against=DENSE, accuracy=Estimate(value=value, se=0.01, low=low, high=high), kl=SCORE, mcnemar_p=0.5
    )
    fields: dict[str, Any] = {
        "method": method,
        "budget": AskedBudget() if dense else AskedBudget(macs=macs),
        "seed": 0,
        "protocol": "grouped",
        "precision": "fp32",
        "role": "baseline" if dense else "compared",
        "n_test": 100,
        "macs": 100,
        "params": 10,
        "macs_ratio": 1.0 if dense else macs,
        "params_ratio": 1.0,
        "size_bytes": 1,
        "model_sha256": "0",
        **dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "ece", "brier", "agreement"), SCORE),
        "kl": Estimate(value=0.1, se=0.01),
        "classes": tuple(ClassScores(name=name, precision=SCORE, recall=SCORE, f1=SCORE) for name in CLASSES),
        "against_dense": None if dense else against,
        "against_global_svd": None,
        "validation": OnValidation(
            score=0.9, kl=changes.pop("val_kl", 0.1), score_before=None, kl_before=None, predicted_loss=None
        ),
        "timings": tuple(timing(batch, speedup) for batch, speedup in speedups.items()),
    }
    return NetworkRow(**{**fields, **changes})


def timing(batch: int, speedup: float, iqr: float = 0.1) -> Timing:
    """Make a timing in ONNX Runtime."""
    return Timing(
        runtime="onnxruntime", batch=batch, ms=3.0, ms_iqr=0.1, speedup=speedup, speedup_iqr=iqr, speedup_se=0.01,
        efficiency=speedup / 6, peak_mb=20.0,
    )  # fmt: skip


def results(*compressed: NetworkRow, **changes: Any) -> Results:
    """Make the results of a dense network and these."""
    fields: dict[str, Any] = {
        "protocol": "grouped",
        "phantom": False,
        "classes": CLASSES,
        "data_hash": "440a20f27877ad996e95c9e6d1d13da5.dir",
        "git_commit": "f" * 40,
        "command": "dvc repro evaluate",
        "seed": 0,
        "resamples": 200,
        "threads": 2,
        "machine": Machine(processor="a processor", cores="2", system="a system"),
        "versions": {},
        "clock": {},
        "requirements": Requirements(max_drop=0.01, min_macs_ratio=2.0, min_speedup=1.0),
        "run_ids": {},
        "headline": {},
        "rows": (row(DENSE, speedups={1: 1.0}), *compressed),
        "seeds": (),
        "comparisons": (),
        "ablation": (),
    }
    return Results(**{**fields, **changes})
