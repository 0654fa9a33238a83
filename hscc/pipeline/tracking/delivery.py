"""Send what a journal holds to MLflow, in order, each event once.

Sending is safe to repeat: a run is found by its key before another is made, and MLflow keeps equal parameters, tags and
points of a curve only once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hscc.pipeline.provenance import UNKNOWN
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking.journal import KEY_PREFIX, Event, Journal
from hscc.pipeline.tracking.running import write_link
from hscc.pipeline.tracking.store import answering, experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "hscc.key"
PARENT_TAG = "mlflow.parentRunId"

_REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # asking again would change nothing
_LIVE = 5.0  # seconds; an event that is older when it is sent has waited
_LONGEST_DIGEST = 36  # characters MLflow keeps of a data set's digest


def deliver(journal: Journal, client: MlflowClient, workspace: Path) -> None:
    """Send all that waits.

    Parameters
    ----------
    journal : Journal
        Taken by this process.
    client : MlflowClient
        The open store.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    StoreDown
        If the store does not answer; what has not arrived keeps waiting.
    """
    while events := journal.waiting():
        again = journal.attempted()
        journal.trying()
        with answering():
            run_id = _send(events[0], journal, client, workspace, again)
        journal.arrived(run_id)


def _send(event: Event, journal: Journal, client: MlflowClient, workspace: Path, again: bool) -> str:
    from mlflow.exceptions import MlflowException

    if event["do"] == "start":
        return _start(event, journal, client, workspace, again)
    run_id = journal.run_id
    assert run_id is not None, "a journal begins with the start of its run"
    try:
        _SENDERS[event["do"]](client, run_id, event, journal)
    except MlflowException as error:
        if error.error_code not in _REFUSED:
            raise
        reason = redact(str(error).splitlines()[0])
        print(f"warning: MLflow refuses the {event['do']} of run {run_id} ({reason}).", file=sys.stderr, flush=True)
    return run_id


def _start(event: Event, journal: Journal, client: MlflowClient, workspace: Path, again: bool) -> str:
    from mlflow.entities import Param

    parent = _parent(event["parent"], client, workspace)
    run_id = _reopened(journal.run_id or event.get("continues"), parent, client)
    if run_id is None and again:
        run_id = _run_of(client, workspace, KEY_TAG, journal.key)
    if run_id is None:
        run_id = _create(event, journal.key, parent, client, workspace)
    client.log_batch(run_id, params=[Param(name, value) for name, value in event["params"].items()])
    _log_dataset(client, run_id, event)
    if again or time.time() - event["time"] / 1000 > _LIVE:
        _adopt_children(client, workspace, journal.key, run_id)
    if event["link"]:
        write_link(workspace, event["name"], run_id)
    return run_id


def _reopened(run_id: str | None, parent: str | None, client: MlflowClient) -> str | None:
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        client.update_run(run_id, status="RUNNING")
        if parent:  # another pipeline run may take up what an earlier one began
            client.set_tag(run_id, PARENT_TAG, parent)
    except MlflowException as error:
        if error.error_code not in _REFUSED:
            raise
        return None  # the store was emptied since
    return run_id


def _create(event: Event, key: str, parent: str | None, client: MlflowClient, workspace: Path) -> str:
    tags = {**event["tags"], KEY_TAG: key, **({PARENT_TAG: parent} if parent else {})}
    run = client.create_run(
        experiment_id(client, workspace), start_time=event["time"], tags=tags, run_name=event["name"]
    )
    return str(run.info.run_id)


def _parent(named: str | None, client: MlflowClient, workspace: Path) -> str | None:
    """Id of the run that is named by its id, or by its key where it began while the store was down."""
    if named and named.startswith(KEY_PREFIX):
        return _run_of(client, workspace, KEY_TAG, named) or named
    return named


def _log_dataset(client: MlflowClient, run_id: str, event: Event) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    tags = event["tags"]
    if tags["data_hash"] == UNKNOWN:
        return
    # The images are what data.dvc pins at this commit: that, not a path of one machine, is where they come from.
    source = json.dumps({"tags": {"dvc.file": "data.dvc", "dvc.md5": tags["data_hash"], "commit": tags["git_commit"]}})
    dataset = Dataset("data", tags["data_hash"][:_LONGEST_DIGEST], "code", source)
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, tags["stage"])])])


def _run_of(client: MlflowClient, workspace: Path, tag: str, value: str) -> str | None:
    found = client.search_runs([experiment_id(client, workspace)], f"tags.`{tag}` = '{value}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _adopt_children(client: MlflowClient, workspace: Path, key: str, run_id: str) -> None:
    """Point runs that reached MLflow before this one, their parent, at its id."""
    for child in client.search_runs([experiment_id(client, workspace)], f"tags.`{PARENT_TAG}` = '{key}'"):
        client.set_tag(child.info.run_id, PARENT_TAG, run_id)


def _metrics(client: MlflowClient, run_id: str, event: Event, _: Journal) -> None:
    from mlflow.entities import Metric

    points = [Metric(name, value, event["time"], event["step"]) for name, value in event["values"].items()]
    client.log_batch(run_id, metrics=points)


def _tags(client: MlflowClient, run_id: str, event: Event, _: Journal) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in event["values"].items()])


def _artifact(client: MlflowClient, run_id: str, event: Event, journal: Journal) -> None:
    path = journal.kept(event["file"])
    if path.is_dir():
        client.log_artifacts(run_id, str(path), artifact_path=path.name)
    elif path.is_file():
        client.log_artifact(run_id, str(path))


def _end(client: MlflowClient, run_id: str, event: Event, _: Journal) -> None:
    client.set_terminated(run_id, event["status"], event["time"])


_SENDERS: dict[str, Callable[[MlflowClient, str, Event, Journal], None]] = {
    "metrics": _metrics,
    "tags": _tags,
    "artifact": _artifact,
    "end": _end,
}
