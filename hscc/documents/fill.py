"""Marked places in a Markdown file, ``<!-- figures: NAME -->`` to ``<!-- end -->`` each, filled by their block."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from hscc.errors import ArtifactError

_BLOCK = re.compile(r"(<!-- figures: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MARK = re.compile(r"<!-- (?:figures: [\w-]+|end) -->")


def fill(text: str, blocks: Mapping[str, Callable[[], str]], file: str) -> str:
    """Print every marked block anew.

    Parameters
    ----------
    text : str
        Markdown.
    blocks : mapping of str to callable
        By name, what prints the block.
    file : str
        For messages.

    Returns
    -------
    str
        The text with its blocks replaced; the same when they agree.

    Raises
    ------
    ArtifactError
        If a mark has no partner, or names no block.
    """
    if len(_MARK.findall(text)) != 2 * len(_BLOCK.findall(text)):
        raise ArtifactError(f"a mark of figures in {file} has no partner; close each block with <!-- end -->.")

    def renew(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in blocks:
            raise ArtifactError(f"{file} marks figures {name!r}, which no block prints; mend the name.")
        return f"{found[1]}\n{blocks[name]()}\n\n{found[3]}"

    return _BLOCK.sub(renew, text)
