"""The one reader of ``params.yaml``."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from hscc.errors import ParamsError
from hscc.params.whole import Params


def read_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check ``params.yaml``.

    Parameters
    ----------
    path : Path
        The YAML file.

    Returns
    -------
    Params
        Frozen, fully checked parameters.

    Raises
    ------
    ParamsError
        If the file is missing, is not YAML, or any key is unknown, absent or out of range. The
        message names the file and the first such key.
    """
    if not path.is_file():
        raise ParamsError(f"{path} does not exist; run from the folder that holds it, or pass its path.")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not UTF-8 text"
        raise ParamsError(f"{path} is not valid YAML{where} ({problem}); mend that line.") from error
    if not isinstance(loaded, dict):
        raise ParamsError(f"{path} must be a mapping of sections (data, train, ...); it holds {type(loaded).__name__}.")
    try:
        return Params.model_validate(loaded)
    except ValidationError as error:
        raise ParamsError(_first_problem(path, error)) from error


def _first_problem(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    reason = first["msg"].removeprefix("Value error, ")
    got = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
    if first["type"] == "extra_forbidden":
        return f"{path}: {key} is not a parameter; remove it or mend its spelling."
    if first["type"] == "missing":
        return f"{path}: {key} is missing; add it."
    return f"{path}: {key}{got}: {reason[0].lower()}{reason[1:]}."
