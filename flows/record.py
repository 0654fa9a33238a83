"""The MLflow run of a whole run through the graph: parent of what its stages record, linked with Prefect both ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas import State
from prefect.runtime import deployment, flow_run
from prefect.settings import get_current_settings
from prefect.utilities.urls import url_for

from flows.publish import publish_run
from hscc.errors import HSCCError
from hscc.pipeline.tracking import StageRun, shown_uri, stage_run

STAGE = "pipeline"
BY_HAND = "by-hand"  # a run that no deployment started
OUTCOME = "outcome"  # tag: what the run came to, in a sentence

_NOTE = "mlflow.note.content"  # tag: shown as text on the run's page


@contextmanager
def recorded(workspace: Path) -> Iterator[StageRun]:
    """Keep an MLflow run open for as long as the current flow run works.

    It ends as FINISHED, as FAILED where the job sets its `status` or an exception passes, as KILLED where the flow was
    cancelled; a flow that was killed leaves it open, and the next one in the workspace ends it as KILLED.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Yields
    ------
    StageRun
        Commands whose environment names its ``run_id`` as ``HSCC_PARENT_RUN`` record below it.
    """
    name = deployment.get_name() or BY_HAND
    with stage_run(STAGE, name, flow_run.get_parameters(), _links(), workspace, resumable=False) as run:
        _announce(run, workspace)
        try:
            yield run
        except HSCCError as error:
            run.tags({OUTCOME: str(error)})
            raise


def conclude(run: StageRun, state: State[Any]) -> None:
    """Note what the flow run came to, and let the MLflow run end the same way.

    Parameters
    ----------
    run : StageRun
        From `recorded`.
    state : State
        Final state of the flow run.
    """
    run.tags({OUTCOME: state.message or state.type.value})
    if not state.is_completed():
        run.status = "FAILED"


def _links() -> dict[str, str]:
    words: dict[str, str | None] = {
        "prefect.flow_run_id": flow_run.get_id(),
        "prefect.flow_run": flow_run.get_name(),
        "prefect.deployment": deployment.get_name(),
    }
    if get_current_settings().api.url:  # else the server ends with this process, and its page with it
        words["prefect.url"] = url = url_for("flow-run", obj_id=flow_run.get_id())
        words[_NOTE] = f"Prefect flow run [{flow_run.get_name()}]({url})"
    return {name: word for name, word in words.items() if word}


def _announce(run: StageRun, workspace: Path) -> None:
    get_run_logger().info("MLflow run %s in %s", run.run_id, shown_uri(workspace))
    if run.is_waiting:
        get_run_logger().warning(
            "the MLflow store %s does not answer; the run goes on, `hscc track` sends its figures later",
            shown_uri(workspace),
        )
    publish_run(run.run_id, run.page, shown_uri(workspace))
