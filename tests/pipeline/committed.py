"""The parameters of the repository, with some of them changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hscc.pipeline.params import Params

FILE = Path(__file__).parents[2] / "params.yaml"


def committed(**sections: Mapping[str, Any]) -> Params:
    """Read ``params.yaml`` with keys of some sections replaced, such as ``committed(data={"seed": 1})``."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    for section, changes in sections.items():
        content[section] |= changes
    return Params.model_validate(content)
