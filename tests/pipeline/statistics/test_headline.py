from __future__ import annotations

from typing import Any

import pytest

from hscc.pipeline.statistics.results import headline, recommended, signed

DENSE = {
    "method": "dense", "budget": 1.0, "seed": 0, "protocol": "grouped", "accuracy": 0.924, "accuracy_se": 0.012,
}  # fmt: skip


def row(**changes: Any) -> dict[str, Any]:
    return {
        "method": "hscc", "budget": 6.0, "seed": 0, "protocol": "grouped", "n_test": 470,
        "macs_ratio": 6.02, "speedup_b1": 2.1, "speedup_b1_iqr": 0.1, "accuracy": 0.912, "accuracy_se": 0.013,
        "accuracy_difference": -0.012, "accuracy_difference_se": 0.009, "accuracy_difference_low": -0.03,
        "accuracy_difference_high": 0.006, "val_accuracy": 0.93, "val_kl": 0.05, **changes,
    }  # fmt: skip


def test_gain_and_cost_are_told_with_errors() -> None:
    assert headline([DENSE, row()], "grouped") == (
        "HSCC, 6×: 6.0 times fewer MACs, 2.1 times faster one image at a time; test accuracy 91.2 ± 1.3 % against "
        "92.4 ± 1.2 % of the dense network, −1.2 ± 0.9 points: within noise on 470 images."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy_difference_high": -0.001}, "a loss beyond noise"),
        ({"accuracy_difference": 0.03, "accuracy_difference_low": 0.01, "accuracy_difference_high": 0.05}, "a gain"),
        (
            {"speedup_b1": 1.02, "speedup_b1_iqr": 0.06},
            "a speed-up of 1.02 one image at a time, which the clock (IQR 0.06) cannot tell from 1",
        ),
        ({"speedup_b1": 0.8}, "1.2 times slower"),
        ({"speedup_b1": None}, "not timed"),
    ],
)
def test_the_headline_is_honest(changes: dict[str, Any], words: str) -> None:
    assert words in headline([DENSE, row(**changes)], "grouped")


def test_the_test_split_does_not_pick_the_network() -> None:
    flattered = row(method="tucker", accuracy=0.99, val_accuracy=0.90)
    assert recommended([DENSE, flattered, row()], "grouped")["method"] == "hscc"


@pytest.mark.parametrize(("value", "text"), [(1.23, "+1.2"), (-0.96, "−1.0"), (0.04, "0.0"), (-0.04, "0.0")])
def test_signs(value: float, text: str) -> None:
    assert signed(value) == text
