"""Stage register: the results table and the best cell's ONNX file in; a registered version, and why, out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hscc.errors import ArtifactError
from hscc.evaluation.fingerprint import file_sha256
from hscc.evaluation.headline import headline
from hscc.evaluation.results import Row, compressed_rows, read_document, replace_text, row_name
from hscc.params import Params
from hscc.registry.mlflow_registry import Candidate, find_version, log_version, set_alias
from hscc.registry.policy import Decision, Policy, decide
from hscc.stages import layout
from hscc.tracking import stage_run, tracking_uri

ALIAS = "challenger"
_TAGS = ("method", "budget", "seed", "protocol", "data_hash", "git_commit")
_HEADLINE = (
    "accuracy",
    "accuracy_se",
    "accuracy_difference",
    "accuracy_difference_low",
    "accuracy_difference_high",
    "macro_f1",
    "macro_f1_se",
    "kl_to_baseline",
    "macs",
    "params",
    "macs_ratio",
    "params_ratio",
    "size_bytes",
    "val_accuracy",
    "speedup_b1",
    "latency_ms_b1",
)


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Register the best cell that passes the policy, once per model; record the decision either way.

    What is written holds nothing that differs between two stores (no version, run or time), so that the stage's
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
    document = read_document(workspace / layout.RESULTS_JSON)
    policy = Policy(**params.register_.model_dump(exclude={"name"}))
    decision = decide(compressed_rows(document["rows"], document["protocol"]), policy)
    if decision.chosen is not None:
        candidate = _candidate(decision.chosen, document, workspace)
        print(f"{row_name(decision.chosen)} {_register(candidate, decision.chosen, params, workspace)}", flush=True)
    else:
        reasons = "; ".join(f"{name} {', '.join(found)}" for name, found in decision.rejected.items())
        print(f"nothing registered: {decision.why} {reasons}.", flush=True)
    record = _record(decision, policy, document, params.register_.name)
    replace_text(workspace / layout.REGISTRATION, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _candidate(row: Row, document: dict[str, Any], workspace: Path) -> Candidate:
    model = workspace / layout.cell(row["method"], row["budget"], row["seed"]) / "model.onnx"
    if not model.is_file():
        raise ArtifactError(f"{model} does not exist; run `dvc pull` or `dvc repro`.")
    if file_sha256(model) != row["model_sha256"]:
        raise ArtifactError(f"{model} is not the file that was evaluated; run `hscc evaluate`, or `dvc repro`.")
    tags = {name: f"{row[name]:g}" if name == "budget" else str(row[name]) for name in _TAGS}
    if document["phantom"]:
        tags["phantom"] = "true"
    return Candidate(
        model=model,
        sha256=row["model_sha256"],
        tags=tags,
        metrics={name: float(row[name]) for name in _HEADLINE if row.get(name) is not None},
        description=_describe(row, document),
        classes=tuple(document["classes"]),
        data_hash=row["data_hash"],
    )


def _register(candidate: Candidate, row: Row, params: Params, workspace: Path) -> str:
    name, uri = params.register_.name, tracking_uri(workspace)
    found = find_version(name, candidate.sha256, uri)
    if found is None:
        settings = params.register_.model_dump()
        with stage_run("register", row_name(row), settings, candidate.tags, workspace) as tracked:
            number = log_version(candidate, name, uri, tracked.run_id)
    else:
        number = found
    set_alias(name, ALIAS, number, uri)
    return f"{'is now' if found is None else 'already was'} version {number} of {name} ({ALIAS})"


def _describe(row: Row, document: dict[str, Any]) -> str:
    subject = "Trained and tested on phantom images, no patient. " if document["phantom"] else ""
    rows = [other for other in document["rows"] if other["method"] == "dense"]
    return f"{subject}{headline([*rows, row], document['protocol'])} Split protocol: {document['protocol']}."


def _record(decision: Decision, policy: Policy, document: dict[str, Any], name: str) -> dict[str, Any]:
    chosen = decision.chosen
    return {
        "name": name,
        "alias": ALIAS,
        "registered": None if chosen is None else row_name(chosen),
        "model_sha256": None if chosen is None else chosen["model_sha256"],
        "why": decision.why,
        "figures": {} if chosen is None else {key: chosen[key] for key in (*_TAGS, *_HEADLINE) if key in chosen},
        "protocol": document["protocol"],
        "policy": vars(policy),
        "passed_over": decision.passed_over,
        "rejected": decision.rejected,
    }
