"""Trials on disk, one JSON file each, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hscc.evaluation.results import replace_text
from hscc.evaluation.tradeoff import Setting, Trial


def keep_trial(trial: Trial, folder: Path) -> None:
    """Write a trial into a folder under its setting's name, whole or not at all."""
    content = {"facts": trial.facts, "logits": trial.logits.tolist()}
    replace_text(folder / f"{trial.setting.name}.json", json.dumps(content) + "\n")


def kept_trial(setting: Setting, folder: Path) -> Trial | None:
    """Read what `keep_trial` wrote for a setting; None where there is nothing."""
    path = folder / f"{setting.name}.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return Trial(setting, content["facts"], np.asarray(content["logits"], dtype=np.float32))
