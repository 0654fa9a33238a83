"""Plans refined until the whole network, as measured, meets its latency budget.

The table adds up layers; a network may be a few per cent faster or slower than its layers. So the planned network is
timed against the dense one, in alternation and in the same runtime, and planned again with limits corrected by the
measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from hscc.budgets.latency_table import Latency, LatencyTable
from hscc.budgets.resources import Limit
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.errors import BudgetError
from hscc.networks.inputs import one_tensor
from hscc.plans import Plan
from hscc.structures.dense import DENSE
from hscc.timing.alternation import Call, time_pair
from hscc.timing.runtimes import find_runtime

_ROUNDS = 5
_MARGIN = 1.03  # aimed at, so that noise does not push a plan beyond its budget
_CLOSE = 1.08  # a network faster than its budget by at most this factor needs no further round
_LEAST_STEP = 0.75  # a limit moves by no more than this in a round, in case a measurement was disturbed
_USED_UP = 0.95
_REPEATS = 21
_SECONDS = 3.0


@dataclass(frozen=True)
class DenseTimer:
    """A dense network to time others against.

    Attributes
    ----------
    calls : dict
        Batch size to one run of the dense network.
    milliseconds : dict
        Batch size to its median time.
    """

    calls: Mapping[int, Call]
    milliseconds: Mapping[int, float]


def time_dense(model: nn.Module, input_shape: tuple[int, ...], table: LatencyTable) -> DenseTimer:
    """Time a dense network at the batch sizes of a table."""
    calls = _calls(model, input_shape, table)
    milliseconds = {
        batch: time_pair(call, call, _REPEATS, _SECONDS).dense_ms.median for batch, call in calls.items()
    }  # fmt: skip
    return DenseTimer(calls, milliseconds)


def speedups(
    timer: DenseTimer, model: nn.Module, input_shape: tuple[int, ...], table: LatencyTable
) -> dict[int, float]:
    """Times faster than the dense network, by batch size, in alternation with it."""
    return {
        batch: time_pair(timer.calls[batch], call, _REPEATS, _SECONDS).speedup.median
        for batch, call in _calls(model, input_shape, table).items()
    }


def latency_limits(timer: DenseTimer, ratio: float, layers: list[Layer], table: LatencyTable) -> dict[int, Limit]:
    """Milliseconds that the layers may take together, by batch size: what the rest of the network leaves of the budget.

    Parameters
    ----------
    timer : DenseTimer
        Of the dense network.
    ratio : float
        Times faster.
    layers : list of Layer
        All layers of the calibration.
    table : LatencyTable
        Measured as needed.
    """
    table.measure([(layer, DENSE) for layer in layers])
    limits = {}
    for batch, milliseconds in timer.milliseconds.items():
        model = Latency(table, batch)
        target = milliseconds / (ratio * _MARGIN)
        rest = milliseconds - sum(model.of_structure(layer, DENSE) for layer in layers)
        # Two measurements of the same large layers may differ by more than all the rest takes; a first guess that
        # leaves half of the target is corrected later.
        most = target - min(max(rest, 0.0), target / 2)
        limits[batch] = Limit(f"latency at batch {batch}", model, most)
    return limits


def refine_to_latency(
    planned: Callable[[Mapping[int, Limit]], tuple[Plan, nn.Module]],
    timer: DenseTimer,
    limits: Mapping[int, Limit],
    ratio: float,
    calibration: Calibration,
    table: LatencyTable,
) -> Plan:
    """Plan, time the network, correct the limits, until it is as fast as the budget says and not much faster.

    Parameters
    ----------
    planned : callable
        Limits by batch size to a plan and its network.
    timer : DenseTimer
        Of the dense network.
    limits : mapping
        First guess, from `latency_limits`.
    ratio : float
        Times faster at every batch size.
    calibration : Calibration
        For the input shape.
    table : LatencyTable
        For threads and batch sizes.

    Returns
    -------
    Plan
        The least lossy of those that kept the budget, or the fastest if none did; `Plan.timed` has what was measured.
    """
    found: list[Plan] = []
    assert one_tensor(calibration.input_shape)
    for _ in range(_ROUNDS):
        try:
            plan, network = planned(limits)
        except BudgetError:
            if not found:
                raise
            break  # corrected beyond what the method can reach
        measured = speedups(timer, network, calibration.input_shape, table)
        timed = {f"batch {batch}": round(value, 3) for batch, value in measured.items()}
        found.append(replace(plan, timed=timed, runtime=table.runtime))
        if ratio <= min(measured.values()) <= ratio * _CLOSE:
            break
        corrected = _corrected(limits, plan, measured, ratio)
        if corrected == limits:
            break
        limits = corrected
    kept = [plan for plan in found if min(plan.timed.values()) >= ratio]
    return min(kept, key=lambda plan: plan.loss) if kept else max(found, key=lambda plan: min(plan.timed.values()))


def _corrected(
    limits: Mapping[int, Limit], plan: Plan, measured: Mapping[int, float], ratio: float
) -> dict[int, Limit]:
    """Scale each limit by how far the network was from its target; only those that were used up may rise."""
    moved = {}
    for batch, limit in limits.items():
        used = sum(limit.model.of_structure(entry.layer, entry.structure) for entry in plan.layers)
        scale = min(max(measured[batch] / (ratio * _MARGIN), _LEAST_STEP), 1 / _LEAST_STEP)
        late, used_up = measured[batch] < ratio, used > _USED_UP * limit.most
        moved[batch] = replace(limit, most=limit.most * scale) if late or (used_up and scale > 1) else limit
    return moved


def _calls(model: nn.Module, input_shape: tuple[int, ...], table: LatencyTable) -> dict[int, Call]:
    session = find_runtime(table.runtime).open_module(model, input_shape, table.threads)
    return {batch: session.bind(batch) for batch in table.batches}
