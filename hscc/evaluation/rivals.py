"""HSCC against every other method at the same budget and seed, on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hscc.evaluation.names import goal
from hscc.evaluation.networks import FLOAT, Network
from hscc.evaluation.scoring import KL, Evidence, comparison_columns, difference, difference_columns

SUBJECT = "hscc"


def compare_rivals(evidence: Mapping[Network, Evidence]) -> list[dict[str, Any]]:
    """Compare HSCC with each rival, pair by pair.

    Parameters
    ----------
    evidence : mapping of Network to Evidence
        All networks tested on one split; int8 twins are passed over.

    Returns
    -------
    list of dict
        An entry for each HSCC cell and rival: ``budget``, ``seed``, ``method``, ``against``, then the paired
        differences HSCC minus rival of accuracy and of KL to the baseline with standard error and 95 % interval, and
        McNemar's p.
    """
    floats = [network for network in evidence if network.precision == FLOAT]
    return [
        {
            "budget": ours.budget,
            "seed": ours.seed,
            "method": ours.method,
            "against": theirs.method,
            **comparison_columns(evidence[ours], evidence[theirs]),
            **difference_columns("kl", difference(evidence[ours], evidence[theirs], KL)),
        }
        for ours in floats
        if ours.method == SUBJECT + goal(ours.method)
        for theirs in floats
        if theirs.method != ours.method
        and (theirs.budget, theirs.seed, goal(theirs.method)) == (ours.budget, ours.seed, goal(ours.method))
    ]
