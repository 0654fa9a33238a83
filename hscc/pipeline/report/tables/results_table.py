"""All networks: what was asked of each, what it saves, how good it is and how fast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hscc.pipeline.names import table_label
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
    with_error,
    with_interval,
    with_spread,
)
from hscc.pipeline.report.tables.seed_means import mean_over_seeds
from hscc.pipeline.report.wording import RUNTIME_NAMES
from hscc.pipeline.score_names import score_label
from hscc.pipeline.statistics.schema import Estimate, NetworkRow, Results, Timing

SEED, INT8 = "seed", "int8"  # kinds of rows beside the roles of `NetworkRow`
_ERRORS = ("ece", "brier", "mae", "rmse", "surface_distance")  # scores of which less is better
_ALWAYS = 2  # batch sizes whose speed-up is always shown


@dataclass(frozen=True)
class Entry:
    """A row of the table: a network, the seeds that its scores are means of, and their spread."""

    row: NetworkRow
    kind: str
    seeds: int = 1
    score_se: float | None = None
    aside: str = ""


def results_table(results: Results) -> Table:
    """Tabulate all networks of the results' protocol.

    Returns
    -------
    Table
        One row per method and budget, the mean over its seeds, with single seeds below it and int8 variants at the end
        (the kinds of rows `SEED` and `INT8`). Rows and groups of columns can be shown or hidden.
    """
    entries = [*_means(results), *_int8_variants(results)]
    measures = _measures(results, entries)
    chosen = results.chosen()
    lines = tuple(
        Line(table_label(entry.row), cells_of(entry, measures), entry.kind, entry.aside, _is_mean_of(entry, chosen))
        for entry in entries
    )
    caption = f"Test scores of the deployed ONNX files, {results.protocol} protocol"
    return Table(caption, "network", columns_of(measures), lines)


def brief_table(results: Results) -> Table:
    """Tabulate the networks that may be deployed, in a width that a terminal has.

    Returns
    -------
    Table
        The dense network and the candidates of the first seed; their int8 variants below the dense network, the one to
        speak of and the nearest to the dense network at each budget; then the dense networks of the other protocols.
    """
    candidates, dense, chosen = results.candidates(), results.dense(), results.chosen()
    nearest = {row.budget: row.name for row in sorted(candidates, key=lambda row: (-row.validation.kl, row.name))}
    shown_in_int8 = {dense.name, chosen.name, *nearest.values()}
    measures = _brief_measures(results, candidates)
    lines = []
    for row in [dense, *candidates]:
        lines.append(Line(table_label(row), cells_of(row, measures), chosen=row is chosen))
        if row.name in shown_in_int8 and (small := results.int8_of(row)):
            lines.append(Line("└ in int8", cells_of(small, measures)))
    for row in results.rows:
        if row.is_dense and row.protocol != results.protocol:
            lines.append(Line(f"Dense, {row.protocol} protocol", cells_of(row, measures), kind="other protocol"))
    subject = "PHANTOM images, not patients" if results.phantom else "Test split"
    caption = f"{subject}, {results.protocol} protocol, {dense.n_test} test images (± one standard error)"
    return Table(caption, "network", columns_of(measures), tuple(lines))


def brief_note(results: Results) -> str:
    """Say where the figures of `brief_table` come from and what its columns are."""
    bounded = ", with no more parameters and no longer a time than dense" * results.bounded
    return (
        f"data {results.data_hash[:12]}, commit {results.git_commit[:12]}; asked: what the network was made for"
        f"{bounded}; MACs, params, speed: times fewer or faster than dense, in "
        f"{RUNTIME_NAMES.get(results.runtime, results.runtime)}"
    )


def summary_table(results: Results) -> Table:
    """Tabulate the four networks that matter: dense, the best other method, the chosen one and its int8 variant."""
    chosen = results.chosen()
    found = [results.dense(), best_other(results), chosen, results.int8_of(chosen)]
    rows = [row for row in found if row is not None]
    batches = results.batches()[:_ALWAYS]
    measures: list[Measure[NetworkRow]] = [
        *asked_columns(lambda row: row.budget, rows),
        measure("MACs, M", lambda row: figure(row.macs, 0, factor=1e-6)),
        measure("parameters, M", lambda row: figure(row.params, 1, factor=1e-6)),
        measure("file, MB", lambda row: figure(row.size_bytes, 1, factor=1e-6)),
        measure(f"{score_label(results.score)}, % (95 %)", lambda row: with_interval(row.primary)),
        measure("− dense, points (95 %)", lambda row: _to_dense(row, difference)),
        *(_speed(f"times faster, batch {batch}", batch, with_iqr=False) for batch in batches),
    ]
    lines = tuple(Line(table_label(row), cells_of(row, measures), chosen=row is chosen) for row in rows)
    return Table("The networks that matter", "network", columns_of(measures), lines)


def best_other(results: Results) -> NetworkRow | None:
    """Find the network of another method to hold against the one to speak of.

    Returns
    -------
    NetworkRow or None
        Of the candidates that are no form of HSCC (where the chosen one is none, of those that are) and either need no
        more MACs or are as fast at every batch size, the nearest to the dense network on validation; where there is
        none, the one with the fewest MACs; None where no other method was run.
    """
    chosen = results.chosen()
    ours = chosen.method.startswith("hscc")
    others = [row for row in results.candidates() if row.method.startswith("hscc") != ours]
    equals = [
        row
        for row in others
        if row.macs <= chosen.macs or (row.lowest_speedup or 0.0) >= (chosen.lowest_speedup or float("inf"))
    ]
    if equals:
        return min(equals, key=lambda row: (row.validation.kl, row.name))
    return min(others, key=lambda row: (row.macs, row.name), default=None)


def _means(results: Results) -> Iterator[Entry]:
    for mean in mean_over_seeds([results.dense(), *results.compressed()], results.seeds):
        yield Entry(mean.row, mean.row.role, len(mean.of_seeds), mean.score_se)
        if len(mean.of_seeds) > 1:
            yield from (Entry(row, SEED, aside=f"seed {row.seed}") for row in mean.of_seeds)


def _int8_variants(results: Results) -> list[Entry]:
    rows = [row for row in results.rows if row.precision == "int8" and row.protocol == results.protocol]
    several_seeds = len({row.seed for row in rows if row.spec}) > 1
    return [Entry(row, INT8, aside=f"seed {row.seed}" if several_seeds else "") for row in rows]


def _is_mean_of(entry: Entry, chosen: NetworkRow) -> bool:
    same = (entry.row.method, entry.row.budget, entry.row.precision)
    return entry.kind not in (SEED, INT8) and same == (chosen.method, chosen.budget, chosen.precision)


def _measures(results: Results, entries: Sequence[Entry]) -> list[Measure[Entry]]:
    timed, torch = results.batches(), results.batches("torch")
    several_seeds = any(entry.seeds > 1 for entry in entries)
    spread = measure("± over seeds", _seed_spread)
    head = [
        *asked_columns(lambda row: row.budget, [entry.row for entry in entries]),
        *_savings("fewer MACs", "fewer params", "file, MB"),
        measure(f"{score_label(results.score)}, %", lambda row: with_error(row.primary, 1, 100.0)),
    ]
    rest = [
        measure("to dense, points [95\u00a0%]", lambda row: _to_dense(row, difference)),
        *([_holm_to_dense()] if results.score == "accuracy" else []),
        measure("KL to dense, nats", lambda row: NOTHING if row.is_dense else with_error(row.kl)),
        *(
            _speed(f"speed-up, batch {batch} (IQR)", batch, group="" if place < _ALWAYS else "clock")
            for place, batch in enumerate(timed)
        ),
        *_scores(results),
        *_against_global_svd(results.score),
        *(column for batch in timed for column in _clock(batch)),
        *(_speed(f"speed-up in torch, batch {batch}", batch, "torch", "torch", with_iqr=False) for batch in torch),
        *_before_tuning(score_label(results.score)),
    ]
    return [*map(_of_entry, head), *([spread] if several_seeds else []), *map(_of_entry, rest)]


def _brief_measures(results: Results, rows: Sequence[NetworkRow]) -> list[Measure[NetworkRow]]:
    return [
        *asked_columns(lambda row: row.budget, rows),
        *_savings("MACs", "params", "MB"),
        measure(f"{score_label(results.score)} %", lambda row: with_error(row.primary, 1, 100.0)),
        measure("KL", lambda row: figure(row.kl.value, 3)),
        *(_speed(f"speed b{batch}", batch, with_iqr=False) for batch in results.batches()[:_ALWAYS]),
    ]


def _of_entry(of_row: Measure[NetworkRow]) -> Measure[Entry]:
    return Measure(of_row.column, lambda entry: of_row.cell(entry.row))


def _seed_spread(entry: Entry) -> Cell:
    return figure(entry.score_se, 2, factor=100.0, aside=f"of {entry.seeds}")


def _savings(macs: str, params: str, size: str) -> list[Measure[NetworkRow]]:
    return [
        measure(macs, lambda row: figure(row.macs_ratio, 2, "×")),
        measure(params, lambda row: figure(row.params_ratio, 2, "×")),
        measure(size, lambda row: figure(row.size_bytes, 1, factor=1e-6)),
    ]


def _to_dense(row: NetworkRow, make: Callable[[Estimate], Cell]) -> Cell:
    return make(row.against_dense.primary) if row.against_dense else NOTHING


def _speed(
    label: str, batch: int, group: str = "", runtime: str | None = None, *, with_iqr: bool = True
) -> Measure[NetworkRow]:
    def cell(timing: Timing) -> Cell:
        return with_spread(timing.speedup, timing.speedup_iqr if with_iqr else None, 2, "×")

    return _timed(label, batch, cell, group, runtime)


def _timed(
    label: str, batch: int, cell: Callable[[Timing], Cell], group: str, runtime: str | None = None
) -> Measure[NetworkRow]:
    def of_row(row: NetworkRow) -> Cell:
        timing = row.timing(batch, runtime)
        return NOTHING if timing is None else cell(timing)

    return measure(label, of_row, group)


def _clock(batch: int) -> list[Measure[NetworkRow]]:
    return [
        _timed(f"ms, batch {batch} (IQR)", batch, lambda timing: with_spread(timing.ms, timing.ms_iqr), "clock"),
        _timed(f"efficiency, batch {batch}", batch, lambda timing: figure(timing.efficiency), "clock"),
        _timed(f"peak MB, batch {batch}", batch, lambda timing: figure(timing.peak_mb, 0), "clock"),
    ]


def _holm_to_dense() -> Measure[NetworkRow]:
    return measure("p, Holm", lambda row: chance(row.against_dense.mcnemar_p_holm if row.against_dense else None))


def _scores(results: Results) -> list[Measure[NetworkRow]]:
    """The scores beside the primary one: in percent, but errors of probabilities as they are."""
    others = [name for name in results.dense().scores if name != results.score]
    return [
        *(_score(name) for name in others if name not in _ERRORS),
        measure("agreement, %", lambda row: with_error(row.agreement, 1, 100.0), "scores"),
        *(_score(name) for name in others if name in _ERRORS),
    ]


def _score(name: str) -> Measure[NetworkRow]:
    label = score_label(name)
    if name in _ERRORS:
        return measure(label, lambda row: with_error(row.scores[name]), "scores")
    return measure(f"{label}, %", lambda row: with_error(row.scores[name], 1, 100.0), "scores")


def _against_global_svd(score: str) -> list[Measure[NetworkRow]]:
    def primary(row: NetworkRow) -> Estimate | None:
        return row.against_global_svd.primary if row.against_global_svd else None

    def kl(row: NetworkRow) -> Estimate | None:
        return row.against_global_svd.kl if row.against_global_svd else None

    p_value: Measure[NetworkRow] = measure(
        "p to Global SVD, Holm",
        lambda row: chance(row.against_global_svd.mcnemar_p_holm if row.against_global_svd else None),
        "svd",
    )
    return [
        measure("to Global SVD, points [95\u00a0%]", lambda row: difference(primary(row)), "svd"),
        measure("KL to Global SVD's [95\u00a0%]", lambda row: difference(kl(row), 3, 1.0), "svd"),
        *([p_value] if score == "accuracy" else []),
    ]


def _before_tuning(score: str) -> list[Measure[NetworkRow]]:
    return [
        measure(
            f"validation {score} before, %",
            lambda row: figure(row.validation.score_before, 1, factor=100.0),
            "before",
        ),
        measure("validation KL before, nats", lambda row: figure(row.validation.kl_before, 3), "before"),
        measure(
            f"validation {score}, no training, %",
            lambda row: figure(row.validation.score_untrained, 1, factor=100.0),
            "before",
        ),
        measure("validation KL, no training, nats", lambda row: figure(row.validation.kl_untrained, 3), "before"),
        measure("predicted loss", lambda row: figure(row.validation.predicted_loss, 3), "before"),
    ]
