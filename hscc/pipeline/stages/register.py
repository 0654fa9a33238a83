"""Stage register: the results and the chosen cell's files in; a registered version, and why that one or none, out.

What is registered is the deployed form: preprocessing, the evaluated network and softmax in one file, checked against
the evaluated file on test images.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from hscc.engine.export import export_engine
from hscc.errors import ArtifactError, ExportError
from hscc.export.card import NOTICE, DeploymentCard
from hscc.export.onnx_file import deploy_onnx
from hscc.export.preprocessing import Picture, Preprocessing
from hscc.files import file_sha256, replace_text
from hscc.pipeline import layout
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.data_spec import Texts
from hscc.pipeline.deployment import PHANTOM, about_data, preprocessing_of, sample_pictures, scores_of
from hscc.pipeline.params import Params
from hscc.pipeline.registry.aliases import change_alias, current_user
from hscc.pipeline.registry.answers import evidence_frame
from hscc.pipeline.registry.audit_log import CHALLENGER, REGISTER, Entry, alias_of
from hscc.pipeline.registry.connection import RegistryError
from hscc.pipeline.registry.registration import Candidate, log_version
from hscc.pipeline.registry.registration_policy import decide
from hscc.pipeline.registry.versions import (
    DEPLOYED,
    ENGINE_FILE,
    EVIDENCE,
    NETWORK,
    PHANTOM_TAG,
    PLAN,
    SCORES,
    Version,
    find_by_hash,
    is_intact,
    resolve,
)
from hscc.pipeline.statistics.predictions import read_predictions
from hscc.pipeline.statistics.results import flatten, headline, to_csv, to_json
from hscc.pipeline.statistics.schema import NetworkRow, Results, read_results
from hscc.pipeline.tasks.registry import task_of
from hscc.pipeline.tracking import shown_uri, stage_run, tracking_uri
from hscc.plans import Plan
from hscc.storage import load

SERVED = Path(__file__).parent.parent / "serving" / "served_model.py"
CELL, WEIGHTS = "model.onnx", "model.safetensors"  # the evaluated network, in its cell's folder

_TAGS = ("score", "method", "budget_macs", "budget_params", "budget_latency", "seed", "protocol")
_FIGURES = (  # with the name of the primary score
    "{score}",
    "{score}_se",
    "against_dense_{score}",
    "against_dense_{score}_low",
    "against_dense_{score}_high",
    "macro_f1",
    "macro_f1_se",
    "kl",
    "macs",
    "params",
    "macs_ratio",
    "params_ratio",
    "size_bytes",
    "validation_score",
    "speedup_b1",
    "latency_ms_b1",
)


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Register the chosen cell if it meets the requirements, once per model; record the decision either way.

    A registry that does not answer costs a warning: the decision is recorded, `hscc track` registers later. What is
    written holds nothing that differs between two stores (no version, run or time), so that the stage's
    output is the same wherever it runs.

    Parameters
    ----------
    params : Params
        Section ``register`` is used.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    ArtifactError
        If the results are missing, or the chosen cell's file is not the one that was evaluated.
    """
    results = read_results(workspace / layout.RESULTS_JSON)
    decision = decide(results)
    candidate = None
    if decision.registered is not None:
        row = results.chosen()
        candidate = _candidate(row, results, params, workspace)
        _register_or_postpone(candidate, row, params, workspace)
    else:
        reasons = "; ".join(f"{name} {', '.join(found)}" for name, found in decision.rejected.items())
        print(f"nothing registered: {decision.why} {reasons}.", flush=True)
    record = {
        "name": params.register_.name,
        "alias": CHALLENGER,
        "protocol": results.protocol,
        **decision.model_dump(),
        "figures": {**candidate.tags, **candidate.metrics} if candidate else {},
    }
    replace_text(workspace / layout.REGISTRATION, to_json(record))


def _candidate(row: NetworkRow, results: Results, params: Params, workspace: Path) -> Candidate:
    folder = workspace / layout.cell(row.name)
    model = folder / CELL
    for needed in (model, folder / PLAN):
        if not needed.is_file():
            raise ArtifactError(f"{needed} does not exist; run `dvc pull` or `dvc repro`.")
    if file_sha256(model) != row.model_sha256:
        raise ArtifactError(f"{model} is not the file that was evaluated; run `hscc evaluate`, or `dvc repro`.")
    columns = {name: value for name, value in flatten(row).items() if value is not None}
    spec = {name: columns[name] for name in _TAGS if name in columns}
    tags = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in spec.items()}
    phantom = str(results.phantom).lower()
    return Candidate(
        files=(model, folder / PLAN),
        code=SERVED,
        sha256=row.model_sha256,
        tags={"network": row.name, **tags, **_provenance(results), PHANTOM_TAG: phantom},
        metrics={name: float(columns[name]) for each in _FIGURES if (name := each.format(score=row.score)) in columns},
        description=_describe(results, params.data.texts),
        classes=results.classes,
        runtime=params.register_.runtime,
        grey=params.data.channels == 1 and params.data.pictures,
        served_as=task_of(params).served_as,
        volume=None if params.data.pictures else params.data.sides,
    )


def _provenance(results: Results) -> dict[str, str]:
    return {"data_hash": results.data_hash, "git_commit": results.git_commit}


def _register_or_postpone(candidate: Candidate, row: NetworkRow, params: Params, workspace: Path) -> None:
    postponed = workspace / layout.POSTPONED_REGISTRATION
    try:
        said = _register(candidate, row, params, workspace)
    except RegistryError as error:
        replace_text(postponed, f"{row.name}\n")
        print(f"warning: {error} {row.name} is not registered yet; `hscc track` does it.", file=sys.stderr)
        return
    postponed.unlink(missing_ok=True)
    print(f"{row.name} {said}", flush=True)


def _register(candidate: Candidate, row: NetworkRow, params: Params, workspace: Path) -> str:
    name, uri = params.register_.name, tracking_uri(workspace)
    found = find_by_hash(name, candidate.sha256, uri)
    if found is not None and not _is_whole(resolve(name, found, uri), uri):
        found = None
    number = found or _log(candidate, row, params, workspace)
    before = alias_of(name, CHALLENGER, uri)
    if before != number:
        change_alias(name, Entry(REGISTER, CHALLENGER, before, number, current_user(), row.name), uri)
    return f"{'already was' if found else 'is now'} version {number} of {name} ({CHALLENGER})"


def _is_whole(version: Version, uri: str) -> bool:
    """Whether its files are as they were, and it says what early versions did not: on what it was trained."""
    return PHANTOM_TAG in version.tags and is_intact(version, uri)


def _log(candidate: Candidate, row: NetworkRow, params: Params, workspace: Path) -> str:
    settings = params.register_.model_dump()
    with (
        tempfile.TemporaryDirectory() as folder,
        stage_run("register", row.name, settings, candidate.tags, workspace) as tracked,
    ):
        if tracked.is_waiting:
            raise RegistryError(f"the MLflow registry {shown_uri(workspace)} does not answer; start it.")
        whole = replace(candidate, files=_files(candidate, row, params, workspace, Path(folder)))
        return log_version(whole, params.register_.name, tracking_uri(workspace), tracked.run_id)


def _files(candidate: Candidate, row: NetworkRow, params: Params, workspace: Path, folder: Path) -> tuple[Path, ...]:
    model, plan_file = candidate.files
    plan = Plan.from_json(plan_file.read_text(encoding="utf-8"))
    deployed, network, evidence, scores = (folder / name for name in (DEPLOYED, NETWORK, EVIDENCE, SCORES))
    card = DeploymentCard(
        classes=candidate.classes,
        backbone=params.train.backbone,
        method=row.method,
        budget=str(plan.budget),
        plan=str(plan),
        protocol=row.protocol,
        data_hash=candidate.tags["data_hash"],
        git_commit=candidate.tags["git_commit"],
        network_sha256=candidate.sha256,
        scores=scores_of(row),
        notice=NOTICE + PHANTOM * (candidate.tags[PHANTOM_TAG] == "true"),
        output_kind=task_of(params).outputs.kind,
        **about_data(params.data),
    )
    pictures = sample_pictures(workspace, params.data, row.protocol)
    preprocessing = preprocessing_of(params.data)
    deploy_onnx(model, deployed, card, preprocessing, pictures=pictures)
    for_engine = _engine_file(model.parent, card, preprocessing, pictures, folder / ENGINE_FILE)
    shutil.copyfile(model, network)
    evidence.write_text(to_csv(_evidence(row, workspace)), encoding="utf-8")
    scores.write_text(to_json(flatten(row)), encoding="utf-8")
    return (deployed, network, plan_file, evidence, scores, *for_engine)


def _engine_file(
    cell: Path, card: DeploymentCard, preprocessing: Preprocessing, pictures: list[Picture], target: Path
) -> tuple[Path, ...]:
    """Write a network of pictures for the engine too; a version without it is served by ONNX Runtime."""
    if not (cell / WEIGHTS).is_file() or preprocessing.of_volumes:
        return ()
    images = torch.cat([preprocessing.prepare(picture) for picture in pictures]) if pictures else None
    try:
        export_engine(
            load(cell), target, preprocessing, card, input_shape=preprocessing.input_shape, images=images
        )  # fmt: skip
    except ExportError as error:
        print(f"warning: {error} It is registered without a file for the engine.", file=sys.stderr)
        return ()
    return (target,)


def _evidence(row: NetworkRow, workspace: Path) -> pd.DataFrame:
    predictions = read_predictions(workspace / layout.PREDICTIONS)
    return evidence_frame(predictions, read_manifest(workspace / layout.MANIFEST), row.name, row.protocol, row.score)


def _describe(results: Results, texts: Texts) -> str:
    phantom = "Trained and tested on phantom images, no patient. " if results.phantom else ""
    said = f"{phantom}{headline(results)} Split protocol: {results.protocol}."
    return said if results.phantom else f"{said} Trained and tested on {texts.title}: takes one {texts.subject}."
