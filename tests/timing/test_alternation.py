from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hscc.timing.alternation import LEAST, WARM_UP, alternate, spread, time_pair


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
    dense, other = alternate(clock.taking("dense", 6.0), clock.taking("other", 1.5), 5, clock=clock)
    np.testing.assert_allclose(dense, 6.0)
    np.testing.assert_allclose(other, 1.5)


def test_calls_alternate_and_the_lead_changes() -> None:
    clock = FakeClock()
    alternate(clock.taking("d", 1), clock.taking("o", 1), 3, clock=clock)
    assert "".join(clock.calls[2 * WARM_UP :]) == "dooddo"
    assert clock.calls.count("d") == clock.calls.count("o") == WARM_UP + 3


def test_a_drifting_clock_does_not_change_the_ratio() -> None:
    clock = FakeClock()

    def slowing(share: float) -> Callable[[], None]:
        def call() -> None:
            clock.now += int(share * (1e6 + clock.now / 100))

        return call

    dense, other = alternate(slowing(2.0), slowing(1.0), 40, clock=clock)
    assert dense[-1] > 2 * dense[0]
    assert np.median(dense / other) == pytest.approx(2.0, rel=0.03)


@pytest.mark.parametrize(("seconds", "pairs"), [(0.0, LEAST), (0.095, 10), (9.0, 30)])
def test_no_pair_begins_after_the_time_is_up(seconds: float, pairs: int) -> None:
    clock = FakeClock()
    dense, other = alternate(clock.taking("d", 6), clock.taking("o", 4), 30, seconds, clock)
    assert len(dense) == len(other) == pairs


def test_a_slow_pair_is_not_warmed_up_thrice() -> None:
    clock = FakeClock()
    alternate(clock.taking("d", 600), clock.taking("o", 400), LEAST, 2.0, clock)
    assert clock.calls.count("d") == 1 + LEAST


def test_spread_is_median_and_interquartile_range() -> None:
    found = spread(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    assert (found.median, found.iqr) == (3.0, 2.0)


def test_the_error_of_a_median_shrinks_with_more_measurements() -> None:
    values = np.random.default_rng(0).normal(10.0, 1.0, 900)
    few, many = spread(values[:25]), spread(values)
    assert few.se == pytest.approx(1.2533 / 25**0.5, rel=0.5)  # sqrt(pi / 2 / n), of the median of normal values
    assert many.se < few.se / 3


def test_a_call_that_does_more_is_slower_on_the_real_clock() -> None:
    found = time_pair(lambda: sum(range(200_000)), lambda: sum(range(2_000)), repeats=9)
    assert found.speedup.median > 5
    assert found.dense_ms.median > found.other_ms.median > 0
