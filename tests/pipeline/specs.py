"""Data specs for tests: the repository's own, and changes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hscc.pipeline.data_spec import DataSpec
from hscc.pipeline.params import read_params

ROOT = Path(__file__).parents[2]
BRAIN = read_params(ROOT / "params.yaml").data


def changed(**changes: Any) -> DataSpec:
    """The repository's own spec with other values, checked as a whole."""
    return DataSpec.model_validate({**BRAIN.model_dump(), **changes})
