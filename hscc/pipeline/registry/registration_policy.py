"""The promotion policy: which compressed network, if any, deserves a place in the registry.

Two questions, kept apart. *May it?* A gate on the test figures: a small enough loss of accuracy, enough fewer MACs,
fast enough. *Which one?* Among those that may, the most compressed tier wins; inside a tier the highest validation
accuracy, then the smallest validation KL to the baseline (`hscc.pipeline.statistics.results.preference`). Choosing on
the validation split leaves the test figures of the chosen network an unbiased account of it, but for the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hscc.pipeline.statistics.results import Row, preference, row_name


@dataclass(frozen=True)
class Policy:
    """What a network must reach.

    Attributes
    ----------
    max_accuracy_drop : float
        Largest loss of test accuracy against the baseline, as a fraction; the point estimate counts.
    min_macs_ratio : float
        Least times fewer MACs.
    min_speedup : float
        Least times faster at batch 1.
    """

    max_accuracy_drop: float
    min_macs_ratio: float
    min_speedup: float


@dataclass(frozen=True)
class Decision:
    """What the policy says about a results table.

    Attributes
    ----------
    chosen : dict or None
        Row of the network to register; None when none passes.
    why : str
        In one sentence, why that one or why none.
    passed_over : list of str
        Names of the others that pass, best first.
    rejected : dict of str to list of str
        For each that fails, by name, every reason.
    """

    chosen: Row | None
    why: str
    passed_over: list[str] = field(default_factory=list)
    rejected: dict[str, list[str]] = field(default_factory=dict)


def decide(rows: Sequence[Row], policy: Policy) -> Decision:
    """Pick the network to register.

    Parameters
    ----------
    rows : sequence of dict
        The compressed networks of the results table, of one protocol.
    policy : Policy
        The gate.

    Returns
    -------
    Decision
        The same for the same rows in any order.
    """
    failing = {row_name(row): reasons for row in rows if (reasons := shortfalls(row, policy))}
    passing = sorted((row for row in rows if row_name(row) not in failing), key=preference)
    rejected = dict(sorted(failing.items()))
    if not passing:
        return Decision(None, f"None of the {len(rows)} compressed networks passes the policy.", rejected=rejected)
    best, *others = passing
    return Decision(best, _why(best, others), [row_name(row) for row in others], rejected)


def shortfalls(row: Row, policy: Policy) -> list[str]:
    """Name every way in which a network misses the policy.

    Parameters
    ----------
    row : dict
        Of the results table.
    policy : Policy
        The gate.

    Returns
    -------
    list of str
        Empty when the network passes.
    """
    reasons = []
    if row["accuracy_difference"] < -policy.max_accuracy_drop:
        reasons.append(
            f"loses {-100 * row['accuracy_difference']:.2f} points of accuracy "
            f"(95 % interval of the difference {100 * row['accuracy_difference_low']:+.2f} to "
            f"{100 * row['accuracy_difference_high']:+.2f}), "
            f"{100 * policy.max_accuracy_drop:.2f} are allowed"
        )
    if row["macs_ratio"] < policy.min_macs_ratio:
        reasons.append(f"has {row['macs_ratio']:.2f} times fewer MACs, {policy.min_macs_ratio:g} are asked for")
    speedup = row.get("speedup_b1")
    if speedup is None:
        reasons.append("was not timed at batch 1: add 1 to bench.batches")
    elif speedup < policy.min_speedup:
        reasons.append(f"is {speedup:.2f} times faster at batch 1, {policy.min_speedup:g} is asked for")
    return reasons


def _why(best: Row, others: Sequence[Row]) -> str:
    tier = f"{row_name(best)} is in the most compressed tier that passes, {best['budget']:g}x"
    if not any(row["budget"] == best["budget"] for row in others):
        return f"{tier}, and the only one there."
    return f"{tier}, and the best there on validation: accuracy {100 * best['val_accuracy']:.2f} %."
