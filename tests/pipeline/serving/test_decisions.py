from __future__ import annotations

import numpy as np

from hscc.pipeline.serving.decisions import answer_table

FOUND = np.array([[0.7, 0.5, 0.1], [0.2, 0.3, 0.4]])
NAMES = ("a", "b", "c")


def test_what_is_decided_depends_on_what_the_outputs_are() -> None:
    assert answer_table(FOUND, NAMES, "classes")["class"].tolist() == ["a", "c"]
    assert answer_table(FOUND, NAMES, "independent")["labels"].tolist() == ["a|b", "none"]
    values = answer_table(FOUND, NAMES, "values")
    assert list(values) == list(NAMES) and values["c"].tolist() == [0.1, 0.4]
