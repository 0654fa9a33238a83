"""A progress bar on standard error, shown only on a terminal and removed when done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Iterable[T], doing: str, total: int | None = None) -> Iterable[T]:
    """Iterate with a bar; ``total`` where the length is not known from the items."""
    screen = Console(stderr=True)
    return track(items, doing, total, transient=True, console=screen, disable=not screen.is_terminal)
