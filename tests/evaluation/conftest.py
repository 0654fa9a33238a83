from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hscc.evaluation.bootstrap import resample
from hscc.evaluation.latency import PairTiming, Spread
from hscc.evaluation.networks import Network
from hscc.evaluation.results import build_row
from hscc.evaluation.rivals import compare_rivals
from hscc.evaluation.scoring import Evidence, gather

CLASSES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
IMAGES = 80


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Network]:
    """A baseline and three methods at two budgets, and a baseline of another protocol."""
    folder = tmp_path_factory.mktemp("networks")

    def make(method: str, budget: float, protocol: str = "grouped") -> Network:
        model = folder / f"{method}-{budget:g}-{protocol}.onnx"
        model.write_bytes(model.name.encode())
        return Network(method, budget, 0, protocol, model, int(6000 / budget), 500, 0.8, 0.1 / budget, None)

    cells = [make(method, budget) for budget in (3.0, 6.0) for method in ("global_svd", "tucker", "hscc")]
    return [make("dense", 1.0), *cells, make("dense", 1.0, "pooled")]


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


@pytest.fixture
def make_document(networks: list[Network], evidence: dict[Network, Evidence]) -> Callable[..., dict[str, Any]]:
    """Build the content of a results.json; keyword arguments replace top-level entries."""

    def build(**changes: Any) -> dict[str, Any]:
        timing = PairTiming(Spread(12.0, 0.5), Spread(6.0, 0.3), Spread(2.0, 0.1))
        dense = {network.protocol: network for network in networks if network.is_dense}
        rows = [
            build_row(
                network,
                dense[network.protocol],
                evidence[network],
                evidence[dense[network.protocol]],
                {1: timing, 16: timing},
                {"data_hash": "0" * 32 + ".dir", "git_commit": "f" * 40},
            )
            for network in networks
        ]
        own = {network: found for network, found in evidence.items() if network.protocol == "grouped"}
        return {
            "protocol": "grouped",
            "phantom": False,
            "data_hash": "0" * 32 + ".dir",
            "git_commit": "f" * 40,
            "command": "dvc repro evaluate",
            "seed": 0,
            "resamples": 200,
            "threads": 2,
            "machine": {"processor": "a processor", "cores": "2", "system": "a system"},
            "versions": {"python": "3.11"},
            "clock": {"b1": {"median": 1.0, "iqr": 0.02}, "b16": {"median": 0.99, "iqr": 0.01}},
            "classes": list(CLASSES),
            "comparisons": compare_rivals(own),
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
