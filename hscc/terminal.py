"""Progress bars and tables on a terminal. rich is imported when one is drawn: that takes a tenth of a second."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterable[T]:
    """Pass items on under a progress bar on standard error, where that is a terminal.

    Parameters
    ----------
    items : iterable
        What is worked on.
    title : str
        Beside the bar.
    total : int, optional
        How many there are, where `items` has no length.
    """
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.track(items, title, total, console=console, transient=True, disable=not console.is_terminal)


def table_text(table: Table, width: int) -> str:
    """Draw a table as plain text of at most so many columns."""
    from rich.console import Console

    console = Console(width=width, record=True, file=io.StringIO(), markup=False)
    console.print(table)
    return console.export_text()
