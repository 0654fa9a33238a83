"""Where each stage reads and writes, relative to the workspace (the folder of ``dvc.yaml``)."""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")

CODE = Path("artifacts/code")
MANIFEST = Path("artifacts/manifest.csv")
VALIDATION = Path("artifacts/validation")  # expectations.json, data_docs/
DATA_REPORT = Path("reports/data.json")

MOMENTS = Path("artifacts/calibration/moments.safetensors")
LATENCY = Path("artifacts/latency")
LATENCY_TABLE = LATENCY / "table.json"
CELLS = Path("artifacts/cells")
QUANTISED = Path("artifacts/quantised")
ENGINE_FILE = "model.hscc"  # beside model.onnx of an int8 variant

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
FIGURES = Path("reports/figures")  # the report's figures, one SVG file each
RELIABILITY = Path("reports/reliability.csv")
PROTOCOLS = Path("reports/protocols")  # <protocol>.json: results of experiments under other splits
INSIGHT = Path("artifacts/insight")  # pictures of slices, which git never holds
INSIGHT_JSON = Path("reports/insight.json")
RUNS = Path("reports/runs")  # which tracked run holds the figures of a job
REGISTRATION = Path("reports/registration.json")

EVIDENCE = "evidence"  # the sweep that the documents below are printed from

SCRATCH = Path(".hscc")  # decoded images and checkpoints: derived, never an output
IMAGE_CACHE = SCRATCH / "images"
POSTPONED_REGISTRATION = SCRATCH / "register.postponed"  # `hscc track` registers later
CHECKPOINTS = SCRATCH / "checkpoints"
TRIALS = SCRATCH / "tradeoff"  # finished settings of a run that was killed
UNLABELLED = SCRATCH / "unlabelled"  # which further images are no near-copies of validation and test images
TEACHER_LOGITS = SCRATCH / "teacher-logits"  # the baseline's, of each batch of a fine-tuning


def sweep_reports(name: str) -> Path:
    """Folder in which the reports of a named sweep are kept."""
    return Path("reports") / name


DOCUMENTS = {  # whose marked figures are printed, and the folder of the reports that they are printed from
    Path("README.md"): Path("reports"),
    Path("docs/results.md"): sweep_reports(EVIDENCE),
    Path("docs/tradeoff.md"): sweep_reports(EVIDENCE),
}
EXAMPLES = Path("examples")  # <name>/params.yaml, README.md, and in reports/ what its figures are printed from


def baseline(protocol: str) -> Path:
    """Folder of the dense network of one split protocol: model.safetensors, model.onnx, metrics.json."""
    return Path("artifacts/baseline") / protocol


def train_metrics(protocol: str) -> Path:
    """Final figures of one training run (a DVC metric)."""
    return Path("reports/train") / f"{protocol}.json"


def train_history(protocol: str) -> Path:
    """One row per epoch of one training run (a DVC plot)."""
    return Path("reports/train") / f"{protocol}.csv"


def cell(name: str) -> Path:
    """Folder of one cell of the sweep: model.safetensors, plan.json, model.onnx, metrics.json."""
    return CELLS / name


def timed_plan(name: str) -> Path:
    """Plan without weights of a cell whose budget has a latency; ``null`` for any other cell."""
    return LATENCY / "plans" / f"{name}.json"


def code(stage: str) -> Path:
    """Hashes of the modules that a stage runs."""
    return CODE / f"{stage}.json"


def int8_variant(name: str) -> Path:
    """Folder of the int8 variant of the network of that name: model.onnx, metrics.json."""
    return QUANTISED / name
