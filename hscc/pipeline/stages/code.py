"""Stage code: the package's source in; for each stage the hashes of what it runs out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hscc.files import replacing
from hscc.pipeline import layout
from hscc.pipeline.code_identity import stage_code, stage_names
from hscc.pipeline.params import read_plugins


def run(workspace: Path = Path(".")) -> None:
    """Write what every stage depends on instead of source files.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    """
    plugins = read_plugins(workspace / layout.PARAMS)
    sys.path.insert(0, str(workspace.resolve()))  # where plugins may be that are not installed
    try:
        found = {stage: stage_code(stage, plugins) for stage in stage_names()}
    finally:
        sys.path.pop(0)
    for stage, hashes in found.items():
        with replacing(workspace / layout.code(stage)) as partial:
            partial.write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")
