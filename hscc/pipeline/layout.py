"""Where each stage reads and writes, relative to the workspace (the folder of ``dvc.yaml``)."""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")

MANIFEST = Path("artifacts/manifest.csv")
VALIDATION = Path("artifacts/validation")  # expectations.json, data_docs/
DATA_REPORT = Path("reports/data.json")

MOMENTS = Path("artifacts/calibration/moments.safetensors")
LATENCY_TABLE = Path("artifacts/latency/table.json")
CELLS = Path("artifacts/cells")
QUANTISED = Path("artifacts/quantised")

BENCH_JSON = Path("reports/bench.json")
BENCH_CSV = Path("reports/bench.csv")

TRADEOFF_JSON = Path("reports/tradeoff.json")
TRADEOFF_CSV = Path("reports/tradeoff.csv")

RESULTS_CSV = Path("reports/results.csv")
RESULTS_JSON = Path("reports/results.json")
PREDICTIONS = Path("reports/predictions.parquet")
CONFUSION = Path("reports/confusion.csv")
PARETO = Path("reports/pareto.csv")
ABLATION = Path("reports/ablation.csv")
REPORT = Path("reports/report.html")
FIGURES = Path("reports/figures")  # the report's figures, an SVG file each
RELIABILITY = Path("reports/reliability.csv")
PROTOCOLS = Path("reports/protocols")  # <protocol>.json: results of experiments under other splits
INSIGHT = Path("artifacts/insight")  # pictures of slices, which git never holds
INSIGHT_JSON = Path("reports/insight.json")
RUNS = Path("reports/runs")  # which tracked run holds the figures of a job
REGISTRATION = Path("reports/registration.json")

DOCUMENTS = (
    Path("README.md"),
    Path("docs/results.md"),
    Path("docs/tradeoff.md"),
)  # whose marked figures are printed from the reports

SCRATCH = Path(".hscc")  # decoded images and checkpoints: derived, never an output
IMAGE_CACHE = SCRATCH / "images"
POSTPONED_REGISTRATION = SCRATCH / "register.postponed"  # `hscc track` registers later
CHECKPOINTS = SCRATCH / "checkpoints"
TRIALS = SCRATCH / "tradeoff"  # finished settings of a run that was killed
LESSONS = SCRATCH / "lessons"  # what the baseline says of each batch of a fine-tuning


def baseline(protocol: str) -> Path:
    """Folder of the dense network of one split protocol: model.safetensors, model.onnx, metrics.json."""
    return Path("artifacts/baseline") / protocol


def train_metrics(protocol: str) -> Path:
    """Final figures of one training run (a DVC metric)."""
    return Path("reports/train") / f"{protocol}.json"


def train_history(protocol: str) -> Path:
    """A row an epoch of one training run (a DVC plot)."""
    return Path("reports/train") / f"{protocol}.csv"


def cell(method: str, budget: float, seed: int) -> Path:
    """Folder of one cell of the sweep: model.safetensors, plan.json, model.onnx, metrics.json."""
    return CELLS / f"{method}-{budget:g}-{seed}"


def timed_plan(method: str, ratio: float, seed: int) -> Path:
    """Plan of a cell in which the clock has a say, without weights."""
    return Path("artifacts/latency/plans") / f"{method}-{ratio:g}-{seed}.json"


def twin(name: str) -> Path:
    """Folder of the int8 twin of the network of that name: model.onnx, metrics.json."""
    return QUANTISED / name
