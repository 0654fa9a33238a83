"""Stage report: reads what evaluate, tradeoff, insight and the checks wrote; writes the HTML page and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from hscc.files import replace_text, replacing
from hscc.pipeline import layout
from hscc.pipeline.data.report import read_data_report
from hscc.pipeline.insight.schema import read_insight
from hscc.pipeline.params import Params
from hscc.pipeline.report.html.page import Material, Report, render
from hscc.pipeline.report.html.sections.calibration_section import bins_of, reliability_frame
from hscc.pipeline.report.html.sections.provenance_section import Origin
from hscc.pipeline.report.html.sources import (
    read_history,
    read_locks,
    read_registered,
    read_runs,
)
from hscc.pipeline.statistics.predictions import form_of, read_predictions
from hscc.pipeline.statistics.results import to_csv
from hscc.pipeline.statistics.robustness import read_protocols
from hscc.pipeline.statistics.structure_schema import read_structure_grid
from hscc.pipeline.tracking import stage_run


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Write the report, its figures as files and the table of the reliability diagram.

    Parameters
    ----------
    params : Params
        Sections ``data.protocol``, ``data.texts`` and ``train.protocols`` are used.
    workspace : Path
        Folder of ``dvc.yaml``. The trade-off, the insight, findings in the data, training curves, results under other
        protocols and the registration may be missing; the report says so then.

    Raises
    ------
    ArtifactError
        If the results or the predictions are missing, or any input does not fit; nothing is written then.
    """
    protocol = params.data.protocol
    with stage_run("report", protocol, {"protocol": protocol}, {"protocol": protocol}, workspace) as tracked:
        material = _read(params, workspace, tracked.run_id)
        page = render(material)
        _write(page, _reliability(material), workspace)
        tracked.artifact(workspace / layout.REPORT)
        tracked.artifact(workspace / layout.FIGURES)
    print(f"wrote {layout.REPORT}, {len(page.html) / 1e6:.1f} MB, and {len(page.figures)} figures")


def _read(params: Params, workspace: Path, run_id: str) -> Material:
    curves = {name: read_history(workspace / layout.train_history(name)) for name in params.train.protocols}
    locks = tuple(lock for lock in read_locks(workspace / layout.LOCK) if lock.stage != "report")
    optional = (layout.DATA_REPORT, layout.TRADEOFF_JSON, layout.INSIGHT_JSON)
    data, tradeoff, insight = (workspace / path for path in optional)
    return Material(
        protocols=read_protocols(workspace / layout.RESULTS_JSON, workspace / layout.PROTOCOLS),
        predictions=read_predictions(workspace / layout.PREDICTIONS),
        texts=params.data.texts,
        pictures=workspace / layout.INSIGHT,
        histories={name: curve for name, curve in curves.items() if curve is not None},
        findings=read_data_report(data).findings if data.is_file() else (),
        tradeoff=read_structure_grid(tradeoff) if tradeoff.is_file() else None,
        insight=read_insight(insight) if insight.is_file() else None,
        registered=read_registered(workspace / layout.REGISTRATION),
        origin=Origin(locks, {**read_runs(workspace / layout.RUNS), "report": run_id}),
    )


def _reliability(material: Material) -> pd.DataFrame:
    results = material.results
    networks = {"dense": results.dense(), "recommended": results.chosen()}
    if form_of(material.predictions) != "classes":
        return pd.DataFrame(columns=["confidence", *networks])
    bins = {name: bins_of(row, material.predictions, results.classes) for name, row in networks.items()}
    return reliability_frame(bins)


def _write(page: Report, reliability: pd.DataFrame, workspace: Path) -> None:
    _replace_figures(workspace / layout.FIGURES, page.figures)
    replace_text(workspace / layout.RELIABILITY, to_csv(reliability))
    replace_text(workspace / layout.REPORT, page.html)


def _replace_figures(folder: Path, figures: Mapping[str, str]) -> None:
    """Replace the folder as a whole, so that no figure of an earlier grid stays."""
    with replacing(folder) as new:
        new.mkdir()
        for name, svg in figures.items():
            (new / f"{name}.svg").write_text(svg, encoding="utf-8")
