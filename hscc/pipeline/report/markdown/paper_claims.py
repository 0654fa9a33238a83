"""What the paper claims of AlexNet, and what comes of it here: judged by intervals, never by hand.

The paper (arXiv 2604.23375) tests on a random split, so it is held against the pooled protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hscc.pipeline.names import method_label, network_label
from hscc.pipeline.report.markdown.tables import Grid
from hscc.pipeline.report.markdown.wording import Z95, against_figure, of_sign, percent, points
from hscc.pipeline.statistics.between_methods import PREFIX
from hscc.pipeline.statistics.results import Row, compressed_rows, dense_row, signed


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
SUBJECTS = ("hscc_paper", "hscc")
RIVALS = ("global_svd", "tucker")
ROWS = (*RIVALS, *SUBJECTS)


@dataclass(frozen=True)
class Claim:
    """A claim, what the paper says, what is found, and the word for it."""

    claim: str
    paper: str
    network: str
    ours: str
    verdict: str


def beside_the_paper(document: Mapping[str, Any]) -> Grid:
    """Lay the paper's figures and those of the same methods side by side.

    Parameters
    ----------
    document : mapping
        Results under the pooled protocol.

    Returns
    -------
    Grid
        The paper's two rows, then the baseline and the paper's methods at each budget.
    """
    own = compressed_rows(document["rows"], document["protocol"])
    ours = [dense_row(document["rows"], document["protocol"]), *_of_first_seed(own)]
    header = ("network", "test images", "MACs cut, %", "accuracy % (95 %)", "− dense, points (95 %)", "times faster")
    paper = (
        ("paper: dense", str(PAPER.images), "0", f"{100 * PAPER.dense_accuracy:.2f}", "", "1"),
        (
            "paper: HSCC",
            str(PAPER.images),
            f"{100 * PAPER.flops_cut:.1f}",
            f"{100 * PAPER.accuracy:.2f}",
            signed(100 * PAPER.gain, 2),
            f"{PAPER.speedup:.2f}",
        ),
    )
    return Grid("The paper's table and ours", header, (*paper, *(_beside(row) for row in ours)))


def judge_claims(document: Mapping[str, Any]) -> list[Claim]:
    """Hold each claim of the paper against the results under the pooled protocol.

    Parameters
    ----------
    document : mapping
        Content of ``reports/protocols/pooled.json``.

    Returns
    -------
    list of Claim
        In the order of the paper; those for which a network was run.
    """
    rows, protocol = document["rows"], document["protocol"]
    dense = dense_row(rows, protocol)
    own = _of_first_seed(compressed_rows(rows, protocol))
    reached = against_figure(dense["accuracy_low"], dense["accuracy_high"], PAPER.dense_accuracy)
    claims = [
        Claim(
            "The dense network's accuracy",
            f"{100 * PAPER.dense_accuracy:.2f} %",
            network_label(dense),
            percent(dense),
            reached,
        )
    ]
    for method in SUBJECTS:
        row = _at_the_papers_cost(own, method)
        claims += _of_network(row) if row else []
    rivals = [(row, pair) for row in own if row["method"] in SUBJECTS for pair in _pairs(document, row)]
    return claims + [_against_rival(row, pair) for row, pair in rivals]


def claims_grid(claims: Sequence[Claim]) -> Grid:
    """Lay the claims out, a row a claim and network."""
    header = ("claim", "paper", "network", "ours (95 %)", "verdict")
    rows = tuple((claim.claim, claim.paper, claim.network, claim.ours, f"**{claim.verdict}**") for claim in claims)
    return Grid("Claim by claim", header, rows, words=len(header))


def _of_first_seed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["method"] in ROWS and row["seed"] == rows[0]["seed"]]


def _beside(row: Row) -> tuple[str, ...]:
    is_dense = row["macs_ratio"] == 1
    return (
        network_label(row),
        str(row["n_test"]),
        f"{100 * (1 - 1 / row['macs_ratio']):.1f}",
        percent(row).replace(" %", ""),
        "" if is_dense else points(row),
        "–" if row.get("speedup_b1") is None else f"{row['speedup_b1']:.2f}",
    )


def _at_the_papers_cost(rows: Sequence[Row], method: str) -> Row | None:
    """Find the least compressed network that saves as much as the paper's."""
    saving = [row for row in rows if row["method"] == method and row["macs_ratio"] >= PAPER.flops_ratio]
    return min(saving, key=lambda row: float(row["macs_ratio"]), default=None)


def _of_network(row: Row) -> list[Claim]:
    name, cut = network_label(row), 1 - 1 / row["macs_ratio"]
    accuracy = (row["accuracy_low"], row["accuracy_high"])
    gain = (row["accuracy_difference_low"], row["accuracy_difference_high"])
    claims = [
        Claim(
            "FLOPs cut",
            f"{100 * PAPER.flops_cut:.1f} % ({PAPER.flops_ratio:.1f}×)",
            name,
            f"{100 * cut:.1f} % ({row['macs_ratio']:.2f}×), counted",
            against_figure(cut, cut, PAPER.flops_cut),
        ),
        Claim(
            "Accuracy after it",
            f"{100 * PAPER.accuracy:.2f} %",
            name,
            percent(row),
            against_figure(*accuracy, PAPER.accuracy),
        ),
        Claim(
            "Compression gains accuracy",
            f"{signed(100 * PAPER.gain, 2)} points",
            name,
            f"{points(row)} points",
            against_figure(*gain, PAPER.gain),
        ),
    ]
    return claims + _of_time(row, name)


def _of_time(row: Row, name: str) -> list[Claim]:
    if row.get("speedup_b1") is None:
        return []
    value, error = row["speedup_b1"], Z95 * row["speedup_b1_se"]
    verdict = against_figure(value - error, value + error, PAPER.speedup)
    ours = f"{value:.2f}× ({value - error:.2f} to {value + error:.2f}), batch 1"
    return [Claim("Times faster", f"{PAPER.speedup:.2f}×", name, ours, verdict)]


def _pairs(document: Mapping[str, Any], row: Row) -> list[Mapping[str, Any]]:
    """Find the paired comparisons of a network with the paper's rivals at its budget."""
    wanted = (row["method"], row["budget"], row["seed"])
    pairs = [pair for pair in document["comparisons"] if (pair["method"], pair["budget"], pair["seed"]) == wanted]
    found = {pair["against"]: pair for pair in pairs}
    if row.get(f"{PREFIX}partner") in RIVALS:
        columns = {name.removeprefix(PREFIX): value for name, value in row.items() if name.startswith(PREFIX)}
        found |= {row[f"{PREFIX}partner"]: {**columns, "against": row[f"{PREFIX}partner"]}}
    return [found[rival] for rival in RIVALS if rival in found]


def _against_rival(row: Row, pair: Mapping[str, Any]) -> Claim:
    verdict = of_sign(pair["accuracy_difference_low"], pair["accuracy_difference_high"])
    claim = f"More accurate than {method_label(pair['against'])} at {row['budget']:g}×"
    return Claim(claim, "yes", network_label(row), f"{points(pair)} points", verdict)
