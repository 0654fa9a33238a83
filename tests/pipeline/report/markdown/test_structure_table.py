from __future__ import annotations

from typing import Any

from hscc.pipeline.report.markdown.tables import NONE, tradeoff_grid


def row(clusters: int | str, budget: float, images: int = 768, method: str = "fixed") -> dict[str, Any]:
    return {
        "method": method, "regions": 2, "clusters": clusters, "budget": budget, "images": images, "val_kl": 0.0512,
        "val_kl_se": 0.004, "val_accuracy": 0.901, "val_accuracy_se": 0.024, "speedup_b1": 2.0, "speedup_b16": 1.5,
    }  # fmt: skip


def test_a_structure_has_a_row_and_a_budget_its_columns() -> None:
    rows = [row(4, 3.0), row(4, 6.0), row("auto", 3.0, method="hscc"), row(4, 6.0, images=96)]
    grid = tradeoff_grid({"rows": rows, "batches": [1, 16], "calibration": 768})
    assert grid.header[:4] == ("structure", "3×: KL", "3×: accuracy %", "3×: faster b1 / b16")
    full, searched, small = grid.rows
    assert full == ("2×2 regions, 4 clusters", *("0.051 ± 0.004", "90.1 ± 2.4", "2.00× / 1.50×") * 2)
    assert searched == ("HSCC", *full[1:4], NONE, NONE, NONE)  # a budget out of reach has no figures
    assert small == ("2×2 regions, 4 clusters, 96 images", NONE, NONE, NONE, *full[4:])
