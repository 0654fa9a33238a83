"""The smaller tables of the evidence: ablation, rivals, seeds, protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hscc.documents.grid import Grid
from hscc.documents.wording import divergence, p_value, points, score
from hscc.evaluation.headline import signed
from hscc.evaluation.names import method_label, network_label
from hscc.evaluation.networks import DENSE
from hscc.evaluation.protocols import CLEAN, LEAKY

NONE = "–"


def ablation_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out `hscc.evaluation.ablation.ablation`: what the method loses with each of its ideas."""
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
    """Lay out `hscc.evaluation.rivals.compare_rivals`: HSCC minus each rival at the same budget and seed."""
    header = ("HSCC", "against", "accuracy, points (95 %)", "McNemar p", "KL to dense (95 %)")
    return Grid("HSCC minus each rival", header, tuple(_against(row) for row in rows), words=2)


def _against(row: Mapping[str, Any]) -> tuple[str, ...]:
    rival = f"{method_label(row['against'])}, {row['budget']:g}×"
    ours = f"{network_label(row)}, seed {row['seed']}"
    return ours, rival, points(row), p_value(row["mcnemar_p"]), divergence(row)


def seeds_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out `hscc.evaluation.seeds.summarise_seeds`: errors of the seeds beside those of the test set."""
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
    """Lay out `hscc.evaluation.protocols.compare_protocols`: a group of columns a protocol, and what leakage gave."""
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
