"""What the paper claims of AlexNet, and what comes of it here: judged by intervals, never by hand.

The paper (arXiv 2604.23375) tests on a random split, so its figures are held against the pooled protocol. It also
claims a better macro F1 and better results on hard classes such as meningioma, without figures that can be compared:
these two are judged by their sign, against the dense network and against the methods that the paper compares with,
under the pooled protocol and the repository's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hscc.pipeline.names import method_label, network_label
from hscc.pipeline.report.table import (
    Cell,
    Line,
    Measure,
    Table,
    asked_columns,
    cells_of,
    columns_of,
    difference,
    figure,
    measure,
    with_interval,
    words,
)
from hscc.pipeline.report.wording import Z95, against_figure, of_sign, percent, points
from hscc.pipeline.statistics.results import signed
from hscc.pipeline.statistics.robustness import LEAKY
from hscc.pipeline.statistics.schema import AskedBudget, Comparison, Estimate, NetworkRow, Results


@dataclass(frozen=True)
class Published:
    """Figures of the paper's AlexNet."""

    dense_accuracy: float = 0.8776
    accuracy: float = 0.8980
    flops_cut: float = 0.811
    speedup: float = 1.38
    images: int = 490

    @property
    def flops_ratio(self) -> float:
        """Times fewer FLOPs."""
        return 1 / (1 - self.flops_cut)

    @property
    def gain(self) -> float:
        """Accuracy of the compressed network minus that of the dense one."""
        return self.accuracy - self.dense_accuracy


PAPER = Published()
HARD_CLASS = "meningioma_tumor"  # the one that the paper names
_LABELS = {"glioma_tumor": "glioma", HARD_CLASS: "meningioma", "pituitary_tumor": "pituitary"}
SUBJECTS = ("hscc_paper", "hscc")
COMPARED_WITH = ("global_svd", "tucker")


@dataclass(frozen=True)
class Claim:
    """A claim, the protocol under which it is tested, what the paper says, what is found, and the verdict."""

    claim: str
    protocol: str
    paper: str
    network: str
    ours: str
    verdict: str


def on_the_papers_classes(results: Results) -> bool:
    """Whether results are of images of the paper's classes, so that its figures say something beside them."""
    return HARD_CLASS in results.classes


def paper_table(results: Results) -> Table:
    """Tabulate the paper's figures and, under the pooled protocol, those of the same methods at each budget."""
    own = [row for row in _first_seed(results) if row.method in (*COMPARED_WITH, *SUBJECTS)]
    rows: list[NetworkRow] = [results.dense(), *own]
    asked = asked_columns(lambda row: row.budget, rows)
    measures: list[Measure[NetworkRow]] = [
        *asked,
        measure("test images", lambda row: figure(row.n_test, 0)),
        measure("MACs cut, %", lambda row: figure(1 - 1 / row.macs_ratio, 1, factor=100.0)),
        measure("accuracy, % (95\u00a0%)", lambda row: with_interval(row.scores["accuracy"])),
        measure(
            "− dense, points (95\u00a0%)",
            lambda row: difference(row.against_dense.scores["accuracy"] if row.against_dense else None),
        ),
        measure("times faster", _speedup),
    ]
    lines = [Line(method_label(row.method), cells_of(row, measures)) for row in rows]
    published = [
        Line(name, (*(Cell("") for _ in asked), *map(Cell, figures)))
        for name, figures in (
            ("paper: dense", (f"{PAPER.images}", "0", f"{100 * PAPER.dense_accuracy:.2f}", "", "1")),
            (
                "paper: HSCC",
                (
                    f"{PAPER.images}",
                    f"{100 * PAPER.flops_cut:.1f}",
                    f"{100 * PAPER.accuracy:.2f}",
                    signed(100 * PAPER.gain, 2),
                    f"{PAPER.speedup:.2f}",
                ),
            ),
        )
    ]
    return Table("The paper's table and ours", "network", columns_of(measures), (*published, *lines))


def _speedup(row: NetworkRow) -> Cell:
    timing = row.timing(1)
    return figure(None if timing is None else timing.speedup)


def judge_claims(documents: Mapping[str, Results]) -> list[Claim]:
    """Hold each claim of the paper against the results.

    Parameters
    ----------
    documents : mapping of str to Results
        By protocol. The paper's figures need the pooled one.

    Returns
    -------
    list of Claim
        In the order of the paper; those for which a network was run.
    """
    claims = list(_figures(documents[LEAKY])) if LEAKY in documents else []
    for protocol in sorted(documents, key=lambda name: name != LEAKY):
        if protocol in (LEAKY, next(iter(documents))):
            claims += _better_f1(documents[protocol])
    return claims


def claims_table(claims: Sequence[Claim]) -> Table:
    """Tabulate the claims, one row per claim and network."""
    measures: list[Measure[Claim]] = [
        measure("protocol", lambda claim: words(claim.protocol)),
        measure("paper", lambda claim: words(claim.paper)),
        measure("network", lambda claim: words(claim.network)),
        measure("ours (95\u00a0%)", lambda claim: words(claim.ours)),
        measure("verdict", lambda claim: words(f"**{claim.verdict}**")),
    ]
    lines = tuple(Line(claim.claim, cells_of(claim, measures)) for claim in claims)
    return Table("Claim by claim", "claim", columns_of(measures), lines)


def _figures(results: Results) -> Iterator[Claim]:
    """Judge what the paper has a figure of, and its comparisons of accuracy."""
    dense, name = results.dense(), results.protocol
    found = _against(dense.scores["accuracy"], PAPER.dense_accuracy)
    paper = f"{100 * PAPER.dense_accuracy:.2f} %"
    yield Claim(
        "The dense network's accuracy", name, paper, network_label(dense), percent(dense.scores["accuracy"]), found
    )
    for row in _at_the_papers_cost(results):
        yield from _of_network(row)
    for row in _first_seed(results):
        if row.method in SUBJECTS:
            for pair in _pairs(results, row):
                claim = f"More accurate than {method_label(pair.against)}"
                ours = f"{points(pair.scores['accuracy'])} points"
                yield Claim(claim, name, "yes", network_label(row), ours, of_sign(pair.scores["accuracy"]))


def _of_network(row: NetworkRow) -> Iterator[Claim]:
    name, cut, protocol = network_label(row), 1 - 1 / row.macs_ratio, row.protocol
    yield Claim(
        "FLOPs cut",
        protocol,
        f"{100 * PAPER.flops_cut:.1f} % ({PAPER.flops_ratio:.1f}×)",
        name,
        f"{100 * cut:.1f} % ({row.macs_ratio:.2f}×), counted",
        against_figure(cut, cut, PAPER.flops_cut),
    )
    found = _against(row.scores["accuracy"], PAPER.accuracy)
    yield Claim(
        "Accuracy after it", protocol, f"{100 * PAPER.accuracy:.2f} %", name, percent(row.scores["accuracy"]), found
    )
    if row.against_dense:
        gain = row.against_dense.scores["accuracy"]
        paper = f"{signed(100 * PAPER.gain, 2)} points"
        found = _against(gain, PAPER.gain)
        yield Claim("Compression gains accuracy", protocol, paper, name, f"{points(gain)} points", found)
    if timing := row.timing(1):
        low, high = (timing.speedup + sign * Z95 * timing.speedup_se for sign in (-1, 1))
        ours = f"{timing.speedup:.2f}× ({low:.2f} to {high:.2f}), batch 1"
        found = against_figure(low, high, PAPER.speedup)
        yield Claim("Times faster", protocol, f"{PAPER.speedup:.2f}×", name, ours, found)


def _better_f1(results: Results) -> Iterator[Claim]:
    """Judge macro F1, F1 of the class that the paper names, and of the class that is hardest for the dense network."""
    dense = results.dense()
    hardest = min(dense.classes, key=lambda found: found.f1.value or 0.0).name
    hard = [HARD_CLASS] if on_the_papers_classes(results) else []
    classes = list(dict.fromkeys([*hard, hardest]))
    first = {(row.method, row.budget): row for row in _first_seed(results)}
    for row in _at_the_papers_cost(results):
        pairs: list[tuple[NetworkRow, Comparison | None]] = [(dense, row.against_dense)]
        beside = {pair.against: pair for pair in _pairs(results, row)}
        pairs += [
            (first[method, row.budget], beside.get(method)) for method in COMPARED_WITH if (method, row.budget) in first
        ]
        for other, pair in pairs:
            than = "dense" if other.is_dense else method_label(other.method)
            found = _macro_difference(row, other, pair)
            yield _judged_by_sign(f"Better macro F1 than {than}", row, found)
            for name in classes:
                label = _LABELS.get(name, name.replace("_", " ")) + (" (the hardest)" if name == hardest else "")
                yield _judged_by_sign(
                    f"Better F1 of {label} than {than}", row, _class_difference(row, other, pair, name)
                )


def _judged_by_sign(claim: str, row: NetworkRow, found: tuple[Estimate, bool]) -> Claim:
    value, paired = found
    note = "" if paired else ", unpaired"
    return Claim(claim, row.protocol, "yes", network_label(row), f"{points(value)} points{note}", of_sign(value))


def _macro_difference(row: NetworkRow, other: NetworkRow, pair: Comparison | None) -> tuple[Estimate, bool]:
    if pair is not None and "macro_f1" in pair.scores:
        return pair.scores["macro_f1"], True
    return _unpaired(row.scores["macro_f1"], other.scores["macro_f1"]), False


def _class_difference(row: NetworkRow, other: NetworkRow, pair: Comparison | None, name: str) -> tuple[Estimate, bool]:
    if pair is not None and name in pair.f1:
        return pair.f1[name], True
    ours, theirs = ({found.name: found.f1 for found in each.classes}[name] for each in (row, other))
    return _unpaired(ours, theirs), False


def _unpaired(first: Estimate, second: Estimate) -> Estimate:
    """Difference with an interval as if the test sets were independent: too wide for networks that err alike."""
    value = (first.value or 0.0) - (second.value or 0.0)
    error = math.hypot(first.se or 0.0, second.se or 0.0)
    return Estimate(value=value, se=error, low=value - Z95 * error, high=value + Z95 * error)


def _against(found: Estimate, figure: float) -> str:
    value = found.value or 0.0
    return against_figure(
        value if found.low is None else found.low, value if found.high is None else found.high, figure
    )


def _first_seed(results: Results) -> list[NetworkRow]:
    """Networks of the first seed; those whose budget is in MACs alone, as the paper's is."""
    rows = [row for row in results.compressed() if set(row.budget.ratios) == {"macs"}]
    return [row for row in rows if row.seed == min(each.seed for each in rows)]


def _at_the_papers_cost(results: Results) -> list[NetworkRow]:
    """Find, of each form of HSCC, the least compressed network that saves as much as the paper's."""
    found = []
    for method in SUBJECTS:
        saving = [row for row in _first_seed(results) if row.method == method and row.macs_ratio >= PAPER.flops_ratio]
        found += sorted(saving, key=lambda row: row.macs_ratio)[:1]
    return found


def _pairs(results: Results, row: NetworkRow) -> list[Comparison]:
    """Find the paired comparisons of a network with the methods that the paper compares with, at its budget."""
    wanted: tuple[str, AskedBudget, int] = (row.method, row.budget, row.seed)
    pairs = [pair.difference for pair in results.comparisons if (pair.method, pair.budget, pair.seed) == wanted]
    found = {pair.against: pair for pair in pairs}
    if row.against_global_svd:
        found.setdefault(row.against_global_svd.against, row.against_global_svd)
    return [found[method] for method in COMPARED_WITH if method in found]
