"""The checks of each table, as expectations of Great Expectations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from great_expectations.expectations.core.expect_column_values_to_be_between import ExpectColumnValuesToBeBetween
from great_expectations.expectations.core.expect_column_values_to_be_in_set import ExpectColumnValuesToBeInSet
from great_expectations.expectations.core.expect_column_values_to_be_null import ExpectColumnValuesToBeNull
from great_expectations.expectations.core.expect_column_values_to_be_unique import ExpectColumnValuesToBeUnique

from hscc.pipeline.data_spec import DataSpec, OfficialSplit
from hscc.pipeline.params import ValidateParams

_Expectation = Callable[..., Any]  # takes what all expectations have: severity, meta, description

Severity = Literal["error", "warning"]

# Below 25 images, the standard error of a recall of one half exceeds 10 points.
MIN_PER_STRATUM = 25


@dataclass(frozen=True)
class Check:
    """One expectation on one table.

    Attributes
    ----------
    id : str
        Name in the reports.
    severity : {"error", "warning"}
        Errors stop the pipeline; warnings go into the report.
    rule : str
        What holds for every row, as a sentence.
    fault : str
        What is wrong with the rows that fail, to stand before their names. Errors only.
    fix : str
        What the user can do about them. Errors only.
    expectation : great_expectations.expectations.Expectation
        Carries the id in its meta data.
    """

    id: str
    severity: Severity
    rule: str
    fault: str
    fix: str
    expectation: Any


def image_checks(limits: ValidateParams, spec: DataSpec) -> list[Check]:
    """What holds for every file (`hscc.pipeline.validation.checked_tables.image_table`)."""
    side = f"{limits.min_side} to {limits.max_side} pixels"
    resize = "replace, or widen validate.min_side and validate.max_side in params.yaml"
    modes, official = ", ".join(limits.modes), spec.official
    return [
        _error(
            "decodable",
            "Every file decodes to a whole image.",
            "cannot be decoded as an image" if spec.pictures else "cannot be decoded as a volume",
            "restore with `hscc fetch`, or delete",
            _in_set("decodable", [True]),
        ),
        *([] if spec.pictures else _whole_volumes()),
        *_known_places(spec),
        _error(
            "unique_path",
            "No two paths differ in upper and lower case only (they are one file on Windows and macOS).",
            "paths that differ in upper and lower case only",
            "rename",
            _unique("path_ignoring_case"),
        ),
        *(
            _error(
                axis,
                f"Every image has a {axis} of {side}.",
                f"{axis} not {side}",
                resize,
                _between(axis, min_value=limits.min_side, max_value=limits.max_side),
            )
            for axis in (("width", "height") if spec.pictures else ("width", "height", "depth"))
        ),
        _error(
            "mode",
            f"Every image has one of the pixel modes {modes}.",
            f"pixel mode not one of {modes}",
            "convert, or add the mode to validate.modes in params.yaml",
            _in_set("mode", list(limits.modes)),
        ),
        *(
            []
            if spec.pictures
            else [_warning("mixed_depth", "All volumes have as many slices.", _in_set("of_commonest_depth", [True]))]
        ),
        _warning("copies", "No file is byte-identical to another.", _null("copy_of")),
        *([] if official is None else _copied(official)),
        _warning("near_copies", "No image is a near-copy of another.", _between("near_copies", max_value=0)),
        *([] if official is None else _near_copied(official)),
        *([] if official is None or not spec.has_groups else _group_apart(official, spec.texts.group)),
        _warning("contradicting_labels", "Near-copies carry the same label.", _in_set("contradicting_labels", [False])),
    ]


def _whole_volumes() -> list[Check]:
    """What holds for every volume."""
    return [
        _error(
            "complete",
            "Every folder of slices holds those of one series, none of them missing.",
            "lack a slice, or mix slices of several series, sizes or places",
            "export the series again, each into a folder of its own, or delete",
            _in_set("complete", [True]),
        ),
        _error(
            "volume",
            "Every image is a volume.",
            "no volumes of three axes",
            "delete, or give data.image_size two sides in params.yaml",
            _in_set("volume", [True]),
        ),
        _error(
            "finite",
            "No volume holds NaN or infinite values.",
            "NaN or infinite values in",
            "repair, or delete",
            _in_set("finite", [True]),
        ),
    ]


def _known_places(spec: DataSpec) -> list[Check]:
    """What holds for the official split and the class of every image, by the layout of the data set."""
    classes = ", ".join(spec.strata)
    folders = spec.layout == "folders"
    checks = []
    if spec.official is not None:
        names = spec.official.names
        said = f"{', '.join(names[:-1])} or {names[-1]}"
        checks.append(
            _error(
                "known_folder",
                f"Every file is below {said}." if folders else f"Every image is of the split {said}.",
                f"outside {', '.join(names[:-1])} and {names[-1]}" if folders else f"of another split than {said}",
                "move or delete" if folders else "correct the table, or data.official in params.yaml",
                _in_set("folder", list(names)),
            )
        )
    return [
        *checks,
        _error(
            "known_class",
            "Every file is in the folder of a known class." if folders else "Every image is of a known class.",
            "in no known class folder" if folders else f"of another class than {classes}",
            f"move to one of {classes}, or delete" if folders else "correct the table, or data.classes in params.yaml",
            _in_set("label", list(spec.strata)),
        ),
    ]


def _copied(official: OfficialSplit) -> list[Check]:
    return [
        _warning(
            "copied_from_training",
            f"No {official.test} file is byte-identical to a {official.train} file.",
            _in_set("copied_from_training", [False]),
        )
    ]


def _near_copied(official: OfficialSplit) -> list[Check]:
    return [
        _warning(
            "near_copy_in_training",
            f"No {official.test} image has a near-copy in {official.train}.",
            _in_set("near_copy_in_training", [False]),
        )
    ]


def _group_apart(official: OfficialSplit, group: str) -> list[Check]:
    return [
        _warning(
            "group_in_training",
            f"No {official.test} image is of a {group} that {official.train} has images of.",
            _in_set("group_in_training", [False]),
        )
    ]


def folder_checks(spec: DataSpec) -> list[Check]:
    """What holds for every class and part (`hscc.pipeline.validation.checked_tables.folder_table`)."""
    folders = spec.layout == "folders"
    return [
        _error(
            "class_folder",
            "Every class folder holds an image." if folders else "Every class has an image in every split.",
            "missing, or without an image",
            "fill, for instance with `hscc fetch`, or correct data.classes in params.yaml"
            if folders
            else "add rows to the table, or correct data.classes in params.yaml",
            _between("images", min_value=1),
        )
    ]


def class_checks(limits: ValidateParams) -> list[Check]:
    """What holds for every class (`hscc.pipeline.validation.checked_tables.class_table`)."""
    return [
        _error(
            "class_count",
            f"Every class has at least {limits.min_per_class} images.",
            f"fewer than {limits.min_per_class} images of a class",
            "add images, or lower validate.min_per_class in params.yaml",
            _between("images", min_value=limits.min_per_class),
        ),
        _warning(
            "imbalance",
            f"The largest class is at most {limits.max_imbalance:g} times as large as any other.",
            _between("imbalance", max_value=limits.max_imbalance),
        ),
    ]


def split_checks(spec: DataSpec) -> list[Check]:
    """What holds for every image once it has its splits (`split_table`)."""
    grouped = f"near-copies or images of one {spec.texts.group}" if spec.has_groups else "near-copies"
    return [
        *(
            _error(
                f"{protocol}_separates_groups",
                f"No group of {grouped} is on two sides of the {protocol} split.",
                f"{grouped} on two sides of the {protocol} split",
                "a bug in hscc.pipeline.data.splits, please report it",
                _between(f"splits_of_group_{protocol}", max_value=1),
            )
            for protocol in spec.protocols
            if protocol != "pooled"
        ),
        _warning(
            "pooled_leak",
            "No test image of the pooled split has a near-copy in its train split.",
            _in_set("near_copy_in_train", [False]),
        ),
        *(
            [
                _warning(
                    "pooled_groups",
                    f"No test image of the pooled split is of a {spec.texts.group} that its train split has images of.",
                    _in_set("group_in_train", [False]),
                )
            ]
            if spec.has_groups
            else []
        ),
    ]


def stratum_checks() -> list[Check]:
    """What holds for every class of every split (`hscc.pipeline.validation.checked_tables.stratum_table`)."""
    return [
        _warning(
            "thin_splits",
            f"Every split of every protocol has at least {MIN_PER_STRATUM} images of every class.",
            _between("images", min_value=MIN_PER_STRATUM),
        )
    ]


def _error(id: str, rule: str, fault: str, fix: str, expectation: _Expectation) -> Check:
    return Check(id, "error", rule, fault, fix, expectation(severity="critical", meta={"check": id}, description=rule))


def _warning(id: str, rule: str, expectation: _Expectation) -> Check:
    return Check(id, "warning", rule, "", "", expectation(severity="warning", meta={"check": id}, description=rule))


def _in_set(column: str, values: list[Any]) -> _Expectation:
    return partial(ExpectColumnValuesToBeInSet, column=column, value_set=values)


def _between(column: str, **limits: Any) -> _Expectation:
    return partial(ExpectColumnValuesToBeBetween, column=column, **limits)


def _null(column: str) -> _Expectation:
    return partial(ExpectColumnValuesToBeNull, column=column)


def _unique(column: str) -> _Expectation:
    return partial(ExpectColumnValuesToBeUnique, column=column)
