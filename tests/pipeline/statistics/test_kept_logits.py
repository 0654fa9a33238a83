from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.artifacts import Network
from hscc.pipeline.statistics.predictions import (
    classes_of,
    logits_of,
    predictions_frame,
    predictions_of,
    read_predictions,
    to_parquet,
)

CLASSES = ("a", "b")


@pytest.fixture
def frame(networks: list[Network]) -> pd.DataFrame:
    images = {
        "grouped": pd.DataFrame({"path": ["x", "y"], "label": ["a", "b"], "group": [4, 5]}, index=[7, 9]),
        "pooled": pd.DataFrame({"path": ["y"], "label": ["b"], "group": [5]}, index=[9]),
    }
    dense, cell, other = networks[0], networks[1], networks[-3]
    logits = {
        dense: np.array([[2, 1], [0, 3]], np.float32),
        cell: np.array([[0, 1], [0.5, 3]], np.float32),
        other: np.array([[1, 0]], np.float32),
    }
    return predictions_frame(images, logits, CLASSES)


def test_a_row_an_image_and_network(frame: pd.DataFrame) -> None:
    assert frame.columns.tolist() == ["path", "protocol", "label", "group", "network", "logit_a", "logit_b"]
    assert frame["network"].tolist() == ["dense-grouped"] * 2 + ["global_svd-macs3-seed0"] * 2 + ["dense-pooled"]
    assert frame["path"].tolist() == ["x", "y", "x", "y", "y"]
    assert frame["group"].tolist() == [4, 5, 4, 5, 5]


def test_logits_survive_writing_and_reading_to_the_bit(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    path.write_bytes(to_parquet(frame))
    read = read_predictions(path)
    assert to_parquet(read) == to_parquet(frame) == path.read_bytes()
    assert classes_of(read) == CLASSES
    cell = predictions_of(read, "global_svd-macs3-seed0")
    np.testing.assert_array_equal(logits_of(cell), np.array([[0, 1], [0.5, 3]], np.float32))
    assert cell["predicted"].tolist() == ["b", "b"]


def test_what_is_missing_is_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="lack the network hscc-macs9-seed0"):
        predictions_of(frame, "hscc-macs9-seed0")
    with pytest.raises(ArtifactError, match="does not exist; run `hscc evaluate`"):
        read_predictions(tmp_path / "predictions.parquet")


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    path.write_text("path,protocol\n")
    with pytest.raises(ArtifactError, match="not a Parquet table"):
        read_predictions(path)
    path.write_bytes(to_parquet(pd.DataFrame({"path": ["x"]})))
    with pytest.raises(ArtifactError, match="not a table of predictions"):
        read_predictions(path)
