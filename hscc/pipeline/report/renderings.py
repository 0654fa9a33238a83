"""A table as Markdown, and on a terminal."""

from __future__ import annotations

from rich.table import Table as RichTable

from hscc.pipeline.report.table import Table


def to_markdown(table: Table) -> str:
    """Write a table in GitHub's Markdown, without its caption."""
    rules = ["---" if is_words else "---:" for is_words in table.words()]
    header = (table.first, *(column.label for column in table.columns))
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (header, rules, *table.texts())
    )


def to_rich(table: Table, note: str = "") -> RichTable:
    """Lay a table out for a terminal, a line drawn where the kind of row changes."""
    rich = RichTable(title=table.caption, title_justify="left", caption=note or None, caption_justify="left")
    rich.add_column(table.first, no_wrap=True)
    for column, is_words in zip(table.columns, table.words()[1:], strict=True):
        label = column.label.replace("asked: ", "asked\n")
        rich.add_column(label, justify="left" if is_words else "right", overflow="fold")
    for line, texts, following in zip(table.lines, table.texts(), (*table.lines[1:], None), strict=True):
        rich.add_row(*texts, end_section=following is not None and following.kind != line.kind)
    return rich
