"""Write ``params.yaml``: that of the package, comments included, with other values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import yaml as pyyaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from hscc.errors import ParamsError
from hscc.pipeline.workspace.proposal import Choice

_WIDE = 120  # columns
_COMMENTS = 27  # column of the comments in params.yaml
_COMMENTED = re.compile(r"""^( +\w+:(?: [^"'#]*[^"'# ])?) +(# .*)$""")


def with_choices(text: str, choices: Iterable[Choice]) -> str:
    """Set values in the text of a ``params.yaml``, in order, and keep the comments of all keys that stay.

    Parameters
    ----------
    text : str
        YAML.
    choices : iterable of Choice
        Keys that the text has.
    """
    yaml = _yaml()
    tree = yaml.load(text)
    for choice in choices:
        *sections, key = choice.key.split(".")
        section = tree
        for name in sections:
            section = section[name]
        old = section.get(key)
        block = isinstance(old, CommentedMap) and not old.fa.flow_style() and choice.value
        section[key] = CommentedMap(_flow(choice.value)) if block else _flow(choice.value)
        if choice.comment:
            section.yaml_add_eol_comment(choice.comment, key)
    return _text(yaml, tree)


def with_sections(text: str, sections: Mapping[str, Any]) -> str:
    """Replace whole sections in the text of a ``params.yaml``."""
    yaml = _yaml()
    tree = yaml.load(text)
    for name, section in sections.items():
        tree[name] = section
    return _text(yaml, tree)


def read_spec(path: Path) -> dict[str, Any]:
    """Read the sections that a file gives: a ``params.yaml``, some sections of one, or the section ``data`` alone.

    Returns
    -------
    dict
        Sections by name, with their comments; ``data`` is one of them.

    Raises
    ------
    ParamsError
        If the file is missing, is not YAML, or holds no section ``data``.
    """
    try:
        loaded = _yaml().load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} cannot be read ({error}); name a YAML file with --spec.") from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ParamsError(f"{path} is not valid YAML{where} ({getattr(error, 'problem', error)}); fix it.") from error
    if isinstance(loaded, CommentedMap) and "layout" in loaded:
        return {"data": loaded}
    if not isinstance(loaded, CommentedMap) or not isinstance(loaded.get("data"), CommentedMap):
        raise ParamsError(f"{path} has no section data; write one as in params.yaml, or leave --spec out.")
    return dict(loaded)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = _WIDE
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _text(yaml: YAML, tree: CommentedMap) -> str:
    stream = StringIO()
    yaml.dump(tree, stream)
    lines: list[str] = []
    for line in stream.getvalue().splitlines():
        found = _COMMENTED.match(line)
        if found:
            line = f"{found[1] + '  ':<{_COMMENTS}}{found[2]}"
        if re.match(r"\w+:", line) and lines and lines[-1] and not lines[-1].startswith("#"):
            lines.append("")  # between sections, where the comment that held it is gone
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def _flow(value: object) -> object:
    """Lists and mappings on one line, as everywhere in the file; quotes where a text reads as something else."""
    if isinstance(value, str) and _reads_otherwise(value):
        return DoubleQuotedScalarString(value)
    if isinstance(value, Mapping):
        inline = CommentedMap({_flow(key): _flow(item) for key, item in value.items()})
        inline.fa.set_flow_style()
        return inline
    if isinstance(value, list | tuple):
        row = CommentedSeq([_flow(item) for item in value])
        row.fa.set_flow_style()
        return row
    return value


def _reads_otherwise(text: str) -> bool:
    """Whether ``params.yaml`` is read with another value: PyYAML takes "no" for false, which YAML 1.2 does not."""
    try:
        return bool(pyyaml.safe_load(text) != text)
    except pyyaml.YAMLError:
        return False  # quoted as it needs it
