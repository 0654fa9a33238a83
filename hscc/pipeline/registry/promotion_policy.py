"""The promotion policy: whether a version may become the champion.

Every rule is judged and says by how much it passed or failed, so that a refusal names every reason. The primary score
is judged by the paired bootstrap on the images that both versions were tested on: the whole 95 % interval of the
difference must lie above minus the margin (a non-inferiority test), so that little evidence refuses as a loss does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from hscc.pipeline.registry.answers import CHANCE, DENSE_CHANCE, DENSE_NUMBER, IMAGE, NUMBER
from hscc.pipeline.registry.versions import PHANTOM_TAG
from hscc.pipeline.score_names import score_label
from hscc.pipeline.statistics.bootstrap import Draws, Resampled, bootstrap_weights, interval
from hscc.pipeline.statistics.metrics import METRICS
from hscc.pipeline.statistics.predictions import TRUTH
from hscc.training.target_scores import LABEL_SCORES, VALUE_SCORES, label_scores, over_outputs, value_scores


@dataclass(frozen=True)
class Rules:
    """What a champion must be.

    Attributes
    ----------
    margin : float
        How much less of the primary score than the champion it may have, as a fraction, at the lower end of the paired
        interval.
    min_images : int
        Least number of test images in common.
    min_recall : float
        Least recall of every class.
    min_macs_ratio : float
        Least times fewer MACs than the dense network.
    min_speedup : float
        Least times faster than the dense network at batch 1.
    max_latency_ms : float or None
        Most milliseconds per image at batch 1, as measured when it was evaluated; None for no limit.
    protocol : str
        Split protocol it must have been tested under.
    classes : tuple of str
        Classes that it must have been tested on.
    score : str
        Name of the primary score.
    """

    margin: float
    min_images: int
    min_recall: float
    min_macs_ratio: float
    min_speedup: float
    max_latency_ms: float | None
    protocol: str
    classes: tuple[str, ...]
    score: str = "accuracy"
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Standing:
    """What is known about one version.

    Attributes
    ----------
    number : str
        The version.
    tags : mapping of str to str
        Of the version.
    figures : mapping of str to any
        Its row of the results table.
    evidence : pandas.DataFrame
        Its predictions on each test image, see `hscc.pipeline.registry.answers`.
    """

    number: str
    tags: Mapping[str, str]
    figures: Mapping[str, Any]
    evidence: pd.DataFrame


@dataclass(frozen=True)
class Finding:
    """One rule, whether it is met, and by how much."""

    rule: str
    passed: bool
    text: str


def judge(challenger: Standing, champion: Standing | None, rules: Rules) -> list[Finding]:
    """Judge a version by every rule.

    Parameters
    ----------
    challenger : Standing
        The version that wants to be promoted.
    champion : Standing or None
        The version in place; without one the challenger is compared with its own dense baseline.
    rules : Rules
        The policy.

    Returns
    -------
    list of Finding
        One per rule, always all of them.
    """
    return [
        _images(challenger, rules),
        _protocol(challenger, rules),
        _score(challenger, champion, rules),
        *_recalls(challenger, rules),
        *_costs(challenger.figures, rules),
    ]


def compare(challenger: Standing, champion: Standing | None, rules: Rules) -> tuple[Resampled | None, int]:
    """Take the difference of the primary score on the images that both were tested on.

    Returns
    -------
    Resampled or None
        Challenger minus champion; None where they have images of fewer than two groups in common, or one of them did
        not keep what the score needs.
    int
        The number of images in common.
    """
    pairs = challenger.evidence
    if champion is None:
        pairs = pairs.rename(columns=lambda name: _OTHER + name.removeprefix("dense_") if _is_dense(name) else name)
        pairs = pairs.rename(columns={"dense": f"{_OTHER}predicted"})
    else:
        pairs = pairs.merge(
            champion.evidence.rename(columns=lambda name: name if name in IMAGE else _OTHER + name),
            on=IMAGE,
            validate="one_to_one",
        )
    if pairs["group"].nunique() < 2:  # drawn again, one group is the same sample
        return None, len(pairs)
    weights = bootstrap_weights(pairs["group"].to_numpy(np.int64), rules.resamples, rules.seed)
    own, other = (_resampled(pairs, prefix, weights, rules) for prefix in ("", _OTHER))
    return None if own is None or other is None else own - other, len(pairs)


_OTHER = "other_"  # before the columns of what the challenger is compared with


def _is_dense(name: str) -> bool:
    return name.startswith((DENSE_CHANCE, DENSE_NUMBER, "dense_value"))


def _resampled(pairs: pd.DataFrame, prefix: str, weights: Draws, rules: Rules) -> Resampled | None:
    """Primary score of one of the two; None where its evidence lacks what the score needs."""
    if "value" in pairs:  # of segmentations
        value = f"{prefix}value"
        return Resampled.mean(pairs[value], weights) if value in pairs else None
    if any(name.startswith(TRUTH) for name in map(str, pairs)):
        return _of_targets(pairs, prefix, weights, rules)
    if rules.score == "accuracy":
        return Resampled.mean(pairs[f"{prefix}predicted"] == pairs["label"], weights)
    columns = [f"{prefix}{CHANCE}{name}" for name in rules.classes]
    if not set(columns).issubset(pairs):
        return None
    labels = pd.Categorical(pairs["label"], categories=rules.classes).codes.astype(np.int64)
    return Resampled.of(METRICS[rules.score](labels, pairs[columns].to_numpy(np.float64), weights))


def _of_targets(pairs: pd.DataFrame, prefix: str, weights: Draws, rules: Rules) -> Resampled | None:
    """Primary score of labels, from their log odds, or of values."""
    kind = CHANCE if any(name.startswith(CHANCE) for name in map(str, pairs)) else NUMBER
    truth, answers = ([f"{first}{name}" for name in rules.classes] for first in (TRUTH, prefix + kind))
    if not {*truth, *answers}.issubset(pairs):
        return None
    found, true = (pairs[names].to_numpy(np.float64) for names in (answers, truth))
    if kind == CHANCE:
        figures = label_scores(logit(found), true, weights)[LABEL_SCORES[rules.score]]
    else:
        figures = value_scores(found, true, weights)[VALUE_SCORES[rules.score]]
    return Resampled.of(over_outputs(figures))


def _images(challenger: Standing, rules: Rules) -> Finding:
    words = {"true": "was trained on drawn images", "false": "was trained on real images"}
    found = challenger.tags.get(PHANTOM_TAG)
    text = words.get(str(found), "does not say whether it was trained on real images; run `hscc register` again")
    return Finding("no phantom", found == "false", text)


def _protocol(challenger: Standing, rules: Rules) -> Finding:
    found = challenger.tags.get("protocol", "unknown")
    return Finding("protocol", found == rules.protocol, f"was tested under {found}, {rules.protocol} is required")


def _score(challenger: Standing, champion: Standing | None, rules: Rules) -> Finding:
    name = score_label(rules.score)
    against = "its dense network" if champion is None else f"champion version {champion.number}"
    difference, images = compare(challenger, champion, rules)
    if images < max(rules.min_images, 2):
        return Finding(name, False, f"shares {images} test images with {against}, {rules.min_images} are required")
    if difference is None:
        return Finding(
            name,
            False,
            f"cannot be compared with {against}: one of them kept no probabilities, or all common images are of one "
            "group",
        )
    low, high = interval(difference.draws)
    text = (
        f"{100 * difference.value:+.2f} points against {against} on {images} common images "
        f"(paired 95 % interval {100 * low:+.2f} to {100 * high:+.2f}); "
        f"{-100 * rules.margin:+.2f} is the lowest allowed"
    )
    short = -rules.margin - low
    return Finding(name, short <= 0, text if short <= 0 else f"{text}, missed by {100 * short:.2f}")


def _recalls(challenger: Standing, rules: Rules) -> list[Finding]:
    """Judge the recall of each class, pixels' class or label; values have none."""
    columns = set(map(str, challenger.evidence))
    if any(name.startswith(NUMBER) for name in columns):
        return []
    if "value" in columns or any(name.startswith(TRUTH) for name in columns):
        return [_known_recall(challenger, rules)]
    return [_recall(challenger, rules)]


def _recall(challenger: Standing, rules: Rules) -> Finding:
    found = challenger.evidence
    untested = [name for name in rules.classes if name not in set(found["label"])]
    if untested:
        return Finding(
            "recall", False, f"was tested on no image of {', '.join(untested)}, so nothing is known of its recall"
        )
    recalls = (found["label"] == found["predicted"]).groupby(found["label"]).mean()
    name, lowest = str(recalls.idxmin()), float(recalls.min())
    text = f"lowest recall {100 * lowest:.1f} % ({name}), {100 * rules.min_recall:.1f} % is required"
    short = rules.min_recall - lowest
    return Finding("recall", short <= 0, text if short <= 0 else f"{text}, missed by {100 * short:.1f} points")


def _known_recall(challenger: Standing, rules: Rules) -> Finding:
    """Judge the recall of each label, or of each class over all pixels, of the test images, as they were evaluated."""
    recalls = {name: challenger.figures.get(f"recall_{name}") for name in rules.classes}
    untested = [name for name, value in recalls.items() if value is None]
    if untested:
        return Finding("recall", False, f"has no recall of {', '.join(untested)}; register it again")
    name, lowest = min(((name, value or 0.0) for name, value in recalls.items()), key=lambda pair: pair[1])
    text = f"lowest recall {100 * lowest:.1f} % ({name}), {100 * rules.min_recall:.1f} % is required"
    short = rules.min_recall - lowest
    return Finding("recall", short <= 0, text if short <= 0 else f"{text}, missed by {100 * short:.1f} points")


def _costs(figures: Mapping[str, Any], rules: Rules) -> list[Finding]:
    found = [
        _at_least("MACs", figures.get("macs_ratio"), rules.min_macs_ratio, "times fewer MACs than dense"),
        _at_least("speed", figures.get("speedup_b1"), rules.min_speedup, "times faster than dense at batch 1"),
    ]
    if rules.max_latency_ms is not None:
        found.append(_latency(figures.get("latency_ms_b1"), rules.max_latency_ms))
    return found


def _at_least(rule: str, value: float | None, limit: float, unit: str) -> Finding:
    if value is None:
        return Finding(rule, False, f"is not known to be {limit:g} {unit}; measure it and register again")
    text = f"{value:.2f} {unit}, {limit:g} is required"
    return Finding(rule, value >= limit, text if value >= limit else f"{text}, missed by {limit - value:.2f}")


def _latency(value: float | None, limit: float) -> Finding:
    if value is None:
        return Finding("latency", False, "was not timed at batch 1; measure it and register again")
    text = f"{value:.2f} ms at batch 1, {limit:g} ms is the most allowed"
    return Finding("latency", value <= limit, text if value <= limit else f"{text}, missed by {value - limit:.2f} ms")
