from __future__ import annotations

import numpy as np

from hscc.pipeline.statistics.results import confusion_frame, pareto_frame
from hscc.pipeline.statistics.schema import Results

CLASSES = ("a", "b")


def test_confusion_has_one_row_per_image() -> None:
    frame = confusion_frame(np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([1, 1, 1]), "tucker-6", CLASSES)
    assert frame["actual"].tolist() == ["a", "b", "b"]
    assert frame["predicted"].tolist() == ["b", "b", "b"]
    assert frame["dense"].tolist() == ["a", "b", "a"]
    assert set(frame["network"]) == {"tucker-6"}


def test_pareto_holds_the_networks_of_one_protocol(results: Results) -> None:
    frame = pareto_frame(results)
    assert len(frame) == 7
    assert {"method", "budget_macs", "seed", "macs_ratio", "params_ratio", "accuracy", "speedup_b1"} <= set(frame)
