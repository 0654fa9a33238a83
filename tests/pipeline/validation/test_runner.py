from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from hscc.pipeline.params import ValidateParams
from hscc.pipeline.validation.runner import Outcome, Validation
from hscc.pipeline.validation.suite import (
    MIN_PER_STRATUM,
    Check,
    class_checks,
    folder_checks,
    image_checks,
    split_checks,
    stratum_checks,
)
from tests.pipeline.specs import BRAIN

LIMITS = ValidateParams(min_side=64, max_side=512, modes=("L", "RGB"), min_per_class=20, max_imbalance=3)
SOUND = {
    "path": "Training/no_tumor/a.jpg",
    "path_ignoring_case": "training/no_tumor/a.jpg",
    "folder": "Training",
    "label": "no_tumor",
    "decodable": True,
    "width": 64.0,
    "height": 512.0,
    "mode": "L",
    "copy_of": None,
    "copied_from_training": False,
    "near_copies": 0,
    "near_copy_in_training": False,
    "contradicting_labels": False,
}
BROKEN = {
    "decodable": {"decodable": False, "width": None, "height": None, "mode": None},
    "known_folder": {"folder": "Extra"},
    "known_class": {"label": "cyst"},
    "width": {"width": 63.0},
    "height": {"height": 513.0},
    "mode": {"mode": "CMYK"},
    "copies": {"copy_of": "Training/no_tumor/a.jpg"},
    "copied_from_training": {"copied_from_training": True},
    "near_copies": {"near_copies": 1},
    "near_copy_in_training": {"near_copy_in_training": True},
    "contradicting_labels": {"contradicting_labels": True},
}
WARNINGS = {"copies", "copied_from_training", "near_copies", "near_copy_in_training", "contradicting_labels"}


def table(*changes: dict[str, object]) -> pd.DataFrame:
    rows = []
    for number, change in enumerate(({}, *changes)):
        name = {"path": f"Training/no_tumor/{number}.jpg", "path_ignoring_case": f"training/no_tumor/{number}.jpg"}
        rows.append({**SOUND, **name, **change})
    return pd.DataFrame(rows)


def failed(outcomes: list[Outcome]) -> dict[str, tuple[str, ...]]:
    return {outcome.check.id: outcome.paths for outcome in outcomes if not outcome.passed}


def one(check_list: list[Check], rows: pd.DataFrame, folder: Path) -> tuple[dict[str, tuple[str, ...]], bool]:
    validation = Validation(folder)
    outcomes = validation.check("table", rows, check_list)
    return failed(outcomes), validation.failed


def test_sound_images_pass(tmp_path: Path):
    assert one(image_checks(LIMITS, BRAIN), table({}, {}), tmp_path) == ({}, False)


@pytest.mark.parametrize("fault", BROKEN)
def test_each_fault_fails_its_own_check_and_names_the_image(tmp_path: Path, fault: str):
    found, stops = one(image_checks(LIMITS, BRAIN), table(BROKEN[fault], {}), tmp_path)
    assert found == {fault: ("Training/no_tumor/1.jpg",)}
    assert stops == (fault not in WARNINGS)


def test_paths_that_differ_in_case_only_are_named_both(tmp_path: Path):
    twice = {"path_ignoring_case": "training/no_tumor/0.jpg"}
    found, stops = one(image_checks(LIMITS, BRAIN), table(twice), tmp_path)
    assert found == {"unique_path": ("Training/no_tumor/0.jpg", "Training/no_tumor/1.jpg")}
    assert stops


def test_an_empty_folder_and_a_small_class_are_errors_and_imbalance_is_not(tmp_path: Path):
    folders = pd.DataFrame({"path": ["Training/no_tumor", "Testing/no_tumor"], "images": [20, 0]})
    assert one(folder_checks(BRAIN), folders, tmp_path) == ({"class_folder": ("Testing/no_tumor",)}, True)
    classes = pd.DataFrame({"path": ["no_tumor", "glioma_tumor"], "images": [19, 20], "imbalance": [3.0, 3.1]})
    validation = Validation(tmp_path)
    outcomes = validation.check("classes", classes, class_checks(LIMITS))
    assert failed(outcomes) == {"class_count": ("no_tumor",), "imbalance": ("glioma_tumor",)}


def test_a_group_on_two_sides_is_an_error_and_a_pooled_leak_is_not(tmp_path: Path):
    rows = pd.DataFrame(
        {
            "path": ["a", "b", "c"],
            "splits_of_group_grouped": [1, 2, 0],
            "splits_of_group_official": [1, 1, 1],
            "near_copy_in_train": [True, False, False],
        }
    )
    assert one(split_checks(BRAIN), rows, tmp_path) == (
        {"grouped_separates_groups": ("b",), "pooled_leak": ("a",)},
        True,
    )
    assert one(split_checks(BRAIN), rows.iloc[[0]], tmp_path) == ({"pooled_leak": ("a",)}, False)


def test_a_thin_split_is_a_warning(tmp_path: Path):
    rows = pd.DataFrame({"path": ["official/test/no_tumor", "x"], "images": [MIN_PER_STRATUM - 1, MIN_PER_STRATUM]})
    assert one(stratum_checks(), rows, tmp_path) == ({"thin_splits": ("official/test/no_tumor",)}, False)


def test_publish_writes_the_result_and_browsable_pages(tmp_path: Path):
    validation = Validation(tmp_path / "validation")
    validation.check("images", table(BROKEN["decodable"]), image_checks(LIMITS, BRAIN))
    validation.check("folders", pd.DataFrame({"path": ["Training/no_tumor"], "images": [1]}), folder_checks(BRAIN))
    validation.publish()
    result = json.loads((tmp_path / "validation/expectations.json").read_text(encoding="utf-8"))
    assert set(result) == {"images", "folders"}
    assert not result["images"]["success"]
    assert result["folders"]["success"]
    docs = tmp_path / "validation/data_docs"
    index = (docs / "index.html").read_text(encoding="utf-8")
    pages = list((docs / "validations").rglob("manifest-images.html"))
    assert len(pages) == 1
    assert pages[0].relative_to(docs).as_posix() in index
    html = pages[0].read_text(encoding="utf-8")
    assert "Training/no_tumor/1.jpg" in html
    assert "Every file decodes to a whole image." in html
    assert "great-expectations-web-assets" not in html + index
    logo = html.split('static/images/logo-long.png"')[0].rsplit('"', 1)[1]
    assert (pages[0].parent / logo / "static/images/logo-long.png").resolve().is_file()


def test_a_check_that_cannot_be_computed_is_not_taken_for_passed(tmp_path: Path):
    with pytest.raises(RuntimeError, match="near_copies"):
        Validation(tmp_path).check("images", table().drop(columns="near_copies"), image_checks(LIMITS, BRAIN))
