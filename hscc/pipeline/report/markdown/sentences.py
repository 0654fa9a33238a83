"""What the results say, in sentences whose every figure and every verdict is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hscc.pipeline.artifacts import DENSE
from hscc.pipeline.names import method_label, network_label
from hscc.pipeline.report.markdown.paper_claims import PAPER
from hscc.pipeline.report.markdown.wording import (
    REFUTED,
    REPRODUCED,
    UNDECIDED,
    listed,
    of_sign,
    p_value,
    points,
    score,
)
from hscc.pipeline.statistics.between_methods import SUBJECT
from hscc.pipeline.statistics.results import (
    Row,
    candidate_rows,
    compressed_rows,
    dense_row,
    float_rows,
    signed,
    twins_of,
)

Document = Mapping[str, Any]
_RIVALS = ("global_svd", "tucker", "global_svd_adaptive", "tucker_adaptive")
_MIXED = "mixed"
_WORDS = {
    REPRODUCED: "is above",
    REFUTED: "is below",
    UNDECIDED: "cannot be told from",
    _MIXED: "is not the same in every seed against",
}
_LEVEL = 0.05  # of McNemar's tests together


def findings(document: Document) -> list[str]:
    """Say what the table of one protocol says.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.

    Returns
    -------
    list of str
        Sentences in Markdown; those for which the table has figures.
    """
    rows, protocol = document["rows"], document["protocol"]
    candidates = candidate_rows(rows, protocol)
    found = [
        _fastest(candidates, rows),
        _budgets_of_time(candidates),
        *(_rivals(document["comparisons"], row) for row in candidates if row["method"] == SUBJECT),
        _losers(compressed_rows(rows, protocol)),
        _seeds(document["seeds"]),
        _protocols(rows),
        _one_image(document),
    ]
    return [sentence for sentence in found if sentence]


def headline(document: Document) -> str:
    """Say in one sentence what the registered kind of network is worth: the fastest without a loss beyond noise.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.

    Returns
    -------
    str
        Markdown; says so where no network keeps the accuracy.
    """
    rows, protocol = document["rows"], document["protocol"]
    row = _fastest_faithful(candidate_rows(rows, protocol))
    if row is None:
        return "**In short:** no compressed network keeps the dense one's accuracy within noise."
    return (
        f"**In short:** {network_label(row)} runs {row['speedup_b1']:.1f}× faster than its dense network, with "
        f"{row['macs_ratio']:.0f}× fewer MACs and {row['params_ratio']:.0f}× fewer parameters, at {points(row)} points "
        f"of accuracy (95 %) on {row['n_test']} test images. {_where_it_stands(document['comparisons'])}"
        "One public data set, one training of the dense network, no clinical claim."
    )


def _where_it_stands(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Count the budgets and seeds in which HSCC is above and below each rival beyond the paired interval."""
    beside = _by_rival(pairs)
    if not beside:
        return ""
    counts = []
    for against in (rival for rival in _RIVALS if rival in beside):
        verdicts = _verdicts(beside[against])
        above, below = verdicts.count(REPRODUCED), verdicts.count(REFUTED)
        counts.append(f"{method_label(against)} in {above}" + (f" (below in {below})" if below else ""))
    many = max(len(found) for found in beside.values())
    return f"Of {many} comparisons each (budgets × seeds) HSCC is more accurate beyond noise than {listed(counts)}. "


def _by_rival(pairs: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Sort HSCC's comparisons by the rival, in the order in which they come."""
    beside: dict[str, list[Mapping[str, Any]]] = {}
    for pair in pairs:
        if pair["method"] == SUBJECT and pair["against"] in _RIVALS:
            beside.setdefault(pair["against"], []).append(pair)
    return beside


def _verdicts(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [of_sign(pair["accuracy_difference_low"], pair["accuracy_difference_high"]) for pair in pairs]


def _fastest_faithful(candidates: Sequence[Row]) -> Row | None:
    faithful = [row for row in candidates if row["accuracy_difference_high"] >= 0 and row.get("speedup_b1")]
    return max(faithful, key=lambda row: float(row["speedup_b1"]), default=None)


def _fastest(candidates: Sequence[Row], rows: Sequence[Row]) -> str | None:
    """Speak of the fastest network whose accuracy is not below the dense one's beyond noise."""
    row = _fastest_faithful(candidates)
    if row is None:
        return None
    at_16 = f" and {row['speedup_b16']:.1f}× at batch 16" if row.get("speedup_b16") else ""
    return (
        f"**Fastest without a loss beyond noise.** {network_label(row)} has {row['macs_ratio']:.1f}× fewer MACs and "
        f"{row['params_ratio']:.0f}× fewer parameters and runs {row['speedup_b1']:.1f}× faster at batch 1{at_16}; "
        f"its accuracy differs from the dense network's by {points(row)} points (picked as the fastest by these very "
        f"images).{_twin(row, rows)} "
        f"The paper turns {PAPER.flops_ratio:.1f}× fewer FLOPs into {PAPER.speedup:.2f}×."
    )


def _twin(row: Row, rows: Sequence[Row]) -> str:
    found = twins_of(row, rows)
    if not found:
        return ""
    twin = found[0]
    return f" Its int8 twin is a file of {twin['size_bytes'] / 1e6:.1f} MB: {points(twin)} points."


def _budgets_of_time(candidates: Sequence[Row]) -> str | None:
    timed = [row for row in candidates if row["method"].endswith("_timed") and row.get("speedup_b16")]
    if not timed:
        return None
    found = [
        f"{method_label(row['method'])} {min(row['speedup_b1'], row['speedup_b16']):.1f}× where {row['budget']:g}× was "
        "asked"
        for row in timed
    ]
    return f"**A budget of time**, at batch 1 and 16 alike, came out as: {listed(found)} (the lower of the two)."


def _rivals(pairs: Sequence[Mapping[str, Any]], row: Row) -> str | None:
    """Sort the rivals of one budget by what the paired intervals of accuracy allow to be said, in every seed alike."""
    beside = _by_rival([pair for pair in pairs if pair["budget"] == row["budget"]])
    if not beside:
        return None
    found: dict[str, list[str]] = {}
    for against, of_seeds in beside.items():
        verdicts = _verdicts(of_seeds)
        same = len(set(verdicts)) == 1
        name = f"{method_label(against)} ({_gap(of_seeds)}"
        if not same:
            name += f"; above in {verdicts.count(REPRODUCED)}, below in {verdicts.count(REFUTED)}"
        found.setdefault(verdicts[0] if same else _MIXED, []).append(f"{name})")
    seeds = max(len(of_seeds) for of_seeds in beside.values())
    said = [f"{_WORDS[verdict]} {listed(found[verdict])}" for verdict in _WORDS if verdict in found]
    over = f" over {seeds} seeds" if seeds > 1 else ""
    return f"**HSCC at {row['budget']:g}×**, in points of accuracy{over}, {'. It '.join(said)}."


def _gap(of_seeds: Sequence[Mapping[str, Any]]) -> str:
    if len(of_seeds) == 1:
        return points(of_seeds[0]).replace(" (", ", ").removesuffix(")")
    gaps = [100 * pair["accuracy_difference"] for pair in of_seeds]
    return f"{signed(min(gaps))} to {signed(max(gaps))}"


def _losers(rows: Sequence[Row]) -> str:
    lost = [row for row in rows if row["accuracy_difference_high"] < 0]
    if not lost:
        return "**No network** loses accuracy against the dense one beyond its paired interval."
    text = (
        f"**Beyond the paired interval** {len(lost)} of {len(rows)} networks lose accuracy, in points, seed by seed: "
        f"{listed(_each(lost, lambda row: signed(100 * row['accuracy_difference'])))}"
    )
    if any(row.get("mcnemar_p_holm") is None for row in lost):
        return f"{text}."
    sure = [row for row in lost if row["mcnemar_p_holm"] < _LEVEL]
    kept = _each(sure, lambda row: f"p {p_value(row['mcnemar_p_holm'])}")
    return f"{text}. By McNemar's test with Holm's correction: {listed(kept) if kept else 'none'}."


def _each(rows: Sequence[Row], figure: Callable[[Row], str]) -> list[str]:
    """Name every network once, with a figure of each of its seeds behind it."""
    of_seeds: dict[str, list[str]] = {}
    for row in rows:
        of_seeds.setdefault(network_label(row), []).append(figure(row))
    return [f"{label} ({', '.join(figures)})" for label, figures in of_seeds.items()]


def _seeds(averages: Sequence[Mapping[str, Any]]) -> str | None:
    """Say how much another seed of clustering and fine-tuning changes, beside how much another test set would."""
    if not averages:
        return None
    spread = [100 * row["accuracy_sd"] for row in averages]
    chance = [100 * row["accuracy_bootstrap_se"] for row in averages]
    below = sum(one < other for one, other in zip(spread, chance, strict=True))
    return (
        f"**Another seed** of clustering and fine-tuning: over {min(row['seeds'] for row in averages)} seeds the "
        f"standard deviation of a network's accuracy is {min(spread):.1f} to {max(spread):.1f} points, below the "
        f"standard error of the test set ({min(chance):.1f} to {max(chance):.1f}) for {below} of {len(averages)} "
        "networks."
    )


def _protocols(rows: Sequence[Row]) -> str:
    dense = [row for row in float_rows(rows) if row["method"] == DENSE]
    return "**The dense network** scores " + listed([f"{score(row)} % under {row['protocol']}" for row in dense]) + "."


def _one_image(document: Document) -> str:
    row = dense_row(document["rows"], document["protocol"])
    return (
        f"**One image is {100 / row['n_test']:.2f} points** on {row['n_test']} test images: the paper's gain of "
        f"{100 * PAPER.gain:.2f} points is {PAPER.gain * PAPER.images:.0f} images of {PAPER.images}."
    )
