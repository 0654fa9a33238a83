"""Networks against each other, over seeds and under other split protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hscc.pipeline.names import method_label
from hscc.pipeline.report.table import (
    NOTHING,
    Cell,
    Line,
    Measure,
    Table,
    asked_columns,
    cells_of,
    chance,
    columns_of,
    difference,
    figure,
    measure,
    signed_figure,
    with_error,
    words,
)
from hscc.pipeline.score_names import score_label
from hscc.pipeline.statistics.robustness import CLEAN, LEAKY, ProtocolRow, compare_protocols
from hscc.pipeline.statistics.schema import AblationRow, Comparison, MethodComparison, Results, SeedSummary


def comparison_table(results: Results, *, with_controls: bool = False) -> Table:
    """Tabulate HSCC minus each other method at the same budget and seed.

    Parameters
    ----------
    results : Results
        Of one protocol.
    with_controls : bool
        Whether the methods that lack one of HSCC's ideas are among them; the ablation has them too.
    """
    controls = {row.method for row in results.rows if row.role == "control"}
    pairs = [pair for pair in results.comparisons if with_controls or pair.difference.against not in controls]
    several_seeds = len({pair.seed for pair in pairs}) > 1
    p_value: Measure[MethodComparison] = measure(
        "McNemar p", lambda pair: chance(pair.difference.mcnemar_p), meaning="not corrected"
    )
    measures: list[Measure[MethodComparison]] = [
        *asked_columns(lambda pair: pair.budget, pairs),
        *([measure("seed", lambda pair: Cell(str(pair.seed), value=pair.seed))] if several_seeds else []),
        measure(f"{score_label(results.score)}, points (95\u00a0%)", lambda pair: difference(pair.difference.primary)),
        *([p_value] if results.score == "accuracy" else []),
        measure("KL to dense, nats (95\u00a0%)", lambda pair: difference(pair.difference.kl, 3, 1.0)),
        measure("beyond noise", lambda pair: words(_beyond_noise(pair.difference))),
    ]
    lines = tuple(Line(method_label(pair.difference.against), cells_of(pair, measures)) for pair in pairs)
    caption = "HSCC minus the other method on the same images, with 95 % intervals"
    return Table(caption, "against", columns_of(measures), lines)


def _beyond_noise(found: Comparison) -> str:
    said = [(score_label(found.score), found.primary, 1.0), ("KL", found.kl, -1.0)]
    return ", ".join(
        f"{name} {'better' if sign * (each.value or 0.0) > 0 else 'worse'}"
        for name, each, sign in said
        if not each.covers_zero
    )


def ablation_table(entries: Sequence[AblationRow]) -> Table:
    """Tabulate each control, and its difference to the method that has what it lacks."""
    score = entries[0].score if entries else "accuracy"

    def compared(label: str, cell: Callable[[Comparison], Cell]) -> Measure[AblationRow]:
        return measure(label, lambda entry: cell(entry.difference) if entry.difference else NOTHING)

    measures: list[Measure[AblationRow]] = [
        *asked_columns(lambda entry: entry.budget, entries),
        measure("lacks", lambda entry: words(entry.lacks or "nothing")),
        measure(
            "compared with", lambda entry: words(method_label(entry.difference.against) if entry.difference else "")
        ),
        measure("predicted loss", lambda entry: figure(entry.predicted_loss, 3)),
        measure("KL before, nats", lambda entry: figure(entry.val_kl_before, 3)),
        measure("KL after, nats", lambda entry: with_error(entry.kl)),
        compared("difference of KL (95\u00a0%)", lambda found: difference(found.kl, 3, 1.0)),
        measure(f"{score_label(score)}, %", lambda entry: with_error(entry.primary, 1, 100.0)),
        compared("difference, points (95\u00a0%)", lambda found: difference(found.primary)),
    ]
    if score == "accuracy":
        measures += [
            compared("McNemar p", lambda found: chance(found.mcnemar_p)),
            compared("p, Holm", lambda found: chance(found.mcnemar_p_holm)),
        ]
    lines = tuple(Line(method_label(entry.method), cells_of(entry, measures)) for entry in entries)
    caption = "Each control minus the method that has what it lacks, on the same images, with 95 % intervals"
    return Table(caption, "network", columns_of(measures), lines)


def seeds_table(summaries: Sequence[SeedSummary]) -> Table:
    """Tabulate errors over the seeds beside those of the test set."""
    measures: list[Measure[SeedSummary]] = [
        *asked_columns(lambda row: row.budget, summaries),
        measure("seeds", lambda row: figure(row.seeds, 0)),
        measure(
            f"{score_label(summaries[0].score)} %, mean ± SE over seeds",
            lambda row: figure(row.primary.mean, 1, factor=100.0, aside=f"± {100 * row.primary.se:.1f}"),
        ),
        measure("SD over seeds, points", lambda row: figure(row.primary.sd, 1, factor=100.0)),
        measure("SE of the test set, points", lambda row: figure(row.primary.bootstrap_se, 1, factor=100.0)),
        measure(
            "KL, mean ± SE over seeds",
            lambda row: figure(row.kl.mean, 3, aside=f"± {row.kl.se:.3f}"),
        ),
    ]
    lines = tuple(Line(method_label(row.method), cells_of(row, measures)) for row in summaries)
    return Table("Over the seeds", "network", columns_of(measures), lines)


def protocols_table(documents: Mapping[str, Results]) -> Table:
    """Tabulate the same networks under each split protocol, and how much near-copies in training raise the score.

    Parameters
    ----------
    documents : mapping of str to Results
        Of `hscc.pipeline.statistics.robustness.read_protocols`, the report's own protocol first.
    """
    rows = compare_protocols(documents)
    names = list(rows[0].protocols)
    score = score_label(next(iter(documents.values())).score)
    measures: list[Measure[ProtocolRow]] = [
        *asked_columns(lambda row: row.budget, rows),
        *(column for name in names for column in _under(name, score)),
    ]
    if {LEAKY, CLEAN} <= set(names):
        measures.append(measure(f"{LEAKY} − {CLEAN}, points", _leakage))
    lines = tuple(Line(method_label(row.method), cells_of(row, measures)) for row in rows)
    return Table("The same networks under each protocol, ± one standard error", "network", columns_of(measures), lines)


def _under(name: str, score: str) -> tuple[Measure[ProtocolRow], Measure[ProtocolRow]]:
    def primary(row: ProtocolRow) -> Cell:
        found = row.protocols.get(name)
        return with_error(found.primary, 1, 100.0) if found else NOTHING

    def to_dense(row: ProtocolRow) -> Cell:
        found = row.protocols.get(name)
        return difference(found.against_dense.primary) if found and found.against_dense else NOTHING

    return measure(f"{name}: {score}, %", primary), measure("− dense, points (95\u00a0%)", to_dense)


def _leakage(row: ProtocolRow) -> Cell:
    aside = "" if row.leakage_se is None else f"± {100 * row.leakage_se:.1f}"
    return signed_figure(row.leakage, factor=100.0, aside=aside)
