from __future__ import annotations

import pytest

from hscc.pipeline.statistics.robustness import summarise_seeds
from hscc.pipeline.statistics.schema import Estimate
from tests.pipeline.rows import row


def test_seeds_are_averaged() -> None:
    first = row("global_svd", accuracy=Estimate(value=0.9, se=0.02))
    again = row("global_svd", accuracy=Estimate(value=0.8, se=0.04), seed=1)
    alone, other = row("global_svd", macs=3.0), row("tucker")
    (found, tucker) = summarise_seeds([first, alone, again, other, other.model_copy(update={"seed": 2})])
    assert (found.method, found.budget.macs, found.seeds, tucker.method) == ("global_svd", 6.0, 2, "tucker")
    assert found.primary.mean == pytest.approx(0.85)
    assert found.primary.sd == pytest.approx(0.1 / 2**0.5)
    assert found.primary.se == pytest.approx(0.05)
    assert found.primary.bootstrap_se == pytest.approx(0.03)
    assert found.kl.sd == 0.0


def test_a_network_of_one_seed_is_left_out() -> None:
    assert summarise_seeds([row("a"), row("b"), row("b", macs=3.0)]) == summarise_seeds([]) == []
