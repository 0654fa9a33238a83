from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hscc.errors import ParamsError
from hscc.pipeline.params import Params, read_params

ROOT = Path(__file__).parents[3]


@given(train=st.floats(0.01, 0.99), val=st.floats(0.01, 0.99))
def test_a_test_split_always_remains(train: float, val: float) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["data"].update(train_fraction=train, val_fraction=val)
    try:
        data = Params.model_validate(values).data
    except ValueError:
        assert train + val >= 1
    else:
        assert data.train_fraction + data.val_fraction < 1


TABLE = {"file": "labels.csv", "path": "image", "label": "label", "split": None, "group": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ["glioma_tumor"]}, "two classes or more"),
        ({"classes": ["a", "a"]}, "a is named twice"),
        ({"classes": ["a,b", "c"]}, "'a,b' may have letters"),
        ({"layout": "table"}, "needs the section table"),
        ({"table": TABLE}, "another layout null"),
        ({"layout": "table", "table": TABLE}, "official and table.split go together"),
        ({"layout": "table", "table": {**TABLE, "file": "../labels.csv"}}, "not a path inside"),
        ({"layout": "table", "table": {**TABLE, "file": "labels.xlsx"}}, "neither .csv nor .parquet"),
        ({"official": None, "protocol": "official"}, "data.*needs official"),
        ({"official": {"train": "a", "val": None, "test": "a"}}, "must differ"),
        ({"group": "(person"}, "no regular expression"),
        ({"channels": 2}, "channels"),
        ({"normalisation": {"mean": [0, 0, 0], "std": [1, 1, 0]}}, "std"),
        ({"classes": ["a", "b"]}, "texts.classes names 'glioma_tumor'"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused_in_one_sentence(
    changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["data"].update(changes)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError, match=words) as error:
        read_params(tmp_path / "params.yaml")
    assert str(error.value).startswith(f"{tmp_path / 'params.yaml'}: data")
    assert "\n" not in str(error.value)


def test_protocols_follow_the_official_split() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["data"]["official"] = None
    assert Params.model_validate(values).data.protocols == ("grouped", "pooled")
    values["train"]["protocols"] = ["grouped", "official"]
    with pytest.raises(ValueError, match=r"train\.protocols has official"):
        Params.model_validate(values)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/params.yaml")), ids=lambda path: path.parent.name)
def test_the_specs_of_the_examples_are_valid(path: Path) -> None:
    assert read_params(path).data.texts.title
