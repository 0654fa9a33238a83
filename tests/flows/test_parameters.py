from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.parameters import overrides, stage_names
from flows.pipeline import pipeline
from hscc.compression.methods import METHODS

ROOT = Path(__file__).parent.parent.parent
SHOWN: dict[str, Any] = pipeline.parameters.model_dump()["properties"]


def test_every_parameter_is_described() -> None:
    assert {"targets", "methods", "budgets", "protocol", "force"} <= set(SHOWN)
    for name, schema in SHOWN.items():
        assert len(schema.get("description", "")) > 20, name


def test_methods_and_protocols_are_choices() -> None:
    assert SHOWN["methods"]["items"]["enum"] == sorted(METHODS)
    assert SHOWN["protocol"]["anyOf"][0]["enum"] == ["grouped", "pooled", "official"]
    assert SHOWN["budgets"]["items"]["exclusiveMinimum"] == 1


def test_stages_to_choose_are_those_of_the_graph(tmp_path: Path) -> None:
    graph = ROOT / "dvc.yaml"
    assert stage_names(graph) == list(yaml.safe_load(graph.read_text())["stages"])
    assert stage_names(tmp_path / "none.yaml") == []


@pytest.mark.parametrize("text", ["stages: [", "- a", "other: 1"])
def test_a_graph_that_cannot_be_read_offers_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(text)
    assert stage_names(tmp_path / "dvc.yaml") == []


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
