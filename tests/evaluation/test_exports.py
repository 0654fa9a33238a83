from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hscc.evaluation.exports import confusion_frame, pareto_frame, predictions_frame
from hscc.evaluation.networks import Network

CLASSES = ("a", "b")


def test_predictions_have_a_column_a_network_and_are_empty_outside_its_protocol(networks: list[Network]) -> None:
    images = {
        "grouped": pd.DataFrame({"path": ["x", "y"], "label": ["a", "b"]}),
        "pooled": pd.DataFrame({"path": ["y"], "label": ["b"]}),
    }
    dense, cell, other = networks[0], networks[1], networks[-3]
    frame = predictions_frame(images, {dense: np.array([0, 1]), cell: np.array([1, 1]), other: np.array([0])}, CLASSES)
    assert frame.columns.tolist() == ["path", "protocol", "label", "dense", "global_svd-3-0"]
    assert frame["dense"].tolist() == ["a", "b", "a"]
    assert frame["global_svd-3-0"].fillna("").tolist() == ["b", "b", ""]
    assert frame["protocol"].tolist() == ["grouped", "grouped", "pooled"]


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
