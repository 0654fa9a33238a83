from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from hscc.errors import DataError
from hscc.pipeline.data.listing import list_images
from hscc.pipeline.data.splits import assign_splits
from hscc.pipeline.data.targets import has_label, label_sets, strata_of, values_of
from hscc.pipeline.data_spec import DataSpec
from tests.pipeline.specs import BRAIN, changed

COLUMNS = {"file": "t.csv", "path": "path", "split": None, "group": None}
PLAIN: dict[str, Any] = {
    "layout": "table", "official": None, "protocol": "grouped", "remarks": [],
    "texts": {**BRAIN.texts.model_dump(), "classes": {}},
}  # fmt: skip


def spec(task: str, classes: list[str], label: object, **table: object) -> DataSpec:
    return changed(**PLAIN, task=task, classes=classes, table={**COLUMNS, "label": label, **table})


def listed(root: Path, of: DataSpec, **columns: list[str]) -> list[str]:
    rows = len(next(iter(columns.values())))
    for row in range(rows):
        (root / f"{row}.png").touch()
    pd.DataFrame({"path": [f"{row}.png" for row in range(rows)], **columns}).to_csv(root / "t.csv", index=False)
    return list_images(root, of)["label"].tolist()


def test_labels_are_read_off_columns_of_marks_and_off_lists(tmp_path: Path) -> None:
    marked = spec("multilabel", ["cyst", "mass"], ["has_cyst", "has_mass"])
    found = listed(tmp_path, marked, has_cyst=["1", "0", "True", "0.0"], has_mass=["1.0", "1", "false", "0"])
    assert found == ["cyst|mass", "mass", "cyst", "none"]
    np.testing.assert_array_equal(label_sets(found, marked.classes), [[1, 1], [0, 1], [1, 0], [0, 0]])
    lists = spec("multilabel", ["cyst", "mass"], "found", separator="|", no_label="No Finding")
    assert listed(tmp_path, lists, found=["mass|cyst", "mass", "cyst", "No Finding"]) == found
    empty = spec("multilabel", ["cyst", "mass"], "found", separator=";", no_label="")
    assert listed(tmp_path, empty, found=["mass; cyst", "mass", "cyst", ""]) == found


def test_values_keep_their_digits(tmp_path: Path) -> None:
    found = listed(tmp_path, spec("regression", ["age", "dose"], ["a", "d"]), a=["120.25", "7"], d=["-1e-3", "0"])
    np.testing.assert_array_equal(values_of(found, 2), np.float32([[120.25, -1e-3], [7, 0]]))


@pytest.mark.parametrize(
    ("of", "columns", "words"),
    [
        (spec("multilabel", ["a", "b"], ["a", "b"]), {"a": ["1", "2"], "b": ["0", "1"]},
         r"column a is neither 0 nor 1 for 1\.png; write one of them"),
        (spec("multilabel", ["a", "b"], ["a", "b"]), {"a": ["1", ""], "b": ["0", "1"]}, r"gives no a or b to 1\.png"),
        (spec("multilabel", ["a", "b"], "f", separator="|"), {"f": ["a|b", "a|c"]}, r"f of 1\.png names 'c'"),
        (spec("multilabel", ["a", "b"], "f", separator="|"), {"f": ["a|b", ""]}, r"gives no f to 1\.png"),
        (spec("regression", ["v"], "v"), {"v": ["1.5", "old"]}, r"column v holds no number for 1\.png"),
        (spec("regression", ["v"], "v"), {"v": ["1.5", "inf"]}, r"column v holds no number for 1\.png"),
    ],
)  # fmt: skip
def test_what_is_no_label_or_value_is_named(
    of: DataSpec, columns: dict[str, list[str]], words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        listed(tmp_path, of, **columns)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("multilabel", ["a", "b"], "a"), r"give table\.separator"),
        (("multilabel", ["a", "b"], ["a"]), "names 1 columns and classes 2"),
        (("multilabel", ["a", "none"], ["a", "n"]), "none is what images without a label are called"),
        (("regression", ["a", "b"], "a"), "names 1 columns and classes 2"),
        (("classification", ["a", "b"], ["a", "b"]), "for tasks multilabel and regression"),
    ],
)
def test_a_table_that_does_not_fit_its_task_is_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(*arguments)
    with pytest.raises(ValidationError, match="needs layout table"):
        changed(task="multilabel")


def test_a_rare_label_is_in_each_split_and_counted_with_each_image_that_has_it() -> None:
    rng = np.random.default_rng(0)
    common, rare = rng.random(400) < 0.6, rng.random(400) < 0.06
    labels = ["|".join(name for name, has in zip("cr", pair, strict=True) if has) or "none"
              for pair in zip(common, rare, strict=True)]  # fmt: skip
    frame = pd.DataFrame({
        "label": labels, "official_split": "", "sha256": [str(n) for n in range(400)], "decodable": True,
        "group": np.arange(400), "conflict": False,
    })  # fmt: skip
    of = spec("multilabel", ["c", "r"], ["c", "r"])
    assert int(has_label(frame, "r", of).sum()) == int(rare.sum())
    assert (strata_of(frame, of)[rare] == "r").all() and set(strata_of(frame, of)) == {"c", "r", "none"}
    split = assign_splits(frame, of)
    for protocol in ("grouped", "pooled"):
        held = split.loc[rare, f"split_{protocol}"].value_counts()
        assert held["train"] > held["test"] >= 2 and held["val"] >= 2


def test_few_images_join_the_largest_stratum() -> None:
    frame = pd.DataFrame({"label": ["a"] * 20 + ["b"] * 10 + ["none"] * 2})
    assert strata_of(frame, spec("multilabel", ["a", "b"], ["a", "b"])).value_counts().to_dict() == {"a": 22, "b": 10}
