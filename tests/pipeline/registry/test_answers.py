from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.registry.answers import COLUMNS, evidence_frame, read_evidence


def predictions(network: str, protocol: str, paths: str, labels: str, predicted: str) -> pd.DataFrame:
    logits = {f"logit_{name}": [float(said == name) for said in predicted] for name in "xy"}
    return pd.DataFrame(
        {"path": list(paths), "protocol": protocol, "label": list(labels), "network": network, **logits}
    )


PREDICTIONS = pd.concat(
    [
        predictions("dense-grouped", "grouped", "abc", "xyx", "xxx"),
        predictions("hscc-macs6-seed0", "grouped", "abc", "xyx", "xyy"),
        predictions("dense-pooled", "pooled", "d", "x", "x"),
    ]
)
MANIFEST = pd.DataFrame({"path": list("abcd"), "sha256": ["11", "22", "11", "33"], "group": [5, 6, 5, 7]})


def test_images_are_named_by_their_bytes_and_copies_are_distinguished(tmp_path: Path) -> None:
    frame = evidence_frame(PREDICTIONS, MANIFEST, "hscc-macs6-seed0", "grouped")
    facts = {
        "sha256": ["11", "11", "22"], "copy": [0, 1, 0], "group": [5, 5, 6], "label": list("xxy"),
        "predicted": list("xyy"), "dense": list("xxx"),
    }  # fmt: skip
    assert frame[list(facts)].to_dict("list") == facts
    chances = frame[[f"{whose}p_{name}" for whose in ("", "dense_") for name in "xy"]]
    assert (frame["predicted"] == chances[["p_x", "p_y"]].idxmax(axis=1).str[-1]).all()
    np.testing.assert_allclose(chances.sum(axis=1), 2)
    frame.to_csv(tmp_path / "evidence.csv", index=False)
    pd.testing.assert_frame_equal(read_evidence(tmp_path / "evidence.csv"), frame)


def test_a_class_may_have_a_name_that_means_nothing_elsewhere(tmp_path: Path) -> None:
    names = {"x": "None", "y": "NA"}
    told = PREDICTIONS.replace({"label": names}).rename(columns={f"logit_{old}": f"logit_{names[old]}" for old in "xy"})
    frame = evidence_frame(told, MANIFEST, "hscc-macs6-seed0", "grouped")
    frame.to_csv(tmp_path / "evidence.csv", index=False)
    pd.testing.assert_frame_equal(read_evidence(tmp_path / "evidence.csv"), frame)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ArtifactError, match="tucker-6-0"):
        evidence_frame(PREDICTIONS, MANIFEST, "tucker-6-0", "grouped")
    with pytest.raises(ArtifactError, match="different data"):
        evidence_frame(PREDICTIONS, MANIFEST.head(2), "hscc-macs6-seed0", "grouped")


@pytest.mark.parametrize("content", ["", "sha256,copy\nab,0\n", ",".join(COLUMNS) + "\n", "\x00\x01"])
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "evidence.csv"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"evidence\.csv is not the evidence"):
        read_evidence(path)
