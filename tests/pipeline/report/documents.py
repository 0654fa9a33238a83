"""Records as the stages before the report write them, with made-up figures and the shape of a full grid."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hscc.pipeline.data.report import Finding
from hscc.pipeline.insight.schema import Insight
from hscc.pipeline.report.html.page import Material
from hscc.pipeline.report.html.sections.provenance_section import Lock, Origin
from hscc.pipeline.statistics.robustness import summarise_seeds
from hscc.pipeline.statistics.schema import (
    AblationRow,
    AskedBudget,
    ClassScores,
    Comparison,
    Estimate,
    MethodComparison,
    NetworkRow,
    OnValidation,
    Results,
    Timing,
)
from hscc.pipeline.statistics.structure_schema import StructureGrid
from tests.pipeline.specs import BRAIN

CLASSES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
COMPARED = ("global_svd", "global_svd_adaptive", "tucker", "tucker_adaptive", "hscc_paper", "hscc")
CONTROLS = (
    "hscc_direct", "hscc_unclustered", "global_groups", "random_channels", "random_regions", "hscc_unweighted",
    "hscc_uniform",
)  # fmt: skip
RATIOS = (3.0, 6.0, 12.0)  # of MACs
TIMED: tuple[tuple[str, dict[str, float]], ...] = (
    ("global_svd_adaptive", {"latency": 5.0}), ("hscc", {"latency": 7.0}), ("hscc", {"macs": 10.0, "latency": 7.5}),
)  # fmt: skip
IMAGES = 120
SE = 0.01  # of every figure that a test gives; intervals are two of them to either side
DENSE_ACCURACY = 0.9
ORIGIN: dict[str, Any] = {"data_hash": "0" * 32 + ".dir", "git_commit": "f" * 40}


def rng_of(*words: object) -> np.random.Generator:
    """A generator that depends on what is drawn and on nothing else."""
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def around(value: float, se: float = SE) -> Estimate:
    """A figure with its error and interval."""
    return Estimate(value=value, se=se, low=value - 2 * se, high=value + 2 * se)


def compared(against: str, accuracy: float, kl: float | None = None, p: float = 0.2, **changes: Any) -> Comparison:
    """A paired comparison; KL falls as accuracy rises unless it is given."""
    divergence = around(-accuracy if kl is None else kl)
    return Comparison(against=against, accuracy=around(accuracy), kl=divergence, mcnemar_p=p, **changes)


def timing(batch: int, ratio: float, speedup: float, runtime: str = "onnxruntime") -> Timing:
    """Time of one call."""
    return Timing(
        runtime=runtime, batch=batch, ms=10 * batch / speedup, ms_iqr=0.1, speedup=speedup, speedup_iqr=0.1,
        speedup_se=0.05, efficiency=speedup / ratio, peak_mb=90.0,
    )  # fmt: skip


def network(
    method: str = "hscc",
    asked: dict[str, float] | float = 6.0,
    seed: int = 0,
    *,
    gain: float = 0.0,
    protocol: str = "grouped",
    precision: str = "fp32",
    timed: bool = True,
    speedup: float | None = None,
    **changes: Any,
) -> NetworkRow:
    """A network of so many times fewer MACs, or a budget, that is so much more accurate than the dense one's 90 %."""
    budget = {"macs": asked} if isinstance(asked, float) else asked
    is_dense = method == "dense"
    ratio = 1.0 if is_dense else budget.get("macs", budget.get("latency", 1.0))
    faster = 1.0 if is_dense else speedup or ratio / 2
    batches = [(batch, runtime) for runtime in ("onnxruntime", "torch") for batch in (1, 16, 64)]
    if precision == "int8":
        batches = [entry for entry in batches if entry[1] == "onnxruntime"]
    rng = rng_of(method, sorted(budget.items()), seed, precision)
    scores = {name: around(0.8 + 0.1 * rng.random()) for name in ("balanced_accuracy", "macro_f1", "roc_auc")}
    scores |= {"ece": around(0.04), "brier": around(0.15), "agreement": around(1.0 if is_dense else 0.97)}
    facts = {
        "method": method, "budget": AskedBudget(**({} if is_dense else budget)), "seed": seed, "protocol": protocol,
        "precision": precision, "n_test": IMAGES,
        "role": "baseline" if is_dense else "control" if method in CONTROLS else "compared",
        "macs": int(7.2e8 / ratio), "params": int(5.7e7 / (2 * ratio)), "macs_ratio": ratio,
        "params_ratio": 1.0 if is_dense else 2 * ratio, "size_bytes": int(2.28e8 / (1 if is_dense else 2 * ratio)),
        "model_sha256": "a" * 64, "accuracy": around(DENSE_ACCURACY + gain), **scores,
        "kl": around(0.0 if is_dense else 0.005 * ratio, 0.0 if is_dense else 0.002),
        "classes": tuple(
            ClassScores(name=name, precision=around(0.9), recall=around(0.9), f1=around(0.85 + 0.02 * place))
            for place, name in enumerate(CLASSES)
        ),
        "against_dense": None if is_dense and precision == "fp32" else compared("dense", gain, mcnemar_p_holm=0.9),
        "against_global_svd": None,
        "validation": OnValidation(
            score=0.9, kl=0.01 * ratio, score_before=None if is_dense else 0.8,
            kl_before=None if is_dense else 0.02 * ratio, predicted_loss=None if is_dense else 0.1 * ratio,
        ),
        "timings": tuple(timing(batch, ratio, faster, runtime) for batch, runtime in batches) if timed else (),
    }  # fmt: skip
    return NetworkRow.model_validate(facts | changes)


def pair(
    against: str = "tucker",
    asked: dict[str, float] | float = 6.0,
    accuracy: float = 0.05,
    seed: int = 0,
    **changes: Any,
) -> MethodComparison:
    """HSCC minus another method."""
    budget = AskedBudget(**({"macs": asked} if isinstance(asked, float) else asked))
    return MethodComparison(budget=budget, seed=seed, method="hscc", difference=compared(against, accuracy, **changes))


def control(
    method: str = "global_groups", asked: float = 6.0, difference: Comparison | None = None, lacks: str = "regions"
) -> AblationRow:
    """A method without one of HSCC's ideas."""
    row = network(method, asked)
    return AblationRow(
        budget=row.budget, method=method, lacks=lacks, seed=0, accuracy=row.primary, kl=row.kl,
        predicted_loss=row.validation.predicted_loss, val_kl_before=row.validation.kl_before, difference=difference,
    )  # fmt: skip


def results_of(*rows: NetworkRow, protocol: str = "grouped", **changes: Any) -> Results:
    """Results of a dense network and these; without comparisons and ablation unless they are given."""
    facts = {
        "protocol": protocol, "phantom": False, "classes": CLASSES, **ORIGIN, "command": "dvc repro evaluate",
        "seed": 0, "resamples": 200, "threads": 2,
        "machine": {"processor": "a processor", "cores": "2", "system": "a system"}, "versions": {"python": "3.11"},
        "clock": {"b1": {"median": 1.0, "iqr": 0.02}, "b16": {"median": 0.99, "iqr": 0.01}},
        "requirements": {"max_drop": 0.02, "min_macs_ratio": 2.0, "min_speedup": 1.5},
        "run_ids": {"evaluate": "e" * 32}, "headline": {},
        "rows": (network("dense", protocol=protocol), *rows), "seeds": (), "comparisons": (), "ablation": (),
    }  # fmt: skip
    return Results.model_validate(facts | changes)


def grid_rows(seeds: tuple[int, ...] = (0,)) -> list[NetworkRow]:
    """A full grid: methods and controls at three ratios, timed cells, int8 variants, other protocols."""
    rows = []
    for seed in seeds:
        cells: list[tuple[str, Any]] = [(method, ratio) for ratio in RATIOS for method in COMPARED]
        cells += TIMED
        if seed == seeds[0]:
            cells += [(method, ratio) for ratio in RATIOS for method in CONTROLS]
        for method, asked in cells:
            gain = -0.01 * rng_of(method, str(asked), seed).random()
            rows.append(network(method, asked, seed, gain=gain, timed=seed == seeds[0]))
    small = [
        network(row.method, row.budget.ratios, seeds[0], precision="int8")
        for row in [network("dense"), *rows]
        if row.seed == seeds[0]
    ]
    others = [network("dense", protocol=name, timed=False) for name in ("pooled", "official")]
    return [*rows, *others, *small]


def full_results(seeds: tuple[int, ...] = (0,)) -> Results:
    """Results of `grid_rows`."""
    rows = grid_rows(seeds)
    ablation = [
        control(method, ratio, None if method == "hscc" else compared("hscc_direct", -0.01, 0.03, mcnemar_p_holm=0.7))
        for ratio in RATIOS
        for method in ("hscc", *CONTROLS, "tucker_adaptive")
    ]
    comparisons = [pair(method, ratio) for ratio in RATIOS for method in (*COMPARED, *CONTROLS) if method != "hscc"]
    made = results_of(*rows, ablation=ablation, comparisons=comparisons)
    return made.model_copy(update={"seeds": tuple(summarise_seeds(made.compressed()))})


def predictions(results: Results) -> pd.DataFrame:
    """Logits of every network for its protocol's test images."""
    labels = np.repeat(np.arange(4), IMAGES // 4)
    parts = []
    for row in results.rows:
        logits = 2.2 * np.eye(4)[labels] + rng_of(row.name).normal(size=(IMAGES, 4))
        part = pd.DataFrame(logits.astype(np.float32), columns=[f"logit_{label}" for label in CLASSES])
        part.insert(0, "path", [f"Testing/{CLASSES[label]}/{number}.jpg" for number, label in enumerate(labels)])
        part.insert(1, "protocol", row.protocol)
        part.insert(2, "label", np.asarray(CLASSES)[labels])
        part.insert(3, "group", np.arange(IMAGES))
        part.insert(4, "network", row.name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def structure_row(
    regions: int | str, clusters: int | str, macs: float, images: int = 768, method: str = "fixed", **changes: Any
) -> dict[str, Any]:
    """A row of the trade-off."""
    kl = 0.02 * macs**1.5 / (1 + (regions == 4)) * (1 + rng_of(macs, regions, clusters, images).random())
    return {
        "method": method, "regions": regions, "clusters": clusters, "budget_macs": macs, "images": images,
        "predicted_loss": 5 * kl, "macs": 100, "params": 100, "macs_ratio": macs, "params_ratio": 4 * macs,
        "val_kl": {"value": kl, "se": 0.01}, "val_accuracy": {"value": 0.9, "se": 0.01}, "on_front": regions == "auto",
        "timings": [
            {"batch": 1, "ms": 1.0, "speedup": macs / 2, "speedup_se": 0.1,
             "on_front": regions == 4 and clusters in (1, 8)},
            {"batch": 16, "ms": 10.0, "speedup": macs / 3, "speedup_se": 0.1, "on_front": False},
        ],
        **changes,
    }  # fmt: skip


def tradeoff(rows: list[dict[str, Any]] | None = None, **changes: Any) -> StructureGrid:
    """The trade-off, of a full grid unless rows are given."""
    if rows is None:
        rows = [structure_row(regions, clusters, macs) for macs in RATIOS for regions in (1, 2, 4)
                for clusters in (1, 2, 4, 8)]  # fmt: skip
        rows += [structure_row("auto", "auto", macs, method="hscc") for macs in RATIOS]
        rows += [structure_row(regions, clusters, 6.0, 256) for regions, clusters in ((1, 1), (2, 4), (4, 8))]
    claims = [
        {"claim": "Moderate clustering is best", "verdict": "refuted", "answer": "Refuted: KL 0.12.", "figures": ()},
        {"claim": "Regions pay", "verdict": "supported", "answer": "Supported: 0.1 and 0.2.", "figures": ()},
    ]
    return StructureGrid.model_validate({
        "protocol": "grouped", **ORIGIN, "enabled": True, "command": "dvc repro tradeoff", "seed": 0, "resamples": 200,
        "images": 480, "calibration": 768, "batches": (1, 16), "threads": 2,
        "machine": {"processor": "a processor", "cores": "2", "system": "a system"}, "versions": {}, "clock": {},
        "dense": None, "rows": rows, "unreachable": (), "claims": claims, **changes,
    })  # fmt: skip


def insight(folder: Path, **changes: Any) -> Insight:
    """What the stage insight writes; draws its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("rank-conv1.png", "importance-0.png", "cam-0.png", "cam-1.png", "flip-0.png", "flip-1.png"):
        pixels = rng_of(name).integers(0, 255, (96, 288 if name.startswith("cam") else 96), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    before = dict(zip(CLASSES, (0.6, 0.3, 0.06, 0.04), strict=True))
    after = dict(zip(CLASSES, (0.3, 0.55, 0.1, 0.05), strict=True))
    cell = "hscc-macs6-seed0"
    image = {"network": cell, "path": "Testing/glioma_tumor/image(1).jpg", "label": "glioma_tumor"}
    layer = {"kind": "low_rank", "clusters": 4, "kept": 4, "positions": 16, "grid": (4, 4), "full_rank": 64}
    answers = {"dense_predicted": "glioma_tumor", "small_predicted": "meningioma_tumor", "similarity": 0.91}
    similar = {"n": 30, "mean": 0.93, "se": 0.01, "spearman": 0.9, "spearman_se": 0.01, "iou": 0.8, "iou_se": 0.02}
    return Insight.model_validate({
        "protocol": "grouped", **ORIGIN, "network": cell, "classes": CLASSES, "rank_scale": 0.6,
        "networks": [{"network": cell, "words": "1 of 2 layers have regions"}], "sweep": [],
        "images": {"mean": 300, "importance": 100, "test": IMAGES},
        "layers": [
            {**layer, "layer": "conv1", "regions": 4, "rank_map": [[0.1, 0.2], [0.3, 0.6]], "words": "four regions",
             "picture": "rank-conv1.png"},
            {**layer, "layer": "conv2", "regions": 1, "rank_map": None, "words": "stays dense", "picture": None},
        ],
        "importance": [
            {"layer": "conv1", "region": 0, "cluster": number, "tiles": [[0, 2, 0, 2]], "cells": 4, "channels": 16,
             "rank": 8, "per_class": [0.1, 0.2, None, 0.03 * number], "per_class_se": [0.01, 0.01, None, 0.01]}
            for number in range(20)
        ],
        "importance_pictures": [{"layer": "conv1", "label": "glioma_tumor", "picture": "importance-0.png"}],
        "cams": {
            "layer": "conv5", "at": "relu5", "method": "Grad-CAM", "library": "captum",
            "similarity": [{"network": cell, "label": name, **similar, "chance": 0.3} for name in CLASSES],
            "pictures": [{**image, **answers, "example": "median", "picture": f"cam-{n}.png"} for n in (0, 1)],
        },
        "flip_counts": [{"network": cell, "images": IMAGES, "flips": 2, "lost": 1, "gained": 1, "other": 0}],
        "flips": [
            {**image, "dense": before, "small": after, "kind": kind, "picture": f"flip-{number}.png"}
            for number, kind in enumerate(("lost", "gained"))
        ],
        **changes,
    })  # fmt: skip


def findings() -> tuple[Finding, ...]:
    """Two findings in the data."""
    facts = {"finding": "Some files are copies.", "what_we_do": "Nothing."}
    images = tuple(f"Testing/{number}.jpg" for number in range(60))
    return (
        Finding(id="sizes", severity="note", title="Sizes differ", images=(), count=0, **facts),
        Finding(id="copies", severity="warning", title="Copies & <pairs>", images=images, count=237, **facts),
    )


def history() -> pd.DataFrame:
    """A training curve."""
    epochs = np.arange(5)
    return pd.DataFrame({
        "epoch": epochs, "train_loss": 1 / (1 + epochs), "val_loss": 1.2 / (1 + epochs),
        "train_accuracy": 1 - 0.5 / (1 + epochs), "val_accuracy": 1 - 0.6 / (1 + epochs),
    })  # fmt: skip


def material(folder: Path, seeds: tuple[int, ...] = (0,), **changes: Any) -> Material:
    """All that a full report is made of."""
    own = full_results(seeds)
    pooled = results_of(network(protocol="pooled"), protocol="pooled")
    return Material(**{
        "protocols": {"grouped": own, "pooled": pooled}, "predictions": predictions(own), "texts": BRAIN.texts,
        "pictures": folder,
        "tradeoff": tradeoff(), "insight": insight(folder), "histories": {"grouped": history(), "pooled": history()},
        "findings": findings(),
        "origin": Origin((Lock("train@grouped", "artifacts/baseline/grouped", "c" * 32),), {"train": "d" * 32}),
        **changes,
    })  # fmt: skip
