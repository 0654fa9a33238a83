"""The verdict in three sentences, every word of it decided by figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hscc.pipeline.names import method_label, network_label
from hscc.pipeline.statistics.between_methods import SUBJECT
from hscc.pipeline.statistics.results import Row, compressed_rows, covers_zero, dense_row, points, signed

LEVEL = 0.05  # of a corrected p-value
_SPLITS = {
    "grouped": "no test image has a near-copy in training",
    "pooled": "test images may have near-copies in training, which flatters",
    "official": "the test folder is of another origin than the training folder",
}
_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def title(row: Row) -> str:
    """Say in a few words what the recommended network saves and costs."""
    speed = row.get("speedup_b1")
    gained = f"{row['macs_ratio']:.1f} times fewer MACs"
    if speed is not None:
        gained += f", {speed:.1f} times faster" if speed >= 1 else f", {1 / speed:.1f} times slower"
    if covers_zero(row):
        return f"{gained}, accuracy within noise"
    kind = "gained" if row["accuracy_difference"] > 0 else "lost"
    return f"{gained}, {100 * abs(row['accuracy_difference']):.1f} points of accuracy {kind}"


def verdict(document: Mapping[str, Any], row: Row) -> list[str]:
    """Say what was gained, whether HSCC beats its controls, and what it is not.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.
    row : dict
        The recommended network.

    Returns
    -------
    list of str
        Three sentences; the second is of the rivals where no control was run, and left out where there are neither.
    """
    against = _controls(document.get("ablation") or ()) or _rivals(document["comparisons"], row)
    return [sentence for sentence in (_gain(document, row), against, _limits(document)) if sentence]


def _gain(document: Mapping[str, Any], row: Row) -> str:
    dense = dense_row(document["rows"], document["protocol"])
    noise = "within noise" if covers_zero(row) else "beyond noise"
    smaller = dense["size_bytes"] / row["size_bytes"]
    between = f"{signed(100 * row['accuracy_difference_low'])} to {signed(100 * row['accuracy_difference_high'])}"
    return (
        f"{network_label(row)} needs {row['macs_ratio']:.1f} times fewer MACs, {_speed(row)} and is a file "
        f"{smaller:.1f} times smaller, at a test accuracy of {100 * row['accuracy']:.1f} % against "
        f"{100 * dense['accuracy']:.1f} % of the dense network: {points(row)}, 95 % interval {between}, {noise}."
    )


def _speed(row: Row) -> str:
    speedup, iqr = row.get("speedup_b1"), row.get("speedup_b1_iqr")
    if speedup is None:
        return "was not timed one image at a time"
    if iqr is not None and abs(speedup - 1) <= iqr / 2:
        return "is no faster than the clock can tell"
    pace = f"{speedup:.1f} times faster" if speedup > 1 else f"{1 / speedup:.1f} times slower"
    spread = f" (IQR {iqr:.1f})" if iqr else ""
    return f"runs {pace}{spread} one image at a time"


def _controls(ablation: Sequence[Mapping[str, Any]]) -> str:
    """What the paired tests say of the method and its controls; a difference is control minus method."""
    tested = [entry for entry in ablation if entry.get("accuracy_difference") is not None]
    if not tested:
        return ""
    real = [entry for entry in tested if entry["mcnemar_p_holm"] < LEVEL]
    better = sum(entry["accuracy_difference"] < 0 for entry in real)
    worse = len(real) - better
    closer = sum(entry["kl_difference_low"] > 0 for entry in tested)
    farther = sum(entry["kl_difference_high"] < 0 for entry in tested)
    budgets = _listed([f"{budget:g}×" for budget in sorted({entry["budget"] for entry in tested})])
    fidelity = (
        f"predictions go farther from the dense network's in {_count(closer)} and nearer in {_count(farther)} "
        "(paired 95 % intervals of KL)"
    )
    name, held = method_label(SUBJECT), f"{len(tested)} comparisons at {budgets} one idea is taken away from"
    if not real:
        lowest = min(entry["mcnemar_p_holm"] for entry in tested)
        return (
            f"In {held} {name}, and none can be told by accuracy (McNemar's test with Holm's correction, lowest p "
            f"{_p(lowest)}); {fidelity}."
        )
    return (
        f"In {held} {name}: accuracy is lost beyond noise in {_count(better)} and gained in {_count(worse)} (McNemar's "
        f"test with Holm's correction); {fidelity}."
    )


def _rivals(pairs: Sequence[Mapping[str, Any]], row: Row) -> str:
    beside = [pair for pair in pairs if (pair["budget"], pair["seed"]) == (row["budget"], row["seed"])]
    if not beside:
        return ""
    nearest = min(beside, key=lambda pair: float(pair["accuracy_difference"]))
    gap, noise = nearest["accuracy_difference"], "within noise" if covers_zero(nearest) else "beyond noise"
    ours, rival = method_label(SUBJECT), method_label(nearest["against"])
    if gap == 0:
        return f"At {row['budget']:g}× {ours} shares the best test accuracy with {rival}; no control was run."
    if gap > 0:
        return (
            f"At {row['budget']:g}× {ours} is the most accurate method, {points(nearest)} to {rival} ({noise}); no "
            "control was run."
        )
    return (
        f"At {row['budget']:g}× {ours} is not the most accurate method: {points(nearest)} to {rival} ({noise}); no "
        "control was run."
    )


def _limits(document: Mapping[str, Any]) -> str:
    protocol = document["protocol"]
    rows = compressed_rows(document["rows"], protocol)
    seeds = len({row["seed"] for row in rows})
    images = rows[0]["n_test"]
    worth = document.get("image_points") or 100 / images
    split = f", in which {_SPLITS[protocol]}" if protocol in _SPLITS else ""
    subject = "drawn images, no patients, and says nothing about MRI" if document["phantom"] else "one public data set"
    return (
        f"All this is {_count(seeds)} seed{'' if seeds == 1 else 's'} on {subject}, split by the {protocol} "
        f"protocol{split}; of its {images} test images one is worth {worth:.2f} points, and nothing here is a clinical "
        "claim."
    )


def _count(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.2g}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
