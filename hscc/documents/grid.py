"""A table of texts, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes
    ----------
    title : str
        What it shows.
    header : tuple of str
        Names of the columns.
    rows : tuple of tuple of str
        A text a column.
    words : int
        So many columns from the left hold words; the others hold figures and are set to the right.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1

    def to_markdown(self) -> str:
        """Write it as a table of GitHub's Markdown, without the title."""
        rules = ["---" if column < self.words else "---:" for column in range(len(self.header))]
        return "\n".join(_line(cells) for cells in (self.header, rules, *self.rows))

    def to_rich(self) -> Table:
        """Lay it out for a terminal."""
        table = Table(title=self.title, title_justify="left")
        for column, name in enumerate(self.header):
            table.add_column(name, justify="left" if column < self.words else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
