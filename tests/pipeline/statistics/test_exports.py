from __future__ import annotations

from typing import Any

import numpy as np

from hscc.pipeline.statistics.results import confusion_frame, pareto_frame

CLASSES = ("a", "b")


def test_confusion_has_a_row_an_image() -> None:
    frame = confusion_frame(np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([1, 1, 1]), "hscc-6-0", CLASSES)
    assert frame["actual"].tolist() == ["a", "b", "b"]
    assert frame["predicted"].tolist() == ["b", "b", "b"]
    assert frame["dense"].tolist() == ["a", "b", "a"]
    assert set(frame["method"]) == {"hscc-6-0"}


def test_pareto_holds_the_networks_of_one_protocol(document: dict[str, Any]) -> None:
    frame = pareto_frame(document["rows"], "grouped")
    assert len(frame) == 7
    assert {"method", "budget", "seed", "macs_ratio", "params_ratio", "accuracy", "speedup_b1"} <= set(frame.columns)
