from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hscc.budgets.budget import Budget
from hscc.files import file_sha256
from hscc.pipeline.artifacts import Network
from hscc.pipeline.benchmark.measurement import Bench, BenchRow
from hscc.pipeline.cell_spec import CellSpec
from hscc.pipeline.statistics.between_methods import ablation, compare_methods
from hscc.pipeline.statistics.bootstrap import bootstrap_weights
from hscc.pipeline.statistics.comparisons import Evidence, gather
from hscc.pipeline.statistics.rows import build_rows
from hscc.pipeline.statistics.schema import Machine, OnValidation, Results
from tests.pipeline import rows

CLASSES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
IMAGES = 80


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Network]:
    """A baseline and three methods at two budgets, a baseline of another protocol, and two int8 variants."""
    folder = tmp_path_factory.mktemp("networks")

    def make(spec: CellSpec | None, protocol: str = "grouped", precision: Any = "fp32") -> Network:
        model = folder / f"{spec.name if spec else 'dense'}-{protocol}-{precision}.onnx"
        model.write_bytes(model.name.encode())
        ratio = (spec.budget.macs if spec else None) or 1.0
        validation = OnValidation(score=0.8, kl=0.1 / ratio, score_before=None, kl_before=None, predicted_loss=None)
        return Network(spec, 0, protocol, model, int(6000 / ratio), 500, validation, precision)

    cells = [CellSpec(method, Budget(macs=macs)) for macs in (3.0, 6.0) for method in ("global_svd", "tucker", "hscc")]
    variants = [make(None, precision="int8"), make(cells[-1].int8, precision="int8")]
    return [make(None), *map(make, cells), make(None, "pooled"), *variants]


@pytest.fixture(scope="session")
def evidence(networks: list[Network]) -> dict[Network, Evidence]:
    """Networks that agree with the baseline but for noise that grows with the budget."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), IMAGES // 4)
    dense = 2.0 * np.eye(4)[labels] + rng.normal(size=(IMAGES, 4))
    weights = bootstrap_weights(np.arange(IMAGES), 200, 0)
    found = {}
    for network in networks:
        ratio = (network.spec.budget.macs if network.spec else None) or 1.0
        noise = 0.0 if network.is_dense else 0.2 * ratio
        logits = dense + noise * rng.normal(size=dense.shape)
        found[network] = gather(labels, logits, dense, weights, CLASSES)
    return found


@pytest.fixture(scope="session")
def bench(networks: list[Network]) -> Bench:
    """Twice as fast as the baseline, each of them; int8 variants have no torch form."""
    figures: dict[str, Any] = {
        "pairs": 9, "reference_ms": 12.0, "reference_ms_iqr": 0.5, "ms": 6.0, "ms_iqr": 0.3, "speedup": 2.0,
        "speedup_iqr": 0.1, "speedup_se": 0.02, "peak_mb": 90.0, "load_mb": 95.0, "size_bytes": 1000,
    }  # fmt: skip
    timed = [
        BenchRow(network=network.name, runtime=runtime, batch=batch, model_sha256=file_sha256(network.model), **figures)
        for runtime in ("onnxruntime", "torch")
        for network in networks
        if network.protocol == "grouped" and (network.precision == "fp32" or runtime == "onnxruntime")
        for batch in (1, 16)
    ]
    return Bench(
        reference="dense-grouped", runtimes=("onnxruntime", "torch"), batches=(1, 16), threads=2, processors=2,
        machine=Machine(processor="a processor", cores="2", system="a system"), versions={}, rows=tuple(timed),
    )  # fmt: skip


@pytest.fixture(scope="session")
def results(networks: list[Network], evidence: dict[Network, Evidence], bench: Bench) -> Results:
    """What evaluate makes of them."""
    timed = [network for network in networks if network.protocol == "grouped"]
    own = {network: found for network, found in evidence.items() if network.protocol == "grouped"}
    return rows.results(
        rows=tuple(build_rows(evidence, bench, "grouped", timed=timed)),
        comparisons=tuple(compare_methods(own)),
        ablation=tuple(ablation(own)),
    )


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
