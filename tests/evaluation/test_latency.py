from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hscc.evaluation.latency import WARM_UP, alternate, spread, time_pair


class FakeClock:
    """A clock that only the calls it makes advance."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[str] = []

    def __call__(self) -> int:
        return self.now

    def taking(self, name: str, milliseconds: float) -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.now += int(milliseconds * 1e6)

        return call


def test_each_call_is_timed_and_belongs_to_its_network() -> None:
    clock = FakeClock()
    dense, other = alternate(clock.taking("dense", 6.0), clock.taking("other", 1.5), 5, clock)
    np.testing.assert_allclose(dense, 6.0)
    np.testing.assert_allclose(other, 1.5)


def test_calls_alternate_and_the_lead_changes() -> None:
    clock = FakeClock()
    alternate(clock.taking("d", 1), clock.taking("o", 1), 3, clock)
    assert "".join(clock.calls[2 * WARM_UP :]) == "dooddo"
    assert clock.calls.count("d") == clock.calls.count("o") == WARM_UP + 3


def test_a_drifting_clock_does_not_change_the_ratio() -> None:
    clock = FakeClock()

    def slowing(share: float) -> Callable[[], None]:
        def call() -> None:
            clock.now += int(share * (1e6 + clock.now / 100))

        return call

    dense, other = alternate(slowing(2.0), slowing(1.0), 40, clock)
    assert dense[-1] > 2 * dense[0]
    assert np.median(dense / other) == pytest.approx(2.0, rel=0.03)


def test_spread_is_median_and_interquartile_range() -> None:
    found = spread(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    assert (found.median, found.iqr) == (3.0, 2.0)


def test_a_call_that_does_more_is_slower_on_the_real_clock() -> None:
    found = time_pair(lambda: sum(range(200_000)), lambda: sum(range(2_000)), repeats=9)
    assert found.speedup.median > 5
    assert found.dense_ms.median > found.other_ms.median > 0
