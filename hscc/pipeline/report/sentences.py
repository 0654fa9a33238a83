"""What the results say, in sentences whose every figure and every verdict is computed.

They speak of the network of `Results.chosen`; where it does not meet the requirements they say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hscc.pipeline.names import budget_label, method_label, network_label
from hscc.pipeline.report.paper_claims import PAPER, on_the_papers_classes
from hscc.pipeline.report.tables.results_table import best_other
from hscc.pipeline.report.wording import (
    REFUTED,
    REPRODUCED,
    RUNTIME_NAMES,
    UNDECIDED,
    count,
    listed,
    of_sign,
    p_value,
    percent,
    points,
    score,
)
from hscc.pipeline.score_names import better_in, score_label
from hscc.pipeline.statistics.results import signed
from hscc.pipeline.statistics.schema import (
    Comparison,
    Estimate,
    MethodComparison,
    NetworkRow,
    Results,
    SeedSummary,
)

LEVEL = 0.05  # of p-values after Holm's correction
_BUDGET_BATCHES = (1, 16)  # at which a budget of time must hold
_MIXED = "mixed"
_WORDS = {
    REPRODUCED: "is above",
    REFUTED: "is below",
    UNDECIDED: "is within noise of",
    _MIXED: "is not the same in every seed against",
}
_SPLITS = {
    "grouped": "no test image has a near-copy in training",
    "pooled": "test images may have near-copies in training, which raises all scores",
    "official": "the test images are the data set's own",
}


def title(row: NetworkRow) -> str:
    """Say in a few words what a compressed network saves and costs."""
    gained = f"{row.macs_ratio:.1f} times fewer MACs"
    if timing := row.timing(1):
        gained += f", {_pace(timing.speedup)}"
    change = _to_dense(row)
    if change.covers_zero:
        return f"{gained}, {score_label(row.score)} within noise"
    kind = "gained" if (change.value or 0.0) > 0 else "lost"
    return f"{gained}, {100 * abs(change.value or 0.0):.1f} points of {score_label(row.score)} {kind}"


def gain(results: Results) -> str:
    """Say what the network to speak of saves and costs, and what it lacks of the requirements."""
    row, dense = results.chosen(), results.dense()
    change = _to_dense(row)
    said = (
        f"{method_label(row.method)}, asked for {budget_label(row.budget.ratios)}, has {row.macs_ratio:.1f}× fewer "
        f"MACs and {row.params_ratio:.0f}× fewer parameters, {_speed(row)} and is a file "
        f"{dense.size_bytes / row.size_bytes:.1f}× smaller, at a test {score_label(row.score)} of "
        f"{percent(row.primary)} against "
        f"{percent(dense.primary)} of the dense network: {points(change)} points, "
        f"{'within' if change.covers_zero else 'beyond'} noise."
    )
    lacks = results.shortfalls(row)
    if not lacks:
        return said
    return f"No network meets the requirements; the one nearest to the dense network {listed(lacks)}. {said}"


def standing(results: Results) -> str:
    """Count in how many budgets and seeds HSCC is above and below each other method beyond the paired interval."""
    beside = _by_method(_deployable(results))
    if not beside:
        return "No other method was run at the same budget."
    counts = []
    for against, pairs in beside.items():
        verdicts = [of_sign(pair.difference.primary) for pair in pairs]
        above, below = verdicts.count(REPRODUCED), verdicts.count(REFUTED)
        counts.append(f"{method_label(against)} in {above} of {len(pairs)}" + (f" (below in {below})" if below else ""))
    return f"At equal budgets and seeds HSCC is {better_in(results.score)} beyond noise than {listed(counts)}."


def headline(results: Results) -> str:
    """Say in short what came out, in Markdown."""
    return f"**In short:** {gain(results)} {standing(results)}"


def verdict(results: Results) -> list[str]:
    """Say in three sentences what was gained, whether HSCC beats its controls, and what it is not."""
    return [gain(results), _controls(results) or standing(results), setting(results)]


def setting(results: Results) -> str:
    """Say on what the figures rest."""
    rows = results.compressed()
    seeds, images = len({row.seed for row in rows}), rows[0].n_test
    split = f", in which {_SPLITS[results.protocol]}" if results.protocol in _SPLITS else ""
    drawn = "drawn images, no patients, and says nothing about images of patients"
    subject = drawn if results.phantom else "one data set"
    weight = f"it has {images} test images"
    if results.score == "accuracy":
        weight = f"one of its {images} test images is {100 / images:.2f} points"
    return (
        f"All this is {count(seeds)} seed{'' if seeds == 1 else 's'} of compression and one training of the dense "
        f"network on {subject}, split by the {results.protocol} protocol{split}; {weight}, and nothing here is a "
        "clinical claim."
    )


def limits(results: Results) -> str:
    """Say in one paragraph what the figures do not show."""
    row, other = results.chosen(), best_other(results)
    said = ["**What this does not show.** " + setting(results)]
    low, high = (0.0 if end is None else 100 * end for end in (_to_dense(row).low, _to_dense(row).high))
    said.append(
        f"{_ends(low, high)}, and the network was picked among {len(results.candidates())} by requirements of which "
        f"one is its {score_label(row.score)} on these very images."
    )
    if other is not None:
        alike = "with overlapping intervals" if _overlap(row.primary, other.primary) else "beyond the intervals"
        said.append(
            f"The nearest of the other methods is {network_label(other)}: {score(other.primary)} % against "
            f"{score(row.primary)} %, {alike}."
        )
    elsewhere = [found for found in results.rows if found.is_dense and found.protocol == "official"]
    if elsewhere and results.protocol != "official":
        said.append(
            "On images of another origin (the official test folder) even the dense network has "
            f"{score(elsewhere[0].primary)} %."
        )
    runtime = RUNTIME_NAMES.get(results.runtime, results.runtime)
    said.append(f"Times are of one processor, {results.machine.processor}, in {runtime} on {results.threads} threads.")
    return " ".join(said)


def _ends(low: float, high: float) -> str:
    """Say what both ends of an interval of a difference, in points, have in common: a loss, a gain, or either."""
    if low < 0 < high:
        return f"A loss of {-low:.1f} points is as compatible with these images as a gain of {high:.1f}"
    if high <= 0:
        return f"A loss of {-low:.1f} points is as compatible with these images as one of {-high:.1f}"
    return f"A gain of {low:.1f} points is as compatible with these images as one of {high:.1f}"


def findings(results: Results) -> list[str]:
    """Say what the table of one protocol says.

    Returns
    -------
    list of str
        Sentences in Markdown; those for which the table has figures.
    """
    candidates = results.candidates()
    found = [
        _chosen(results),
        _latency_budgets(candidates),
        *(_against_others(results, row) for row in candidates if row.method == "hscc"),
        _losses(results.compressed(), score_label(results.score)),
        _seeds(results.seeds),
        _protocols(results.rows),
        _one_image(results),
    ]
    return [sentence for sentence in found if sentence]


def _to_dense(row: NetworkRow) -> Estimate:
    return row.against_dense.primary if row.against_dense else Estimate(value=0.0)


def _overlap(first: Estimate, second: Estimate) -> bool:
    ends = (first.low, first.high, second.low, second.high)
    return None in ends or (first.low <= second.high and second.low <= first.high)  # type: ignore[operator]


def _pace(speedup: float) -> str:
    return f"{speedup:.1f} times faster" if speedup >= 1 else f"{1 / speedup:.1f} times slower"


def _speed(row: NetworkRow) -> str:
    timing = row.timing(1)
    if timing is None:
        return "was not timed at batch 1"
    if abs(timing.speedup - 1) <= timing.speedup_iqr / 2:
        return "is as fast as the dense network within the noise of the clock"
    spread = f" (IQR {timing.speedup_iqr:.1f})" if timing.speedup_iqr else ""
    more = row.timing(16)
    return f"runs {_pace(timing.speedup)} at batch 1{spread}" + (f" and {_pace(more.speedup)} at 16" if more else "")


def _deployable(results: Results) -> list[MethodComparison]:
    """Comparisons of HSCC with methods of other kinds, in the order in which they come."""
    others = {row.method for row in results.compressed() if row.role == "compared"}
    return [
        pair
        for pair in results.comparisons
        if pair.difference.against in others and not pair.difference.against.startswith("hscc")
    ]


def _by_method(pairs: Iterable[MethodComparison]) -> dict[str, list[MethodComparison]]:
    beside: dict[str, list[MethodComparison]] = {}
    for pair in pairs:
        beside.setdefault(pair.difference.against, []).append(pair)
    return beside


def _controls(results: Results) -> str:
    """What the paired tests say of HSCC and its controls; a difference is control minus method."""
    tested = [(entry, entry.difference) for entry in results.ablation if entry.difference is not None]
    if not tested:
        return ""
    pairs = [pair for _, pair in tested]
    budgets = {entry.budget.macs: f"{entry.budget.macs:g}×" for entry, _ in tested if entry.budget.macs}
    farther = sum(of_sign(pair.kl) == REPRODUCED for pair in pairs)
    nearer = sum(of_sign(pair.kl) == REFUTED for pair in pairs)
    fidelity = (
        f"predictions are farther from the dense network's in {count(farther)} and nearer in {count(nearer)} (paired "
        "95 % intervals of KL)"
    )
    several = f"{len(pairs)} comparisons" if len(pairs) > 1 else "one comparison"
    held = f"In {several} at {listed(list(budgets.values()))} fewer MACs one idea is taken away from HSCC"
    name = score_label(results.score)
    tests = [p for pair in pairs if (p := _holm(pair)) is not None]
    real = [pair for pair in pairs if _beyond_noise(pair)]
    how = "McNemar's test with Holm's correction" if tests else "paired 95 % intervals"
    if not real:
        lowest = f", lowest p {p_value(min(tests))}" if tests else ""
        return f"{held}: no difference of {name} is beyond noise ({how}{lowest}); {fidelity}."
    worse = sum((pair.primary.value or 0.0) < 0 for pair in real)
    return (
        f"{held}: {name} is lost beyond noise in {count(worse)} and gained in {count(len(real) - worse)} ({how}); "
        f"{fidelity}."
    )


def _beyond_noise(pair: Comparison) -> bool:
    """Whether the test of the accuracies, or where there is none the paired interval, says so."""
    p = _holm(pair)
    return not pair.primary.covers_zero if p is None else p < LEVEL


def _holm(pair: Comparison) -> float | None:
    return pair.mcnemar_p if pair.mcnemar_p_holm is None else pair.mcnemar_p_holm


def _chosen(results: Results) -> str:
    row = results.chosen()
    lacks = results.shortfalls(row)
    kind = "Nearest to the dense network, though it misses a requirement" if lacks else "Fastest of those that pass"
    small = results.int8_of(row)
    in_int8 = ""
    if small is not None:
        in_int8 = f" In int8 it is a file of {small.size_bytes / 1e6:.1f} MB: {points(_to_dense(small))} points."
    paper = f" The paper turns {PAPER.flops_ratio:.1f}× fewer FLOPs into {PAPER.speedup:.2f}×."
    return f"**{kind}.** {gain(results)}{in_int8}{paper if on_the_papers_classes(results) else ''}"


def _latency_budgets(candidates: Sequence[NetworkRow]) -> str | None:
    found = []
    for row in candidates:
        speedups = [timing.speedup for batch in _BUDGET_BATCHES if (timing := row.timing(batch))]
        if row.budget.latency is not None and len(speedups) == len(_BUDGET_BATCHES):
            found.append(f"{method_label(row.method)} {min(speedups):.1f}× where {row.budget.latency:g}× was asked")
    if not found:
        return None
    return f"**Budgets of time**, at batch 1 and 16 alike, came out as: {listed(found)} (the lower of the two)."


def _against_others(results: Results, row: NetworkRow) -> str | None:
    """Sort the other methods at one budget by what the paired intervals allow to be said in every seed alike."""
    beside = _by_method(pair for pair in _deployable(results) if pair.budget == row.budget)
    if not beside:
        return None
    found: dict[str, list[str]] = {}
    for against, pairs in beside.items():
        verdicts = [of_sign(pair.difference.primary) for pair in pairs]
        same = len(set(verdicts)) == 1
        name = f"{method_label(against)} ({_gap([pair.difference.primary for pair in pairs])}"
        if not same:
            name += f"; above in {verdicts.count(REPRODUCED)}, below in {verdicts.count(REFUTED)}"
        found.setdefault(verdicts[0] if same else _MIXED, []).append(f"{name})")
    said = [f"{_WORDS[kind]} {listed(found[kind])}" for kind in _WORDS if kind in found]
    seeds = max(map(len, beside.values()))
    over = f" over {seeds} seeds" if seeds > 1 else ""
    asked, name = budget_label(row.budget.ratios), score_label(row.score)
    return f"**HSCC, {asked}**, in points of {name}{over}, {'. It '.join(said)}."


def _gap(found: Sequence[Estimate]) -> str:
    if len(found) == 1:
        return points(found[0]).replace(" (", ", ").removesuffix(")")
    gaps = [100 * (each.value or 0.0) for each in found]
    return f"{signed(min(gaps))} to {signed(max(gaps))}"


def _losses(rows: Sequence[NetworkRow], name: str) -> str:
    lost = [row for row in rows if of_sign(_to_dense(row)) == REFUTED]
    if not lost:
        return f"**No network** loses {name} against the dense one beyond its paired interval."
    each = _by_network(lost, lambda row: signed(100 * (_to_dense(row).value or 0.0)))
    said = (
        f"**Beyond the paired interval** {len(lost)} of {len(rows)} networks lose {name}, in points, seed by seed: "
        f"{listed(each)}."
    )
    tested = {row.name: p for row in lost if row.against_dense and (p := _holm(row.against_dense)) is not None}
    if not tested:
        return said
    sure = [row for row in lost if tested.get(row.name, 1.0) < LEVEL]
    kept = _by_network(sure, lambda row: f"p {p_value(tested[row.name])}")
    return f"{said} By McNemar's test with Holm's correction: {listed(kept) if kept else 'none'}."


def _by_network(rows: Sequence[NetworkRow], figure: Callable[[NetworkRow], str]) -> list[str]:
    """Name every network once, with a figure of each of its seeds."""
    of_seeds: dict[str, list[str]] = {}
    for row in rows:
        of_seeds.setdefault(network_label(row), []).append(figure(row))
    return [f"{label} ({', '.join(figures)})" for label, figures in of_seeds.items()]


def _seeds(summaries: Sequence[SeedSummary]) -> str | None:
    """Say how much another seed of clustering and fine-tuning changes, beside how much another test set would."""
    if not summaries:
        return None
    spread = [100 * row.primary.sd for row in summaries]
    chance = [100 * row.primary.bootstrap_se for row in summaries]
    below = sum(one < other for one, other in zip(spread, chance, strict=True))
    name = score_label(summaries[0].score)
    return (
        f"**Another seed** of clustering and fine-tuning: over {min(row.seeds for row in summaries)} seeds the "
        f"standard deviation of a network's {name} is {min(spread):.1f} to {max(spread):.1f} points, below the "
        f"standard error of the test set ({min(chance):.1f} to {max(chance):.1f}) for {below} of {len(summaries)} "
        "networks."
    )


def _protocols(rows: Sequence[NetworkRow]) -> str:
    dense = [f"{score(row.primary)} % under {row.protocol}" for row in rows if row.is_dense]
    return f"**The dense network** scores {listed(dense)}."


def _one_image(results: Results) -> str:
    """Say what an image weighs in accuracy, on the paper's data beside the paper's gain."""
    if results.score != "accuracy":
        return ""
    images = results.dense().n_test
    said = f"**One image is {100 / images:.2f} points** on {images} test images"
    if not on_the_papers_classes(results):
        return f"{said}."
    gained = PAPER.gain * PAPER.images
    return f"{said}: the paper's gain of {100 * PAPER.gain:.2f} points is {gained:.0f} images of {PAPER.images}."
