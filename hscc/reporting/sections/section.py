"""What every section gives to the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hscc.reporting.svg import Drawing


@dataclass(frozen=True)
class Section:
    """One section of the report.

    Attributes
    ----------
    name : str
        Its anchor; ``<name>.html.jinja`` shows it.
    heading : str
        Its title.
    content : mapping of str to Any
        What the template sees.
    drawings : tuple of Drawing
        The figures among the content, to be kept as files too.
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
