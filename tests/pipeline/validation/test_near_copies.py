from __future__ import annotations

import numpy as np
import pandas as pd

from hscc.pipeline.validation.near_copies import THRESHOLDS, gather_evidence
from tests.pipeline.specs import BRAIN, changed


def pictures() -> tuple[pd.DataFrame, np.ndarray]:
    """Draw three different pictures; 1 is a byte-identical copy of 0, 2 a close and 3 a distant near-copy of it."""
    rng = np.random.default_rng(0)
    base = rng.integers(60, 200, (3, 256)).astype(float)
    rows = np.stack(
        [base[0], base[0], base[0] + rng.normal(0, 1, 256), base[0] + rng.normal(0, 4, 256), base[1], base[2]]
    )
    frame = pd.DataFrame(
        {
            "sha256": ["x", "x", "y", "z", "v", "w"],
            "label": ["glioma_tumor", "glioma_tumor", "no_tumor", "glioma_tumor", "no_tumor", "no_tumor"],
            "official_split": ["Training", "Testing", "Testing", "Training", "Testing", "Training"],
            "split_pooled": ["train", "val", "test", "test", "test", "train"],
        }
    )
    return frame, np.round(rows).astype(np.uint8)


def test_near_copies_are_counted_at_every_threshold():
    frame, thumbnails = pictures()
    evidence = gather_evidence(frame, thumbnails, BRAIN)
    assert [row.threshold for row in evidence.near_copies] == [*THRESHOLDS, None]
    loose, _, strict, identical = (row.model_dump() for row in evidence.near_copies)
    assert loose == {
        "threshold": 0.99,
        "images": 4,
        "groups": 1,
        "largest": 4,
        "contradicting_pairs": 3,
        "leaked_testing": 2,
        "leaked_pooled_test": 2,
    }
    assert (strict["images"], strict["contradicting_pairs"], strict["leaked_pooled_test"]) == (3, 2, 1)
    assert (identical["images"], identical["contradicting_pairs"]) == (2, 0)
    assert (identical["leaked_testing"], identical["leaked_pooled_test"]) == (1, 0)


def test_the_chosen_threshold_is_among_them_even_if_unusual():
    frame, thumbnails = pictures()
    evidence = gather_evidence(frame, thumbnails, changed(near_duplicate=0.993))
    assert evidence.chosen.threshold == 0.993
    assert [row.threshold for row in evidence.stricter] == [0.995, 0.999, None]


def test_contradicting_copies_are_counted_in_pairs():
    frame, thumbnails = pictures()
    frame["sha256"] = "x"
    identical = gather_evidence(frame, thumbnails, BRAIN).near_copies[-1]
    assert identical.contradicting_pairs == 9  # 3 gliomas by 3 without
