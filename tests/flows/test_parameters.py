from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from flows.approval import ask_and_promote
from flows.parameters import overrides, stage_names, usual_budgets
from flows.pipeline import pipeline
from hscc.methods import METHODS

ROOT = Path(__file__).parents[2]
SHOWN: dict[str, Any] = pipeline.parameters.model_dump()["properties"]


def test_every_parameter_is_described() -> None:
    assert {"targets", "methods", "budgets", "protocol", "force"} <= set(SHOWN)
    asked = ask_and_promote.parameters.model_dump()["properties"]
    assert set(asked) == {"which", "wait_seconds"}
    for name, schema in {**SHOWN, **asked}.items():
        assert len(schema.get("description", "")) > 20, name


def test_methods_and_protocols_are_choices() -> None:
    assert SHOWN["methods"]["items"]["enum"] == sorted(METHODS)
    assert SHOWN["protocol"]["anyOf"][0]["enum"] == ["grouped", "pooled", "official"]


def takes(name: str, value: list[Any]) -> bool:
    """Whether the server, which holds parameters against the schema, would let the value pass."""
    return bool(Draft202012Validator(SHOWN[name]).is_valid(value))


def test_stages_are_choices_and_a_single_cell_passes_too() -> None:
    listed, typed = SHOWN["targets"]["anyOf"]
    assert listed["items"]["enum"] == stage_names(ROOT / "dvc.yaml")
    assert takes("targets", []) and takes("targets", ["train", "compress"])
    assert takes("targets", ["compress@hscc-6-0"]) and takes("targets", ["report", "train@grouped"])
    assert not takes("targets", ["compres"]) and not takes("targets", ["compress@"])
    assert typed["title"] == "Stages and cells"


def test_budgets_are_choices_and_any_other_above_one_passes_too() -> None:
    listed, _ = SHOWN["budgets"]["anyOf"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert listed["items"]["enum"] == params["compress"]["budgets"]
    assert takes("budgets", [3, 12]) and takes("budgets", [6, 4.5])
    assert not takes("budgets", [1]) and not takes("budgets", ["6"])


def test_stages_to_choose_are_those_of_the_graph(tmp_path: Path) -> None:
    graph = ROOT / "dvc.yaml"
    assert stage_names(graph) == list(yaml.safe_load(graph.read_text())["stages"])
    assert stage_names(tmp_path / "none.yaml") == []
    assert usual_budgets(tmp_path / "none.yaml") == []


@pytest.mark.parametrize("text", ["stages: [", "- a", "other: 1"])
def test_a_graph_that_cannot_be_read_offers_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(text)
    assert stage_names(tmp_path / "dvc.yaml") == usual_budgets(tmp_path / "dvc.yaml") == []


def test_only_what_is_asked_is_overridden() -> None:
    assert overrides((), (), None) == {}
    assert overrides((), (), None, (0, 4)) == {"compress.seeds": [0, 4], "insight.cells": []}
    assert overrides(("hscc",), (3.0, 6.5), "pooled") == {
        "compress.methods": ["hscc"],
        "compress.controls": [],
        "compress.timed": [],
        "insight.cells": [],
        "compress.budgets": [3, 6.5],  # 3, not 3.0: the cell's name is made of it
        "data.protocol": "pooled",
    }
