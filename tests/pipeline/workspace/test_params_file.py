from pathlib import Path

import pytest
import yaml

from hscc.errors import ParamsError
from hscc.pipeline.workspace.create import template
from hscc.pipeline.workspace.params_file import read_spec, with_choices, with_sections
from hscc.pipeline.workspace.proposal import Choice

TEXT = template("params.yaml")


def test_without_a_choice_nothing_but_lines_breaks_changes() -> None:
    assert yaml.safe_load(with_choices(TEXT, [])) == yaml.safe_load(TEXT)
    assert with_choices(TEXT, []).split() == TEXT.replace(",\n  ]", "]").replace("[\n    ", "[").split()


def test_a_value_changes_and_the_comments_stay() -> None:
    choices = [
        Choice("data.official", None),
        Choice("data.classes", ["a: b", "no", "1"]),
        Choice("data.group", r"person\d+|#\d+", comment="look at this"),
        Choice("data.texts.classes", {"1": "one"}),
        Choice("data.remarks", []),
        Choice("train.epochs", 3),
    ]
    text = with_choices(TEXT, choices)
    old, new = yaml.safe_load(TEXT), yaml.safe_load(text)
    assert new["data"]["classes"] == ["a: b", "no", "1"] and new["data"]["group"] == r"person\d+|#\d+"
    assert new["data"]["official"] is None and new["data"]["texts"]["classes"] == {"1": "one"}
    for key in ("official", "classes", "group", "remarks"):
        new["data"][key] = old["data"][key]
    new["data"]["texts"]["classes"], new["train"]["epochs"] = old["data"]["texts"]["classes"], old["train"]["epochs"]
    assert new == old
    assert "# look at this" in text
    comments = [line.partition(" # ")[2] for line in TEXT.splitlines() if " # " in line]
    assert [comment for comment in comments if comment not in text] == [
        "regular expression on file names: files where it matches the same text stay together",
        "null for all",  # of a remark
        "over the sorted SHA-256 of the files",
    ]


def test_sections_are_replaced_whole() -> None:
    text = with_sections(TEXT, {"calibrate": {"images": 1}})
    assert yaml.safe_load(text) == {**yaml.safe_load(TEXT), "calibrate": {"images": 1}}


def test_a_spec_is_a_section_or_a_file_of_sections(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(TEXT)
    assert read_spec(path) == yaml.safe_load(TEXT)
    path.write_text(yaml.safe_dump(yaml.safe_load(TEXT)["data"]))
    assert read_spec(path) == {"data": yaml.safe_load(TEXT)["data"]}


@pytest.mark.parametrize("content", [None, b"data: [", b"\xff\xfe", b"- 1", b"train: {}", b""])
def test_what_is_no_spec_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParamsError, match=r"spec\.yaml"):
        read_spec(path)
