"""Peak memory of one network in one runtime, measured in a process of its own.

A process that has held another network keeps its high-water mark, so each measurement is a child:
``python -m hscc.pipeline.benchmark.peak_memory`` with a JSON object as its only argument. What the runtime takes before
a network is loaded (its libraries) is not counted: that is the same for every network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hscc.errors import ArtifactError
from hscc.pipeline.benchmark.runtimes import Subject, open_network
from hscc.timing.runtimes import ENGINE, ONNXRUNTIME, OPENVINO

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # of proc(5): the high-water mark becomes what is resident now
_FORMS = ("model", "module", "engine")
_CALLS = 3  # a runtime may plan its memory on the first and take it on the second
_LIBRARIES = {
    ONNXRUNTIME: ("onnxruntime", "hscc.timing.sessions"),
    OPENVINO: ("openvino",),
    ENGINE: ("hscc.engine.engine",),
    "torch": ("torch", "hscc.storage", "hscc.networks.storage"),
}


@dataclass(frozen=True)
class Peaks:
    """The most memory that a network takes, in megabytes (10^6 bytes) above the runtime's own.

    Attributes
    ----------
    loading : float or None
        While it is loaded; None on systems that do not report it.
    running : dict of int to float
        By batch size, while it runs, weights included; empty on systems that do not report it. No less than `loading`
        where the high-water mark cannot be reset (elsewhere than on Linux).
    """

    loading: float | None
    running: dict[int, float]


def peak_memory(subject: Subject, runtime: str, threads: int, batches: Sequence[int]) -> Peaks:
    """Measure how much memory a network takes at most.

    Parameters
    ----------
    subject : Subject
        The network.
    runtime : str
        ``torch``, or a key of `hscc.timing.runtimes.RUNTIMES`.
    threads : int
        Threads inside an operator.
    batches : sequence of int
        Batch sizes.

    Returns
    -------
    Peaks
        While loading and while running.

    Raises
    ------
    ArtifactError
        If the child fails: the network cannot be loaded, or memory does not suffice.
    """
    order = {
        "name": subject.name,
        **{key: str(path.resolve()) for key, path in _forms(subject).items()},
        "input_shape": subject.input_shape,
        "runtime": runtime,
        "threads": threads,
        "batches": sorted(batches),
    }
    command = [sys.executable, "-m", "hscc.pipeline.benchmark.peak_memory", json.dumps(order)]
    # A network of the user's own may be in a module of the workspace.
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise ArtifactError(f"{subject.form(runtime)} does not run in {runtime} by itself ({reason}); make it again.")
    found = json.loads(done.stdout.splitlines()[-1])
    return Peaks(found["loading"], {int(batch): peak for batch, peak in found["running"].items()})


def measure(order: Mapping[str, Any]) -> Peaks:
    """Load and run the network in this process; see `peak_memory`, whose child calls it."""
    forms = {key: Path(order[key]) if key in order else None for key in _FORMS}
    subject = Subject(name=order["name"], input_shape=tuple(order["input_shape"]), **forms)
    for library in _LIBRARIES[order["runtime"]]:
        import_module(library)
    _reset_peak()
    before = resident_peak()
    if before is None:
        return Peaks(None, {})
    bind = open_network(subject, order["runtime"], order["threads"])
    loading = _above(before)
    _reset_peak()
    running = {}
    for batch in order["batches"]:  # ascending, as the mark never falls
        call = bind(batch)
        for _ in range(_CALLS):
            call()
        running[batch] = _above(before)
    return Peaks(loading, running)


def _forms(subject: Subject) -> dict[str, Path]:
    found = {key: getattr(subject, key) for key in _FORMS}
    return {key: path for key, path in found.items() if path is not None}


def _above(before: int) -> float:
    return ((resident_peak() or before) - before) / 1e6


def resident_peak() -> int | None:
    """Return the process's high-water mark of resident memory in bytes; None where the system keeps none.

    Linux's ``VmHWM`` comes first: ``ru_maxrss`` of a child starts at what its parent had.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _reset_peak() -> None:
    try:
        _RESET.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:  # no such file elsewhere than on Linux, or not ours to write: the mark of the imports stays
        return


if __name__ == "__main__":
    print(json.dumps(asdict(measure(json.loads(sys.argv[1])))))
