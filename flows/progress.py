"""Follow ``dvc repro``: one line per stage with what it shows, its time and what it found; all else in a log."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from hscc.pipeline import layout
from hscc.pipeline.score_names import score_label

_BEGINS = re.compile(r"Running stage '([^']+)'")
_SKIPPED = re.compile(r"(Stage )?'[^']+' didn't change, skipping")

SHOWN: Mapping[str, str] = {
    "code": "what each stage runs, so that only a change of behaviour repeats its work",
    "validate": "every image, so that the test split repeats no training image",
    "train": "the dense network that all others are compared with",
    "calibrate": "which directions of each layer's inputs matter to the answer",
    "latency": "layers timed on this processor, to plan for milliseconds instead of MACs",
    "compress": "one method, one budget, then distillation from the dense network",
    "quantise": "the same networks in int8",
    "bench": "all networks in alternation, for times that a busy machine distorts alike",
    "tradeoff": "regions x clusters, each without fine-tuning",
    "evaluate": "all networks on test images that nothing was chosen on, with standard errors",
    "insight": "where rank was kept, what each cluster is for, which answers changed",
    "register": "the fastest network that the policy allows, in the MLflow registry",
    "report": "everything above on one page",
}
"""What a stage shows, by its name."""


class Progress:
    """One line per stage.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``; what a stage found is read from its outputs there.
    log : TextIO
        Takes every line that DVC and the stages print.
    say : callable
        Prints a text without a line break.
    """

    def __init__(self, workspace: Path, log: TextIO, say: Callable[[str], object]) -> None:
        self._workspace, self._log, self._say = workspace, log, say
        self._stage: str | None = None
        self._since = 0.0
        self.ran, self.skipped = 0, 0

    def line(self, text: str) -> None:
        """Take a line of ``dvc repro``."""
        self._log.write(text)
        self._log.flush()
        if begins := _BEGINS.match(text):
            self.end()
            self._stage, self._since = begins[1], time.monotonic()
            name, _, item = self._stage.partition("@")
            self._say(f"{' '.join((name, item)):<42} {SHOWN.get(name, '')} ... ")
        elif _SKIPPED.match(text):
            self.skipped += 1

    def end(self, failed: bool = False) -> None:
        """Complete the line of the stage that runs."""
        if self._stage is None:
            return
        found = "failed" if failed else what_it_found(self._stage, self._workspace)
        self._say(f"{time.monotonic() - self._since:.0f} s{': ' if found else ''}{found}\n")
        self._stage, self.ran = None, self.ran + 1


def what_it_found(stage: str, workspace: Path) -> str:
    """Say in a few words what a stage found, from its outputs.

    Parameters
    ----------
    stage : str
        Such as ``train@grouped``.
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    str
        Empty where the stage has nothing to say or its outputs are not there.
    """
    name, _, item = stage.partition("@")
    try:
        return _FOUND[name](workspace, item)
    except (KeyError, OSError, ValueError):
        return ""


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _validate(workspace: Path, _: str) -> str:
    report = _read(workspace / layout.DATA_REPORT)
    return f"{report['files']['count']:,} images, {len(report['findings'])} warnings"


def _score(found: dict[str, Any]) -> str:
    """Primary score on validation; files of earlier versions name none and have accuracy."""
    name = found.get("score", "accuracy")
    return f"{score_label(name)} {100 * found[f'val_{name}']:.1f} %"


def _train(workspace: Path, protocol: str) -> str:
    found = _read(workspace / layout.train_metrics(protocol))
    return f"{_score(found)} on validation, {found['macs'] / 1e6:.0f} million MACs"


def _compress(workspace: Path, cell: str) -> str:
    found = _read(workspace / layout.cell(cell) / "metrics.json")
    dense = _read(workspace / layout.baseline(found["protocol"]) / "metrics.json")
    return (
        f"{dense['macs'] / found['macs']:.1f}x fewer MACs, {dense['params'] / found['params']:.1f}x fewer parameters, "
        f"{_score(found)}"
    )


def _quantise(workspace: Path, _: str) -> str:
    return f"{len(list((workspace / layout.QUANTISED).rglob('model.onnx')))} networks"


def _bench(workspace: Path, _: str) -> str:
    rows = [row for row in _read(workspace / layout.BENCH_JSON)["rows"] if row["batch"] == 1]
    fastest = max(rows, key=lambda row: row["speedup"])
    return f"at batch 1 {fastest['network']} is {fastest['speedup']:.1f}x faster than dense ({fastest['ms']:.2f} ms)"


def _evaluate(workspace: Path, _: str) -> str:
    rows = _read(workspace / layout.RESULTS_JSON)["rows"]
    name = rows[0].get("score", "accuracy")  # earlier versions had accuracy alone, in a field of its own
    shown = [(row["method"], row.get("scores", row)[name]["value"]) for row in rows if row["precision"] == "fp32"]
    return f"{score_label(name)} {', '.join(f'{method} {100 * value:.1f} %' for method, value in shown)}"


def _insight(workspace: Path, _: str) -> str:
    networks = _read(workspace / layout.INSIGHT_JSON)["networks"]
    return str(networks[0]["words"]) if networks else ""


def _register(workspace: Path, _: str) -> str:
    found = _read(workspace / layout.REGISTRATION)
    return str(found["why"]).rstrip(".") if found["registered"] else f"none registered: {found['why']}"


_FOUND: Mapping[str, Callable[[Path, str], str]] = {
    "validate": _validate,
    "train": _train,
    "compress": _compress,
    "quantise": _quantise,
    "bench": _bench,
    "evaluate": _evaluate,
    "insight": _insight,
    "register": _register,
    "report": lambda workspace, _: str(workspace / layout.REPORT),
}
