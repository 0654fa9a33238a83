"""Stage evaluate: every network's ONNX file, the bench and the test images in; tables out."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from rich.progress import track

from hscc.files import replace_bytes, replace_text
from hscc.pipeline import layout
from hscc.pipeline.artifacts import Network, of_first_seed, read_others, read_own, read_twins
from hscc.pipeline.benchmark.measurement import read_bench
from hscc.pipeline.benchmark.runtimes import ONNXRUNTIME
from hscc.pipeline.data.classes import CLASSES
from hscc.pipeline.data.images import labels_of, load_images, rows_of
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.data.phantom.slices import COMMENT
from hscc.pipeline.params import Params
from hscc.pipeline.provenance import versions
from hscc.pipeline.statistics.between_methods import ablation, compare_rivals
from hscc.pipeline.statistics.comparisons import Evidence, gather
from hscc.pipeline.statistics.predictions import Logits, predict, predictions_frame, to_parquet
from hscc.pipeline.statistics.results import (
    Row,
    compressed_rows,
    confusion_frame,
    dense_row,
    headline_figures,
    pareto_frame,
    recommended,
    row_name,
    to_csv,
    to_json,
)
from hscc.pipeline.statistics.robustness import summarise_seeds
from hscc.pipeline.statistics.rows import build_rows
from hscc.pipeline.statistics.scores import Draws, resample
from hscc.pipeline.tracking import StageRun, data_hash, git_commit, stage_run

COMMAND = "dvc repro evaluate"

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeldOut:
    """The test images of one protocol: their manifest rows and positions, labels and resamples."""

    frame: pd.DataFrame
    rows: Ints
    labels: Ints
    weights: Draws


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Score the baselines, every cell that the parameters name and the int8 twins; write the tables.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``train.protocols``, ``compress``, ``quantise`` and ``evaluate`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    ArtifactError
        If a network, the bench or the manifest is missing or does not fit; nothing is written then.
    """
    own = read_own(params, workspace)
    twins = read_twins(params, workspace, own)
    networks = [*own, *read_others(params, workspace), *twins]
    timed = {*of_first_seed(params, own), *twins}
    bench = read_bench(workspace / layout.BENCH_JSON)
    manifest = read_manifest(workspace / layout.MANIFEST)
    splits: dict[str, HeldOut] = {
        protocol: _test_split(params, manifest, protocol) for protocol in params.train.protocols
    }
    images = load_images(manifest, workspace / layout.DATA, params.data.image_size, workspace / layout.IMAGE_CACHE)
    tags = {"protocol": params.data.protocol}
    with stage_run("evaluate", params.data.protocol, params.evaluate.model_dump(), tags, workspace) as tracked:
        logits = {
            network: predict(network.model, os.cpu_count() or 1, images, splits[network.protocol].rows)
            for network in track(networks, "scoring networks")
        }
        evidence = _gather(logits, splits)
        document = _document(params, workspace, evidence, bench, timed)
        document["phantom"] = _is_phantom(workspace / layout.DATA, splits[params.data.protocol].frame)
        document["run_ids"] = {"evaluate": tracked.run_id}
        _write(workspace, document, splits, logits)
        _track(tracked, document["rows"], workspace)


def _test_split(params: Params, manifest: pd.DataFrame, protocol: str) -> HeldOut:
    rows = rows_of(manifest, protocol, "test")
    frame = manifest.iloc[rows]
    weights = resample(frame["group"].to_numpy(np.int64), params.evaluate.resamples, params.evaluate.seed)
    return HeldOut(frame, rows, labels_of(frame), weights)


def _gather(logits: Mapping[Network, Logits], splits: Mapping[str, HeldOut]) -> dict[Network, Evidence]:
    dense = {network.protocol: values for network, values in logits.items() if network.is_dense}
    found = {}
    for network, values in track(logits.items(), "resampling scores"):
        split = splits[network.protocol]
        found[network] = gather(split.labels, values, dense[network.protocol], split.weights, CLASSES)
    return found


def _document(
    params: Params,
    workspace: Path,
    evidence: Mapping[Network, Evidence],
    bench: Mapping[str, Any],
    timed: Collection[Network],
) -> dict[str, Any]:
    protocol = params.data.protocol
    own = {network: found for network, found in evidence.items() if network.protocol == protocol}
    origin = {"data_hash": data_hash(workspace), "git_commit": git_commit(workspace)}
    controls = params.compress.controls
    rows = build_rows(evidence, bench, protocol, timed=timed, controls=controls, provenance=origin)
    return {
        "protocol": protocol,
        **origin,
        "command": COMMAND,
        "seed": params.evaluate.seed,
        "resamples": params.evaluate.resamples,
        "image_points": 100 / dense_row(rows, protocol)["n_test"],
        "threads": bench["threads"],
        "machine": bench["machine"],
        "versions": versions(),
        "clock": _noise(bench),
        "classes": list(CLASSES),
        "headline": headline_figures(rows),
        "seeds": summarise_seeds(compressed_rows(rows, protocol)),
        "comparisons": compare_rivals(own),
        "ablation": ablation(own, params.compress.seeds[0]),
        "rows": rows,
    }


def _noise(bench: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Speed-up of the baseline over itself in ONNX Runtime, by batch size."""
    return {
        f"b{row['batch']}": {"median": row["speedup"], "iqr": row["speedup_iqr"]}
        for row in bench["rows"]
        if row["network"] == bench["reference"] and row["runtime"] == ONNXRUNTIME
    }


def _is_phantom(root: Path, frame: pd.DataFrame) -> bool:
    with Image.open(root / frame["path"].iloc[0]) as image:
        return image.info.get("comment") == COMMENT


def _write(
    workspace: Path,
    document: Mapping[str, Any],
    splits: Mapping[str, HeldOut],
    logits: Mapping[Network, Logits],
) -> None:
    rows, own = document["rows"], document["protocol"]
    labels = splits[own].labels
    chosen_row = recommended(rows, own)
    dense = next(network for network in logits if network.is_dense and network.protocol == own)
    chosen = next(network for network in logits if network.name == row_name(chosen_row))
    predicted = {network: logits[network].argmax(axis=1) for network in (dense, chosen)}
    texts = {
        layout.RESULTS_CSV: to_csv(pd.DataFrame(rows)),
        layout.RESULTS_JSON: to_json(document),
        layout.CONFUSION: to_csv(confusion_frame(labels, predicted[dense], predicted[chosen], chosen.name, CLASSES)),
        layout.PARETO: to_csv(pareto_frame(rows, own)),
        layout.ABLATION: to_csv(pd.DataFrame(document["ablation"])),
    }
    told = predictions_frame({name: split.frame for name, split in splits.items()}, logits, CLASSES)
    replace_bytes(workspace / layout.PREDICTIONS, to_parquet(told))
    for path, text in texts.items():
        replace_text(workspace / path, text)


def _track(parent: StageRun, rows: Sequence[Row], workspace: Path) -> None:
    """Record a child run a network, so that the tracking UI compares them side by side."""
    for path in (layout.RESULTS_CSV, layout.RESULTS_JSON):
        parent.artifact(workspace / path)
    for row in rows:
        params = {name: row[name] for name in ("method", "budget", "seed", "protocol", "precision")}
        tags = {name: f"{value:g}" if name == "budget" else str(value) for name, value in params.items()}
        figures = {name: value for name, value in row.items() if name not in params and isinstance(value, int | float)}
        with stage_run(
            "evaluate", row_name(row), params, {**tags, "mlflow.parentRunId": parent.run_id}, workspace
        ) as child:
            child.metrics(figures)
