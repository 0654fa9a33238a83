"""A table of texts, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from hscc.pipeline.artifacts import DENSE
from hscc.pipeline.names import method_label, network_label
from hscc.pipeline.report.markdown.wording import divergence, p_value, points, score
from hscc.pipeline.report.terminal import structure_label
from hscc.pipeline.statistics.results import signed
from hscc.pipeline.statistics.robustness import CLEAN, LEAKY


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


NONE = "–"


def ablation_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out `hscc.pipeline.statistics.between_methods.ablation`: what the method loses with each of its ideas."""
    header = (
        "MACs", "method", "lacks", "predicted loss", "KL before", "KL after", "Δ KL (95 %)",
        "accuracy %", "Δ accuracy, points (95 %)", "McNemar p (Holm)",
    )  # fmt: skip
    return Grid("What each idea is worth", header, tuple(_ablated(row) for row in rows), words=3)


def _ablated(row: Mapping[str, Any]) -> tuple[str, ...]:
    compared = row["accuracy_difference"] is not None
    return (
        f"{row['budget']:g}×",
        method_label(row["method"]),
        row["lacks"] or "nothing",
        _number(row["predicted_loss"]),
        _number(row["val_kl_before"]),
        f"{row['kl_to_baseline']:.3f} ± {row['kl_to_baseline_se']:.3f}",
        divergence(row) if compared else NONE,
        score(row),
        points(row) if compared else NONE,
        f"{p_value(row['mcnemar_p'])} ({p_value(row['mcnemar_p_holm'])})" if compared else NONE,
    )


def rivals_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out `compare_rivals`: HSCC minus each rival at the same budget and seed."""
    header = ("HSCC", "against", "accuracy, points (95 %)", "McNemar p", "KL to dense (95 %)")
    return Grid("HSCC minus each rival", header, tuple(_against(row) for row in rows), words=2)


def _against(row: Mapping[str, Any]) -> tuple[str, ...]:
    rival = f"{method_label(row['against'])}, {row['budget']:g}×"
    ours = f"{network_label(row)}, seed {row['seed']}"
    return ours, rival, points(row), p_value(row["mcnemar_p"]), divergence(row)


def seeds_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out `summarise_seeds`: errors of the seeds beside those of the test set."""
    header = (
        "network", "seeds", "accuracy %, mean ± SE over seeds", "SD over seeds, points", "SE of the test set, points",
        "KL, mean ± SE over seeds",
    )  # fmt: skip
    return Grid("Over the seeds", header, tuple(_averaged(row) for row in rows))


def _averaged(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{method_label(row['method'])}, {row['budget']:g}×",
        str(row["seeds"]),
        f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_se']:.1f}",
        f"{100 * row['accuracy_sd']:.1f}",
        f"{100 * row['accuracy_bootstrap_se']:.1f}",
        f"{row['kl_to_baseline_mean']:.3f} ± {row['kl_to_baseline_se']:.3f}",
    )


def protocols_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out `compare_protocols`: a group of columns a protocol, and what leakage gave."""
    protocols = list(dict.fromkeys(name for row in rows for name in row["protocols"]))
    heads = [head for name in protocols for head in (f"{name}: accuracy %", "− dense, points")]
    header = ("network", *heads, f"{LEAKY} − {CLEAN}, points")
    return Grid("The same networks under each split", header, tuple(_under(row, protocols) for row in rows))


def _under(row: Mapping[str, Any], protocols: Sequence[str]) -> tuple[str, ...]:
    cells: list[str] = []
    for name in protocols:
        found = row["protocols"].get(name)
        cells.append(score(found) if found else NONE)
        cells.append(points(found) if found and row["method"] != DENSE else NONE)
    leaked = row["leakage"]
    gap = NONE if leaked is None else f"{signed(100 * leaked)} ± {100 * row['leakage_se']:.1f}"
    name = method_label(row["method"])
    return (name if row["method"] == DENSE else f"{name}, {row['budget']:g}×", *cells, gap)


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


NONE = "–"
Cells = tuple[str, ...]


def tradeoff_grid(document: Mapping[str, Any]) -> Grid:
    """Lay out ``tradeoff.json``: divergence, accuracy and speed of every structure at every budget.

    Parameters
    ----------
    document : mapping
        With a row at least.

    Returns
    -------
    Grid
        Structures of a smaller calibration than the full one are at the end, with its size.
    """
    rows, batches = document["rows"], document["batches"]
    budgets = sorted({row["budget"] for row in rows})
    names = ("KL", "accuracy %", f"faster {' / '.join(f'b{batch}' for batch in batches)}")
    header = ("structure", *(f"{budget:g}×: {name}" for budget in budgets for name in names))
    found: dict[str, dict[float, Cells]] = {}
    for row in rows:
        size = "" if row["images"] == document["calibration"] else f", {row['images']} images"
        found.setdefault(f"{structure_label(row)}{size}", {})[row["budget"]] = _cells(row, batches)
    empty = (NONE,) * len(names)
    lines = tuple(
        (structure, *(cell for budget in budgets for cell in cells.get(budget, empty)))
        for structure, cells in found.items()
    )
    return Grid("Trade-off", header, lines)


def _cells(row: Mapping[str, Any], batches: list[int]) -> Cells:
    return (
        f"{row['val_kl']:.3f} ± {row['val_kl_se']:.3f}",
        f"{100 * row['val_accuracy']:.1f} ± {100 * row['val_accuracy_se']:.1f}",
        " / ".join(f"{row[f'speedup_b{batch}']:.2f}×" for batch in batches),
    )
