"""What a run leaves to look at in the Prefect UI: tables and links as artifacts.

Artifacts are a view; where the server does not take one, the run goes on with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from flows.pages import artifacts_page
from hscc.pipeline import layout
from hscc.pipeline.data.report import read_data_report
from hscc.pipeline.score_names import score_label
from hscc.pipeline.statistics.schema import ONNXRUNTIME, NetworkRow, read_results

REPORTS = layout.REPORT.parent


@dataclass(frozen=True)
class Outcome:
    """What became of one stage: its address, one word for it, and the seconds that took."""

    address: str
    word: str
    seconds: float


class Progress:
    """The bar of a run: how many of its stages are up to date."""

    def __init__(self, total: int) -> None:
        self._total = max(total, 1)
        self._artifact: UUID | None = _shown(
            lambda: create_progress_artifact(0.0, key="progress", description=f"0 of {total} stages")
        )

    def show(self, done: int) -> None:
        """Move the bar.

        Parameters
        ----------
        done : int
            Stages up to date.
        """
        artifact = self._artifact
        if artifact is not None:
            said = f"{done} of {self._total} stages"
            _shown(lambda: update_progress_artifact(artifact, 100.0 * done / self._total, description=said))


def publish_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Show a table of the stages in the order they ended.

    Parameters
    ----------
    outcomes : Sequence[Outcome]
        Of this run.
    """
    rows = [f"| {done.address} | {done.word} | {done.seconds:.1f} |" for done in outcomes]
    table = "\n".join(["| stage | outcome | seconds |", "| --- | --- | --- |", *rows])
    said = "Stages of the graph, in the order they ended"
    _shown(lambda: create_markdown_artifact(markdown=table, key="pipeline", description=said))


def publish_run(run_id: str, page: str | None, store: str) -> None:
    """Show where MLflow keeps what the run records.

    Parameters
    ----------
    run_id : str
        MLflow's id of it.
    page : str or None
        Address of its page, where the store is a server.
    store : str
        The store, without credentials.
    """
    place = f"[{run_id}]({page})" if page else f"`{run_id}` in {store} (`make ui` shows it)"
    _shown(lambda: create_markdown_artifact(f"MLflow run {place}", key="mlflow", description="Parameters and figures"))


def publish_reports(reports: Path) -> None:
    """Show what the graph has written: validation summary, results table, links to the report and its figures.

    Parameters
    ----------
    reports : Path
        Folder ``reports`` of the workspace, or the one that an experiment's reports stay in; what is not there is left
        out.
    """
    for path, publish in _PUBLISHERS.items():
        found = reports / path.relative_to(REPORTS)
        if found.exists():
            publish(found)


def _validation(path: Path) -> None:
    report = read_data_report(path)
    lines = [f"{report.files.count:,} images", "", "| protocol | split | images |", "| --- | --- | --- |"]
    lines += [
        f"| {protocol} | {split} | {report.splits[protocol][split]['all']:,} |"
        for protocol, splits in report.splits.items()
        for split in splits
    ]
    lines += ["", *(f"- **{found.severity}: {found.title}.** {found.finding}" for found in report.findings)]
    _shown(
        lambda: create_markdown_artifact("\n".join(lines), key="validation", description="What the data checks found")
    )


def _results(path: Path) -> None:
    results = read_results(path)
    table = [_row(row) for row in results.rows]
    said = f"Test split, {results.protocol} protocol, data {results.data_hash}, commit {results.git_commit}"
    _shown(lambda: create_table_artifact(table, key="results", description=said))


def _row(row: NetworkRow) -> dict[str, str]:
    from hscc.pipeline.statistics.results import percent  # brings pandas, half a second of a flow's start

    return {
        "network": row.name,
        "protocol": row.protocol,
        "MACs": f"{row.macs_ratio:.2f}x",
        "params": f"{row.params_ratio:.2f}x",
        score_label(row.score): percent(row.primary),
        **({"macro F1": percent(row.scores["macro_f1"])} if "macro_f1" in row.scores else {}),
        "KL": "–" if row.kl.value is None else f"{row.kl.value:.3f}",
        **{f"speed b{each.batch}": f"{each.speedup:.2f}x" for each in row.timings if each.runtime == ONNXRUNTIME},
    }


def _report(path: Path) -> None:
    kept = _kept(path.parent)
    link = f"{kept}/{path.name}" if kept else path.resolve().as_uri()
    said = f"The report as MLflow holds it; the file is {path.resolve()} on the machine that ran it"
    said = said if kept else _by_hand("The report", path)
    _shown(lambda: create_link_artifact(link, link_text="report.html", key="report", description=said))


def _figures(folder: Path) -> None:
    kept = _kept(folder.parent)
    base = f"{kept}/{folder.name}" if kept else folder.resolve().as_uri()
    links = [f"- [{path.stem}]({base}/{path.name})" for path in sorted(folder.glob("*.svg"))]
    said = f"The report's figures as MLflow holds them; the files are in {folder.resolve()} on the machine that ran it"
    said = said if kept else _by_hand("The report's figures", folder)
    _shown(lambda: create_markdown_artifact("\n".join(links), key="figures", description=said))


def _kept(reports: Path) -> str | None:
    return artifacts_page(reports / layout.RUNS.relative_to(REPORTS))


def _by_hand(what: str, path: Path) -> str:
    return (
        f"{what}: browsers do not follow such a link from a page like this; on the machine that ran it open "
        f"{path.resolve()}, or paste the link into the browser's address bar. MLflow holds a copy (`make ui`)"
    )


_PUBLISHERS: dict[Path, Callable[[Path], None]] = {
    layout.DATA_REPORT: _validation,
    layout.RESULTS_JSON: _results,
    layout.REPORT: _report,
    layout.FIGURES: _figures,
}


def _shown(create: Callable[[], UUID | Coroutine[Any, Any, UUID]]) -> UUID | None:
    try:
        made = create()
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the Prefect server took no artifact: %s", error)
        return None
    assert isinstance(made, UUID)  # a coroutine only where an event loop runs, which a flow of plain functions has not
    return made
