"""Stage code: source of the package, plugins and the user's network in; for each stage hashes of what it runs out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hscc.files import file_sha256, replacing
from hscc.pipeline import layout
from hscc.pipeline.code_identity import stage_code, stage_names
from hscc.pipeline.params import read_own_code
from hscc.pipeline.tracking.weights import weights_file


def run(workspace: Path = Path(".")) -> None:
    """Write what every stage depends on instead of source files.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    """
    own = read_own_code(workspace / layout.PARAMS)
    sys.path.insert(0, str(workspace.resolve()))  # where plugins and networks may be that are not installed
    try:
        found = {stage: stage_code(stage, own.modules) for stage in stage_names()}
    finally:
        sys.path.pop(0)
    if own.weights is not None:
        found["train"]["train.weights"] = file_sha256(weights_file(own.weights, workspace))
    for stage, hashes in found.items():
        with replacing(workspace / layout.code(stage)) as partial:
            partial.write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")
