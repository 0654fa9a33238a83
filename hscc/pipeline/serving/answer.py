"""What is said about one picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from hscc.pipeline.names import class_label

NOTICE = "Research software, not a medical device: not for diagnosis or treatment."


@dataclass(frozen=True)
class Answer:
    """The network's opinion of one picture.

    Attributes
    ----------
    name : str
        The picture.
    label : str
        The most probable class.
    probabilities : mapping of str to float
        Of every class.
    heatmap : str or None
        File that shows where the network looked.
    """

    name: str
    label: str
    probabilities: Mapping[str, float]
    heatmap: str | None = None


def as_text(answers: Sequence[Answer], model: str, version: str) -> str:
    """Write answers as JSON, with the version that gave them and the notice."""
    document = {"model": model, "version": version, "notice": NOTICE, "answers": [asdict(answer) for answer in answers]}
    return json.dumps(document, indent=2, ensure_ascii=False)


def as_table(answers: Sequence[Answer], model: str, version: str) -> Table:
    """Show answers in a table, with the version that gave them and the notice below."""
    drawn = [f"heat map: {answer.heatmap}" for answer in answers if answer.heatmap]
    caption = "\n".join([*drawn, NOTICE])
    table = Table(title=f"{model}, version {version}", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("class")
    for name in answers[0].probabilities:
        table.add_column(f"{class_label(name)} %", justify="right", no_wrap=True)
    for answer in answers:
        shown = [f"{100 * value:.1f}" for value in answer.probabilities.values()]
        table.add_row(answer.name, class_label(answer.label), *shown)
    return table
