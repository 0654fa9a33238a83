"""A results table of round figures."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
SE = 0.01  # of every figure; intervals are two of them to either side


def around(name: str, value: float, se: float = SE) -> dict[str, float]:
    """Give a figure with its error and interval."""
    return {name: value, f"{name}_se": se, f"{name}_low": value - 2 * se, f"{name}_high": value + 2 * se}


def make_row(method: str, budget: float = 1.0, gain: float = 0.0, **changes: Any) -> Row:
    """Give the row of a network that is so much more accurate than the dense one's 90 %."""
    return {
        "method": method, "budget": budget, "seed": 0, "protocol": "pooled", "precision": "fp32", "n_test": 490,
        "role": "baseline" if method == "dense" else "compared", "macs_ratio": budget, "params_ratio": 2 * budget,
        "size_bytes": 4_000_000, **around("accuracy", 0.9 + gain), **around("accuracy_difference", gain),
        "mcnemar_p": 0.03, "mcnemar_p_holm": 0.2, "kl_to_baseline": 0.02, "val_accuracy": 0.9, "val_kl": 0.02,
        "latency_ms_b1": 3.0, "speedup_b1": budget / 2, "speedup_b1_se": 0.05, "efficiency_b1": 0.5,
        "latency_ms_b16": 30.0, "speedup_b16": budget / 3, "efficiency_b16": 0.3, **changes,
    }  # fmt: skip


def make_pair(against: str, budget: float, gain: float, method: str = "hscc") -> Row:
    """Give a comparison of HSCC with another method."""
    return {
        "method": method, "budget": budget, "seed": 0, "against": against, "mcnemar_p": 0.01,
        **around("accuracy_difference", gain), **around("kl_difference", -gain),
    }  # fmt: skip


def make_document(*rows: Row, **changes: Any) -> Row:
    """Give the content of a results.json of the pooled protocol: the dense network and these."""
    return {
        "protocol": "pooled", "phantom": False, "data_hash": "ab" * 16 + ".dir", "git_commit": "f" * 40,
        "classes": ["a", "b"], "comparisons": [], "ablation": [], "seeds": [], "rows": [make_row("dense"), *rows],
        **changes,
    }  # fmt: skip
