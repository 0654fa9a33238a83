"""Stage validate: images in; manifest, Great Expectations' result with Data Docs, and the report on the data out."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from hscc.errors import DataError, first_few
from hscc.files import move_into_place
from hscc.pipeline import layout
from hscc.pipeline.data.listing import list_files
from hscc.pipeline.data.manifest import group_near_copies, scan, write_manifest
from hscc.pipeline.data.report import DataReport, write_data_report
from hscc.pipeline.data.sources.pin import check_pin
from hscc.pipeline.data.splits import assign_splits
from hscc.pipeline.params import Params
from hscc.pipeline.tracking import stage_run
from hscc.pipeline.validation.checked_tables import class_table, folder_table, image_table, split_table, stratum_table
from hscc.pipeline.validation.data_report import gather_report, print_summary
from hscc.pipeline.validation.findings import find
from hscc.pipeline.validation.near_copies import gather_evidence
from hscc.pipeline.validation.runner import Outcome, Validation
from hscc.pipeline.validation.suite import class_checks, folder_checks, image_checks, split_checks, stratum_checks

FAILED = layout.SCRATCH / "validation-failed"


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Check the data set, write what later stages read, and record in MLflow what was found.

    Nothing is written until every error check has passed; then the manifest, the validation and the
    report replace the earlier ones. After a failure the Data Docs are in ``.hscc/validation-failed``.

    Parameters
    ----------
    params : Params
        Sections ``data`` and ``validate`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    DataError
        If the data folder is missing or is not what ``data.dvc`` pins, or a check of severity error fails; the
        message names the images.
    """
    list_files(workspace / layout.DATA)  # without data, or with other than what is pinned, there is no run of it
    check_pin(workspace)
    used = {"data": params.data.model_dump(), "validate": params.validate_.model_dump()}
    with stage_run("validate", "data", used, workspace=workspace) as tracked:
        report = _validate(params, workspace)
        tracked.metrics(_figures(report))
        tracked.artifact(workspace / layout.DATA_REPORT)
    console = Console()
    print_summary(report, params.data, console)
    console.print(f"Data Docs: {workspace / layout.VALIDATION}/data_docs/index.html", highlight=False, soft_wrap=True)


def _validate(params: Params, workspace: Path) -> DataReport:
    data = params.data
    frame, thumbnails = scan(workspace / layout.DATA, data)
    frame = group_near_copies(frame, thumbnails, data.near_duplicate)
    scratch = workspace / layout.SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="validate-", dir=scratch) as folder:
        new = Path(folder)
        validation = Validation(new / "validation")
        outcomes = _check_images(validation, frame, params)
        _stop_on_errors(validation, outcomes, new, workspace)  # before the splits, which need sound classes
        frame = assign_splits(frame, data)
        outcomes += validation.check("splits", split_table(frame), split_checks(data))
        outcomes += validation.check("strata", stratum_table(frame, data), stratum_checks())
        _stop_on_errors(validation, outcomes, new, workspace)
        evidence = gather_evidence(frame, thumbnails, data)
        report = gather_report(outcomes, find(outcomes, evidence), evidence)
        validation.publish()
        write_manifest(frame, new / "manifest.csv")
        write_data_report(report, new / "data.json")
        move_into_place(new / "validation", workspace / layout.VALIDATION)
        move_into_place(new / "manifest.csv", workspace / layout.MANIFEST)
        move_into_place(new / "data.json", workspace / layout.DATA_REPORT)
    shutil.rmtree(workspace / FAILED, ignore_errors=True)
    return report


def _figures(report: DataReport) -> dict[str, float]:
    findings = Counter(f"findings_{finding.severity}" for finding in report.findings)
    return {**{f"files_{name}": value for name, value in report.files}, **findings}


def _check_images(validation: Validation, frame: pd.DataFrame, params: Params) -> list[Outcome]:
    spec, limits = params.data, params.validate_
    return [
        *validation.check("images", image_table(frame, spec), image_checks(limits, spec)),
        *validation.check("folders", folder_table(frame, spec), folder_checks(spec)),
        *validation.check("classes", class_table(frame, spec), class_checks(limits)),
    ]


def _stop_on_errors(validation: Validation, outcomes: Sequence[Outcome], new: Path, workspace: Path) -> None:
    if not validation.failed:
        return
    validation.publish()
    move_into_place(new / "validation", workspace / FAILED)
    errors = [outcome for outcome in outcomes if outcome.check.severity == "error" and not outcome.passed]
    faults = "; ".join(_fault(outcome) for outcome in errors)
    raise DataError(
        f"{workspace / layout.DATA} is not fit for use: {faults}; "
        f"all are named in {workspace / FAILED}/data_docs/index.html."
    )


def _fault(outcome: Outcome) -> str:
    return f"{outcome.check.fault}: {first_few(outcome.paths)} ({outcome.check.fix})"
