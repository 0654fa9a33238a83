from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hscc.files import file_sha256
from hscc.pipeline.artifacts import INT8, Network
from hscc.pipeline.statistics.between_methods import ablation, compare_rivals
from hscc.pipeline.statistics.comparisons import Evidence, gather
from hscc.pipeline.statistics.rows import build_rows
from hscc.pipeline.statistics.scores import resample

CLASSES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
IMAGES = 80


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Network]:
    """A baseline and three methods at two budgets, a baseline of another protocol, and two int8 twins."""
    folder = tmp_path_factory.mktemp("networks")

    def make(method: str, budget: float, protocol: str = "grouped", precision: str = "fp32") -> Network:
        model = folder / f"{method}-{budget:g}-{protocol}-{precision}.onnx"
        model.write_bytes(model.name.encode())
        facts = (int(6000 / budget), 500, 0.8, 0.1 / budget, None, precision)
        return Network(method, budget, 0, protocol, model, *facts)

    cells = [make(method, budget) for budget in (3.0, 6.0) for method in ("global_svd", "tucker", "hscc")]
    twins = [make("dense", 1.0, precision=INT8), make("hscc", 6.0, precision=INT8)]
    return [make("dense", 1.0), *cells, make("dense", 1.0, "pooled"), *twins]


@pytest.fixture(scope="session")
def evidence(networks: list[Network]) -> dict[Network, Evidence]:
    """Networks that agree with the baseline but for noise that grows with the budget."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), IMAGES // 4)
    dense = 2.0 * np.eye(4)[labels] + rng.normal(size=(IMAGES, 4))
    weights = resample(np.arange(IMAGES), 200, 0)
    found = {}
    for network in networks:
        noise = 0.0 if network.is_dense else 0.2 * network.budget
        logits = dense + noise * rng.normal(size=dense.shape)
        found[network] = gather(labels, logits, dense, weights, CLASSES)
    return found


@pytest.fixture(scope="session")
def bench(networks: list[Network]) -> dict[str, Any]:
    """Twice as fast as the baseline, each of them; int8 twins have no torch form."""
    figures = {
        "pairs": 9, "reference_ms": 12.0, "reference_ms_iqr": 0.5, "ms": 6.0, "ms_iqr": 0.3, "speedup": 2.0,
        "speedup_iqr": 0.1, "speedup_se": 0.02, "peak_mb": 90.0, "load_mb": 95.0, "size_bytes": 1000,
    }  # fmt: skip
    rows = [
        {"network": network.name, "runtime": runtime, "batch": batch, **figures,
         "model_sha256": file_sha256(network.model)}
        for runtime in ("onnxruntime", "torch")
        for network in networks
        if network.protocol == "grouped" and (network.precision != INT8 or runtime == "onnxruntime")
        for batch in (1, 16)
    ]  # fmt: skip
    return {
        "reference": "dense-grouped", "runtimes": ["onnxruntime", "torch"], "batches": [1, 16], "threads": 2,
        "machine": {"processor": "a processor", "cores": "2", "system": "a system"}, "versions": {}, "rows": rows,
    }  # fmt: skip


@pytest.fixture
def make_document(
    networks: list[Network], evidence: dict[Network, Evidence], bench: dict[str, Any]
) -> Callable[..., dict[str, Any]]:
    """Build the content of a results.json; keyword arguments replace top-level entries."""

    def build(**changes: Any) -> dict[str, Any]:
        origin = {"data_hash": "0" * 32 + ".dir", "git_commit": "f" * 40}
        timed = [network for network in networks if network.protocol == "grouped"]
        rows = build_rows(evidence, bench, "grouped", timed=timed, controls=(), provenance=origin)
        own = {network: found for network, found in evidence.items() if network.protocol == "grouped"}
        return {
            "protocol": "grouped",
            "phantom": False,
            **origin,
            "command": "dvc repro evaluate",
            "seed": 0,
            "resamples": 200,
            "threads": 2,
            "machine": {"processor": "a processor", "cores": "2", "system": "a system"},
            "versions": {"python": "3.11"},
            "clock": {"b1": {"median": 1.0, "iqr": 0.02}, "b16": {"median": 0.99, "iqr": 0.01}},
            "classes": list(CLASSES),
            "image_points": 100 / IMAGES,
            "seeds": [],
            "comparisons": compare_rivals(own),
            "ablation": ablation(own, 0),
            "rows": rows,
            **changes,
        }

    return build


@pytest.fixture
def document(make_document: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return make_document()


@pytest.fixture
def cell_folder(tmp_path: Path) -> Callable[[str], Path]:
    """Make a folder with a given metrics.json and some model.onnx."""

    def make(metrics: str) -> Path:
        folder = tmp_path / "cell"
        folder.mkdir()
        (folder / "metrics.json").write_text(metrics, encoding="utf-8")
        (folder / "model.onnx").write_bytes(b"onnx")
        return folder

    return make
