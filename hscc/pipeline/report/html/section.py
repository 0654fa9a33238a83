"""What the page is made of: sections, and the reasons why some are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hscc.pipeline.report.html.svg import Drawing


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes
    ----------
    name : str
        Its anchor; ``<name>.html.jinja`` shows it.
    heading : str
        Its title.
    content : mapping of str to Any
        What the template shows.
    drawings : tuple of Drawing
        The figures among the content, which are also written as files.
    """

    name: str
    heading: str
    content: Mapping[str, Any] = field(default_factory=dict)
    drawings: tuple[Drawing, ...] = ()


@dataclass(frozen=True)
class Absent:
    """A section that is left out, and why."""

    heading: str
    why: str
