"""Documents as the stages before the report write them, with made-up figures and the shape of a full grid."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hscc.pipeline.report.html.page import Material
from hscc.pipeline.report.html.sections.provenance_section import Lock, Origin

CLASSES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
COMPARED = ("global_svd", "global_svd_adaptive", "tucker", "tucker_adaptive", "hscc_paper", "hscc")
CONTROLS = (
    "hscc_direct", "hscc_unclustered", "global_groups", "random_channels", "random_regions", "hscc_unweighted",
    "hscc_uniform",
)  # fmt: skip
TIMED = (("global_svd_adaptive_timed", 5.0), ("hscc_timed", 7.0), ("hscc_fast", 10.0))
BUDGETS = (3.0, 6.0, 12.0)
IMAGES = 120
ORIGIN = {"data_hash": "0" * 32 + ".dir", "git_commit": "f" * 40}


def rng_of(*words: object) -> np.random.Generator:
    """A generator that depends on what is drawn and on nothing else."""
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def row(
    method: str = "hscc",
    budget: float = 6.0,
    seed: int = 0,
    *,
    role: str = "compared",
    protocol: str = "grouped",
    precision: str = "fp32",
    timed: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """A row of the results table with every column that evaluate writes."""
    rng = rng_of(method, budget, seed, protocol, precision)
    is_dense = method == "dense"
    accuracy = 0.904 - (0 if is_dense else 0.004 * budget * rng.random())
    drop = 0.0 if is_dense else accuracy - 0.904
    scores = {"accuracy": accuracy, "balanced_accuracy": accuracy - 0.01, "macro_f1": accuracy - 0.012}
    scores |= {"roc_auc": 0.97, "ece": 0.03 * (1 + rng.random()), "brier": 0.14 + 0.1 * rng.random()}
    scores |= {
        f"{score}_{name}": 0.8 + 0.15 * rng.random() for name in CLASSES for score in ("precision", "recall", "f1")
    }
    scores |= {"kl_to_baseline": 0.0 if is_dense else 0.006 * budget * (0.5 + rng.random())}
    scores |= {"agreement": 1.0 if is_dense else 0.97}
    columns: dict[str, Any] = {
        "method": method, "budget": budget, "seed": seed, "protocol": protocol, "precision": precision, "role": role,
        "n_test": IMAGES, "macs": int(7e8 / budget), "params": int(5.7e7 / (5 * budget)), "macs_ratio": budget,
        "params_ratio": 1.0 if is_dense else 5 * budget, "size_bytes": int(2.28e8 / (1 if is_dense else 5 * budget)),
        "model_sha256": "a" * 64,
    }  # fmt: skip
    for name, value in scores.items():
        columns |= {name: value, f"{name}_se": 0.02, f"{name}_low": value - 0.04, f"{name}_high": value + 0.04}
    columns |= interval("accuracy_difference", drop, 0.012)
    columns |= {"mcnemar_p": None if is_dense else 0.2, "mcnemar_p_holm": None if is_dense else 0.9}
    is_beside = not is_dense and "global_svd" not in method
    for name in ("accuracy", "kl"):
        columns |= interval(f"global_svd_{name}_difference", 0.03 if is_beside else None, 0.01)
    columns |= {"global_svd_mcnemar_p_holm": 0.01 if is_beside else None}
    columns |= {"val_accuracy": accuracy, "val_kl": 0.01 * budget, "val_accuracy_before": None if is_dense else 0.8}
    columns |= {
        "val_kl_before": None if is_dense else 0.02 * budget,
        "predicted_loss": None if is_dense else 0.1 * budget,
    }
    for batch in (1, 16, 64):
        for runtime in ("", "torch_"):
            known = timed and not (runtime and precision == "int8")
            columns |= {
                f"{runtime}{name}_b{batch}": figure if known else None
                for name, figure in {
                    "latency_ms": 10 / budget, "speedup": 1.0 if is_dense else budget * (0.5 + 0.7 * rng.random()),
                    "efficiency": 0.8, "peak_mb": 90.0,
                }.items()
            }  # fmt: skip
            columns |= {f"{runtime}{name}_b{batch}_iqr": 0.1 if known else None for name in ("latency_ms", "speedup")}
    return {**columns, **ORIGIN, **changes}


def interval(name: str, value: float | None, error: float) -> dict[str, float | None]:
    """A paired difference with its standard error and interval."""
    if value is None:
        return {f"{name}{end}": None for end in ("", "_se", "_low", "_high")}
    return {name: value, f"{name}_se": error, f"{name}_low": value - 2 * error, f"{name}_high": value + 2 * error}


def rows(seeds: tuple[int, ...] = (0,)) -> list[dict[str, Any]]:
    """A full grid: the baseline, methods and controls at three budgets, timed cells, int8 twins, other protocols."""
    table = [row("dense", 1.0, role="baseline")]
    for seed in seeds:
        cells = [(method, budget, "compared") for budget in BUDGETS for method in COMPARED]
        cells += [(method, budget, "compared") for method, budget in TIMED]
        if seed == seeds[0]:
            cells += [(method, budget, "control") for budget in BUDGETS for method in CONTROLS]
        table += [row(*cell, seed, role=role, timed=seed == seeds[0]) for *cell, role in cells]
    table += [row("dense", 1.0, role="baseline", protocol=name, timed=False) for name in ("pooled", "official")]
    twins = [found for found in table if found["protocol"] == "grouped" and found["seed"] == seeds[0]]
    return table + [
        row(found["method"], found["budget"], seeds[0], role=found["role"], precision="int8") for found in twins
    ]


def ablation() -> list[dict[str, Any]]:
    """What each control lacks, at each budget."""
    entries = []
    for budget in BUDGETS:
        for method in ("hscc", *CONTROLS, "tucker_adaptive"):
            found = row(method, budget)
            entry = {name: found[name] for name in ("budget", "method", "seed", "predicted_loss", "val_kl_before")}
            entry |= {
                f"{name}{end}": found[f"{name}{end}"] for name in ("accuracy", "kl_to_baseline") for end in ("", "_se")
            }
            ours = method == "hscc"
            entry |= {"lacks": "" if ours else "one idea", "against": None if ours else "hscc_direct"}
            entry |= interval("accuracy_difference", None if ours else -0.01, 0.008)
            entry |= interval("kl_difference", None if ours else 0.01, 0.002)
            entries.append({**entry, "mcnemar_p": None if ours else 0.1, "mcnemar_p_holm": None if ours else 0.7})
    return entries


def comparison(against: str = "tucker", budget: float = 6.0, **changes: Any) -> dict[str, Any]:
    """HSCC against one rival."""
    return {
        "budget": budget, "seed": 0, "method": "hscc", "against": against, "mcnemar_p": 0.2,
        **interval("accuracy_difference", 0.02, 0.02), **interval("kl_difference", -0.05, 0.01), **changes,
    }  # fmt: skip


def seed_summary(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Spread of accuracy over the seeds of each cell that has several."""
    cells: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for found in table:
        if found["method"] != "dense" and found["precision"] == "fp32":
            cells.setdefault((found["method"], found["budget"]), []).append(found)
    return [
        {"method": method, "budget": budget, "seeds": len(same), "accuracy_mean": 0.9, "accuracy_se": 0.0042}
        for (method, budget), same in cells.items()
        if len(same) > 1
    ]


def document(over: tuple[int, ...] = (0,), **changes: Any) -> dict[str, Any]:
    """Content of a results.json."""
    table = rows(over)
    return {
        "protocol": "grouped", "phantom": False, **ORIGIN, "command": "dvc repro evaluate", "seed": 0, "resamples": 200,
        "threads": 2, "machine": {"processor": "a processor", "cores": "2", "system": "a system"},
        "versions": {"python": "3.11"}, "classes": list(CLASSES), "image_points": 100 / IMAGES,
        "clock": {"b1": {"median": 1.0, "iqr": 0.02}, "b16": {"median": 0.99, "iqr": 0.01}},
        "comparisons": [
            comparison(method, budget) for budget in BUDGETS for method in (*COMPARED, *CONTROLS) if method != "hscc"
        ],
        "rows": table, "seeds": seed_summary(table), "ablation": ablation(), **changes,
    }  # fmt: skip


def predictions(table: list[dict[str, Any]]) -> pd.DataFrame:
    """Logits of every network of the table for its protocol's test images."""
    labels = np.repeat(np.arange(4), IMAGES // 4)
    parts = []
    for found in table:
        name = network(found)
        logits = 2.2 * np.eye(4)[labels] + rng_of(name).normal(size=(IMAGES, 4))
        part = pd.DataFrame(logits.astype(np.float32), columns=[f"logit_{label}" for label in CLASSES])
        part.insert(0, "path", [f"Testing/{CLASSES[label]}/{number}.jpg" for number, label in enumerate(labels)])
        part.insert(1, "protocol", found["protocol"])
        part.insert(2, "label", np.asarray(CLASSES)[labels])
        part.insert(3, "group", np.arange(IMAGES))
        part.insert(4, "network", name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def network(found: dict[str, Any]) -> str:
    """Name of a row's network, as evaluate names it."""
    from hscc.pipeline.statistics.results import row_name

    return row_name(found)


def tradeoff() -> dict[str, Any]:
    """Content of a tradeoff.json."""
    table = []
    for budget in BUDGETS:
        for regions in (1, 2, 4, "auto"):
            for clusters in ("auto",) if regions == "auto" else (1, 2, 4, 8):
                for images in (256, 768) if budget == 6.0 else (768,):
                    kl = (
                        0.02
                        * budget**1.5
                        / (1 + (regions == 4))
                        * (1 + rng_of(budget, regions, clusters, images).random())
                    )
                    table.append({
                        "method": "hscc" if regions == "auto" else "fixed", "regions": regions, "clusters": clusters,
                        "budget": budget, "images": images, "val_kl_se": 0.01,
                        "predicted_loss": 5 * kl, "val_kl": kl, "val_accuracy": 0.9 - 0.1 * kl, "val_accuracy_se": 0.01,
                        "macs_ratio": budget, "params_ratio": 4 * budget, "latency_ms_b1": 1.0, "latency_ms_b16": 10.0,
                        "speedup_b1": budget * (0.5 + 0.3 * rng_of(clusters, kl).random()), "speedup_b16": budget / 2,
                        "on_front": regions == "auto", "on_front_b1": regions == 4 and clusters in (1, 8),
                        "on_front_b16": False,
                    })  # fmt: skip
    claims = [
        {
            "claim": "Moderate clustering is best.",
            "verdict": "refuted",
            "answer": "Refuted: at 6x KL 0.12.",
            "figures": [],
        },
        {"claim": "Regions pay.", "verdict": "supported", "answer": "Supported: KL 0.1 against 0.2.", "figures": []},
    ]
    return {"protocol": "grouped", "images": 480, "rows": table, "dense": {}, "claims": claims}


def insight(folder: Path) -> dict[str, Any]:
    """Content of an insight.json; draws its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("rank-conv1.png", "worth-0.png", "cam-0.png", "cam-1.png", "flip-0.png", "flip-1.png"):
        pixels = rng_of(name).integers(0, 255, (96, 288 if name.startswith("cam") else 96), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    probabilities = dict(zip(CLASSES, (0.6, 0.3, 0.06, 0.04), strict=True))
    turned = dict(zip(CLASSES, (0.3, 0.55, 0.1, 0.05), strict=True))
    flip = {"network": "hscc-6-0", "path": "Testing/glioma_tumor/image(1).jpg", "label": "glioma_tumor"}
    layer = {"kind": "conv", "clusters": 4, "kept": 4, "positions": 16, "grid": [4, 4], "full_rank": 64}
    said = {"dense_predicted": "glioma_tumor", "small_predicted": "meningioma_tumor", "similarity": 0.91}
    likeness = {"n": 30, "mean": 0.93, "se": 0.01, "spearman": 0.9, "spearman_se": 0.01, "iou": 0.8, "iou_se": 0.02}
    return {
        "protocol": "grouped", "network": "hscc-6-0", "classes": list(CLASSES), "rank_scale": 0.6,
        "networks": [{"network": "hscc-6-0", "words": "1 of 2 layers have regions"}],
        "images": {"mean": 300, "importance": 100, "test": IMAGES},
        "layers": [
            {**layer, "layer": "conv1", "regions": 4, "rank_map": [[0.1, 0.2], [0.3, 0.6]], "words": "four regions",
             "picture": "rank-conv1.png"},
            {**layer, "layer": "conv2", "regions": 1, "rank_map": None, "words": "stays dense", "picture": None},
        ],
        "importance": [
            {"layer": "conv1", "region": 0, "cluster": number, "tiles": [[0, 2, 0, 2]], "cells": 4, "channels": 16,
             "rank": 8, "per_class": [0.1, 0.2, 0.01, 0.03 * number], "per_class_se": [0.01] * 4}
            for number in range(20)
        ],
        "importance_pictures": [{"layer": "conv1", "class": "glioma_tumor", "picture": "worth-0.png"}],
        "cams": {
            "layer": "conv5", "at": "conv5", "method": "Grad-CAM", "library": "captum 0.9",
            "similarity": [{"network": "hscc-6-0", "class": name, **likeness} for name in CLASSES],
            "pictures": [{**flip, **said, "example": "median", "picture": f"cam-{number}.png"} for number in (0, 1)],
        },
        "flip_counts": [{"network": "hscc-6-0", "images": IMAGES, "flips": 2, "lost": 1, "gained": 1, "other": 0}],
        "flips": [
            {**flip, "dense": probabilities, "small": turned, "kind": "lost", "picture": "flip-0.png"},
            {**flip, "dense": turned, "small": probabilities, "kind": "gained", "picture": "flip-1.png"},
        ],
    }  # fmt: skip


def findings() -> list[dict[str, Any]]:
    """What the checks found, from a whole entry to a bare one."""
    return [
        {"title": "only a title"},
        {
            "id": "copies", "severity": "warning", "title": "Copies & <twins>", "finding": "The same image twice.",
            "what_we_do": "Keep them together.", "images": [f"{number}.jpg" for number in range(50)], "count": 237,
        },
    ]  # fmt: skip


def history() -> pd.DataFrame:
    """A training curve."""
    return pd.DataFrame({
        "epoch": [0, 1], "train_loss": [2.0, 1.0], "val_loss": [2.0, 1.5], "train_accuracy": [0.4, 0.6],
        "val_accuracy": [0.4, 0.5],
    })  # fmt: skip


def material(folder: Path, seeds: tuple[int, ...] = (0,), **changes: Any) -> Material:
    """All that a full report is made of."""
    content = document(seeds)
    return Material(**{
        "document": content, "predictions": predictions(content["rows"]), "pictures": folder, "tradeoff": tradeoff(),
        "insight": insight(folder), "histories": {"grouped": history(), "pooled": history()}, "findings": findings(),
        "origin": Origin((Lock("train@grouped", "artifacts/baseline/grouped", "c" * 32),), {"evaluate": "d" * 32}),
        **changes,
    })  # fmt: skip
