"""Stage evaluate: every network's ONNX file, the bench and the test images in; tables out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
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
from hscc.pipeline.artifacts import Network, of_first_seed, read_int8_variants, read_others, read_own
from hscc.pipeline.benchmark.measurement import Bench, read_bench
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.data.phantom.slices import COMMENT
from hscc.pipeline.params import Params
from hscc.pipeline.provenance import versions
from hscc.pipeline.statistics.between_methods import ablation, compare_methods
from hscc.pipeline.statistics.bootstrap import Draws
from hscc.pipeline.statistics.comparisons import Evidence
from hscc.pipeline.statistics.predictions import to_parquet
from hscc.pipeline.statistics.results import flatten, frame, headline_figures, pareto_frame, to_csv
from hscc.pipeline.statistics.robustness import summarise_seeds
from hscc.pipeline.statistics.rows import build_rows
from hscc.pipeline.statistics.schema import ClockNoise, Requirements, Results, write_record
from hscc.pipeline.tasks.assessment.base import AnyAssessment
from hscc.pipeline.tasks.assessment.registry import assessment_of
from hscc.pipeline.tracking import StageRun, data_hash, git_commit, stage_run
from hscc.timing.runtimes import ENGINE, ONNXRUNTIME

COMMAND = "dvc repro evaluate"

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeldOut:
    """The test images of one protocol: their positions in the manifest and bootstrap weights."""

    rows: Ints
    weights: Draws


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Score the baselines, every cell that the parameters name and the int8 variants; write the tables.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``train.protocols``, ``compress``, ``quantise``, ``evaluate`` and ``register`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    ArtifactError
        If a network, the bench or the manifest is missing or does not fit; nothing is written then.
    """
    own = read_own(params, workspace)
    int8 = read_int8_variants(params, workspace, own)
    networks = [*own, *read_others(params, workspace), *int8]
    timed = {*of_first_seed(own), *int8}
    bench = read_bench(workspace / layout.BENCH_JSON)
    manifest = read_manifest(workspace / layout.MANIFEST)
    assessment = assessment_of(params, manifest, workspace)
    splits: dict[str, HeldOut] = {protocol: _test_split(assessment, protocol) for protocol in params.train.protocols}
    tags = {"protocol": params.data.protocol}
    with stage_run("evaluate", params.data.protocol, params.evaluate.model_dump(), tags, workspace) as tracked:
        dense = {network.protocol: network for network in networks if network.is_dense}
        answers = {
            network: assessment.answers(network.model, dense[network.protocol].model, splits[network.protocol].rows)
            for network in track(networks, "scoring networks")
        }
        evidence = {
            network: assessment.evidence(found, answers[dense[network.protocol]], split.rows, split.weights)
            for network, found in track(answers.items(), "resampling scores")
            if (split := splits[network.protocol])
        }
        phantom = _is_phantom(workspace / layout.DATA, manifest.iloc[splits[params.data.protocol].rows])
        results = _results(params, workspace, evidence, bench, timed, phantom, tracked.run_id)
        _write(workspace, results, assessment, answers)
        _track(tracked, results, workspace)


def _test_split(assessment: AnyAssessment, protocol: str) -> HeldOut:
    rows = assessment.rows(protocol, "test")
    return HeldOut(rows, assessment.weights(rows))


def _results(
    params: Params,
    workspace: Path,
    evidence: Mapping[Network, Evidence],
    bench: Bench,
    timed: Collection[Network],
    phantom: bool,
    run_id: str,
) -> Results:
    protocol = params.data.protocol
    own = {network: found for network, found in evidence.items() if network.protocol == protocol}
    runtime = _served(params.register_.runtime, bench)
    rows = build_rows(evidence, bench, protocol, runtime, timed=timed)
    compressed = [row for row, network in zip(rows, evidence, strict=True) if network.is_compressed]
    return Results(
        bounded=True,
        runtime=runtime,
        task=params.data.task,
        score=params.evaluate.score,
        protocol=protocol,
        phantom=phantom,
        classes=params.data.classes,
        data_hash=data_hash(workspace),
        git_commit=git_commit(workspace),
        command=COMMAND,
        seed=params.evaluate.seed,
        resamples=params.evaluate.resamples,
        threads=bench.threads,
        machine=bench.machine,
        versions=versions(),
        clock=_noise(bench, runtime),
        requirements=Requirements(**params.register_.model_dump(exclude={"name", "runtime"})),
        run_ids={"evaluate": run_id},
        headline=headline_figures(rows),
        rows=tuple(rows),
        seeds=tuple(summarise_seeds(compressed)),
        comparisons=tuple(compare_methods(own)),
        ablation=tuple(ablation(own)),
    )


def _served(asked: str, bench: Bench) -> str:
    """Runtime whose times count; "auto" is the engine where every network was timed in it, else ONNX Runtime.

    An int8 variant that the engine does not reproduce to its tolerance has no time there, and only it.
    """
    if asked != "auto":
        return asked
    names = {row.network for row in bench.rows if not row.network.endswith("-int8")}
    in_engine = {row.network for row in bench.rows if row.runtime == ENGINE}
    return ENGINE if names <= in_engine else ONNXRUNTIME


def _noise(bench: Bench, runtime: str) -> dict[str, ClockNoise]:
    """Speed-up of the baseline over itself, by batch size."""
    return {
        f"b{row.batch}": ClockNoise(median=row.speedup, iqr=row.speedup_iqr)
        for row in bench.rows
        if row.network == bench.reference and row.runtime == runtime
    }


def _is_phantom(root: Path, frame: pd.DataFrame) -> bool:
    with suppress(OSError), Image.open(root / frame["path"].iloc[0]) as image:
        return image.info.get("comment") == COMMENT
    return False  # phantoms are JPEG files


def _write(
    workspace: Path, results: Results, assessment: AnyAssessment, answers: Mapping[Network, Any]
) -> None:  # fmt: skip
    by_name = {network.name: found for network, found in answers.items()}
    chosen = results.chosen().name
    rows = assessment.rows(results.protocol, "test")
    provenance = {"data_hash": results.data_hash, "git_commit": results.git_commit}
    tables = {
        layout.RESULTS_CSV: frame(results.rows).assign(**provenance),
        layout.CONFUSION: assessment.confusion(by_name[results.dense().name], by_name[chosen], rows, chosen),
        layout.PARETO: pareto_frame(results),
        layout.ABLATION: frame(results.ablation),
    }
    replace_bytes(workspace / layout.PREDICTIONS, to_parquet(assessment.predictions(answers)))
    replace_text(workspace / layout.RESULTS_JSON, write_record(results))
    for path, table in tables.items():
        replace_text(workspace / path, to_csv(table))


def _track(parent: StageRun, results: Results, workspace: Path) -> None:
    """Record one child run per network, so that the tracking UI compares them side by side."""
    for path in (layout.RESULTS_CSV, layout.RESULTS_JSON):
        parent.artifact(workspace / path)
    names = ("method", "budget_macs", "budget_params", "budget_latency", "seed", "protocol", "precision")
    for row in results.rows:
        columns = flatten(row)
        params = {name: value for name in names if (value := columns.pop(name)) is not None}
        tags = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in params.items()}
        figures = {name: value for name, value in columns.items() if isinstance(value, int | float)}
        tags["mlflow.parentRunId"] = parent.run_id
        with stage_run("evaluate", row.name, params, tags, workspace) as child:
            child.metrics(figures)
