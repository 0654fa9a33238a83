"""Where a figure comes from: the content hash of the data and the commit of the code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from hscc.errors import DataError
from hscc.stages import layout

UNKNOWN = "unknown"
_WRITTEN_BY_THE_GRAPH = (":(exclude)dvc.lock", ":(exclude)reports")


def data_hash(workspace: Path = Path(".")) -> str:
    """Return the content hash that ``data.dvc`` pins.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    str
        DVC's hash of the folder ``data``, ending in ``.dir``; ``unknown`` without a ``data.dvc``.

    Raises
    ------
    DataError
        If ``data.dvc`` holds no hash.
    """
    pin = workspace / layout.DATA.with_suffix(".dvc")
    if not pin.is_file():
        return UNKNOWN
    try:
        return str(yaml.safe_load(pin.read_text(encoding="utf-8"))["outs"][0]["md5"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{pin} holds no outs[0].md5; restore it with 'git checkout {pin.name}'.") from error


def git_commit(workspace: Path = Path(".")) -> str:
    """Return the commit of the code that runs.

    Parameters
    ----------
    workspace : Path
        A folder of the repository.

    Returns
    -------
    str
        The full hash, with ``-dirty`` appended when tracked files other than what the graph itself writes
        (``dvc.lock``, ``reports/``) differ from it; ``unknown`` outside git.
    """
    commit = _git(workspace, "rev-parse", "HEAD")
    if not commit:
        return UNKNOWN
    # ":/" is the whole repository, of which the workspace may be a folder; what is excluded is the workspace's own.
    changed = _git(workspace, "status", "--porcelain", "--untracked-files=no", "--", ":/", *_WRITTEN_BY_THE_GRAPH)
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
