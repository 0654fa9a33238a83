"""Processor, memory, disk, network and GPU while a job runs, as curves beside the job's own."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_SECONDS = 10.0  # between two samples

Record = Callable[[Mapping[str, float], int], None]


@contextmanager
def system_metrics(record: Record) -> Iterator[None]:
    """Sample the machine in the background until the block ends.

    MLflow's variables ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false`` and ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL``
    (seconds) hold. Blocks shorter than an interval are sampled once, at their end.

    Parameters
    ----------
    record : callable
        Takes figures by name and the number of the sample; called from another thread.
    """
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() == "false":
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_sample, args=(record, stop), name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _sample(record: Record, stop: threading.Event) -> None:
    monitors = _monitors()
    seconds = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or _SECONDS)
    for monitor in monitors:
        monitor.collect_metrics()  # the processor's first figure covers no time span
        monitor.clear_metrics()
    step, last = 0, False
    while not last:
        last = stop.wait(seconds)
        figures: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            figures.update(monitor.aggregate_metrics())
            monitor.clear_metrics()
        try:
            record({f"system/{name}": value for name, value in figures.items()}, step)
        except OSError:  # a full disk: the job itself meets it and says so
            return
        step += 1


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(ImportError, RuntimeError):  # no NVIDIA library, or no such GPU
        monitors.append(GPUMonitor())
    return monitors
