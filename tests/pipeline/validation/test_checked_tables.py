from __future__ import annotations

import math

import pandas as pd

from hscc.pipeline.validation.checked_tables import class_table, folder_table, image_table, split_table, stratum_table
from tests.pipeline.specs import BRAIN, changed

# path, official folder, class, decodable, content, group, conflict, grouped, pooled, official
ROWS = [
    ("a", "Training", "no_tumor", True, "x", 0, False, "train", "train", "train"),
    ("b", "Testing", "no_tumor", True, "x", 0, False, "train", "test", "excluded"),
    ("c", "Training", "glioma_tumor", True, "y", 1, True, "excluded", "train", "excluded"),
    ("d", "Testing", "no_tumor", True, "z", 1, True, "excluded", "test", "excluded"),
    ("e", "Testing", "glioma_tumor", True, "w", 2, False, "test", "test", "test"),
    ("F", "Training", "no_tumor", False, "v", 3, False, "excluded", "excluded", "excluded"),
]
NAMES = ["path", "official_split", "label", "decodable", "sha256", "group", "conflict"]


def frame() -> pd.DataFrame:
    table = pd.DataFrame(ROWS, columns=[*NAMES, "split_grouped", "split_pooled", "split_official"])
    size = table["decodable"].map({True: 100, False: -1})
    return table.assign(
        near_copies=table["group"], width=size, height=size, mode=table["decodable"].map({True: "RGB", False: ""})
    )


def chosen(table: pd.DataFrame, column: str) -> list[str]:
    return table.loc[table[column].astype(bool), "path"].tolist()


def test_image_table_marks_copies_and_leaks():
    table = image_table(frame(), BRAIN)
    assert dict(table.dropna(subset="copy_of")[["path", "copy_of"]].to_numpy()) == {"b": "a"}
    assert chosen(table, "copied_from_training") == ["b"]
    assert chosen(table, "near_copy_in_training") == ["b", "d"]
    assert chosen(table, "near_copies") == ["a", "b", "c", "d"]
    assert chosen(table, "contradicting_labels") == ["c", "d"]


def test_what_cannot_be_decoded_has_no_size_to_judge():
    table = image_table(frame(), BRAIN).set_index("path")
    assert table.loc["F", ["width", "height", "mode"]].isna().all()
    assert table.loc["e", ["width", "height", "mode"]].tolist() == [100, 100, "RGB"]


def test_folder_and_class_tables_count_decodable_images_of_what_there_should_be():
    folders = folder_table(frame(), BRAIN).set_index("path")["images"]
    assert len(folders) == 8
    assert folders[folders > 0].to_dict() == {
        "Training/glioma_tumor": 1,
        "Training/no_tumor": 1,
        "Testing/glioma_tumor": 1,
        "Testing/no_tumor": 2,
    }
    classes = class_table(frame(), BRAIN).set_index("path")
    assert classes["images"].to_dict() == {
        "glioma_tumor": 2,
        "meningioma_tumor": 0,
        "no_tumor": 3,
        "pituitary_tumor": 0,
    }
    assert classes.loc["glioma_tumor", "imbalance"] == 1.5
    assert math.isinf(classes.loc["pituitary_tumor", "imbalance"])


def test_split_table_counts_the_sides_of_a_group_without_excluded_images():
    table = frame()
    assert split_table(table)["splits_of_group_grouped"].tolist() == [1, 1, 0, 0, 1, 0]
    table.loc[1, "split_grouped"] = "val"
    assert split_table(table)["splits_of_group_grouped"].tolist() == [2, 2, 0, 0, 1, 0]
    assert split_table(table)["splits_of_group_official"].tolist() == [1, 1, 0, 0, 1, 0]
    assert chosen(split_table(table), "near_copy_in_train") == ["b", "d"]


def test_stratum_table_has_every_class_of_every_split():
    strata = stratum_table(frame(), BRAIN).set_index("path")["images"]
    assert len(strata) == 36
    assert strata["pooled/test/no_tumor"] == 2
    assert strata["official/test/no_tumor"] == 0
    assert not any(path.split("/")[1] == "excluded" for path in strata.index)


def test_images_of_one_patient_on_both_sides_are_marked():
    table = frame().assign(subject=["p", "", "q", "q", "r", ""])
    assert chosen(image_table(table, BRAIN), "group_in_training") == ["d"]
    assert chosen(split_table(table), "group_in_train") == ["d"]
    assert chosen(image_table(frame(), BRAIN), "group_in_training") == []


def test_without_an_official_split_classes_are_counted_over_all_images():
    spec = changed(official=None)
    folders = folder_table(frame().assign(official_split=""), spec).set_index("path")["images"]
    assert folders.to_dict() == {"glioma_tumor": 2, "meningioma_tumor": 0, "no_tumor": 3, "pituitary_tumor": 0}
    assert not any(path.startswith("official") for path in stratum_table(frame(), spec)["path"])
    assert chosen(image_table(frame(), spec), "near_copy_in_training") == []
