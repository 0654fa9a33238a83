"""Time ONNX networks in turn, so that their ratios hold on a machine whose clock drifts."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnxruntime
from rich.progress import track

Session = onnxruntime.InferenceSession
Images = npt.NDArray[np.float32]
Clock = Callable[[], int]

UNDISTURBED = 0.1  # quantile of the calls that tells what a call takes; what interrupts one only ever adds
_WARM_UP = 2


def open_session(model: bytes, threads: int) -> Session:
    """Open a serialised network; its threads sleep between calls, see `hscc.evaluation.latency`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return Session(model, options, providers=["CPUExecutionProvider"])


def measure(sessions: list[Session], images: Images, seconds: float, clock: Clock) -> npt.NDArray[np.float64]:
    """Time all sessions in turn, each round in another order.

    Parameters
    ----------
    sessions : list of InferenceSession
        Each takes the images as its only input.
    images : ndarray of float32
        One batch.
    seconds : float
        How long, roughly.
    clock : callable
        Nanoseconds.

    Returns
    -------
    ndarray of float64, shape (sessions, rounds)
        Milliseconds a call.
    """
    calls = [_call(session, images) for session in sessions]
    for call in calls:
        for _ in range(_WARM_UP):
            call()
    started = time.perf_counter()
    _round(calls, np.arange(len(calls)), clock)
    rounds = max(int(seconds / (time.perf_counter() - started)), 3)
    generator = np.random.default_rng(0)
    times = [
        _round(calls, generator.permutation(len(calls)), clock)
        for _ in track(range(rounds), "Measuring", transient=True)
    ]
    return np.stack(times, axis=1)


def _call(session: Session, images: Images) -> Callable[[], object]:
    feeds = {session.get_inputs()[0].name: images}
    return lambda: session.run(None, feeds)


def _round(calls: list[Callable[[], object]], order: npt.NDArray[np.int64], clock: Clock) -> npt.NDArray[np.float64]:
    times = np.empty(len(calls))
    for index in order:
        started = clock()
        calls[index]()
        times[index] = (clock() - started) / 1e6
    return times
