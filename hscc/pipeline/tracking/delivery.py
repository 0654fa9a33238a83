"""Send what a journal holds to MLflow, in order, each event once.

Sending is safe to repeat: a run is searched by its key before another is created, and MLflow keeps equal parameters,
tags and points of a curve only once.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hscc.errors import HSCCError
from hscc.pipeline import layout
from hscc.pipeline.provenance import UNKNOWN
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking import outage
from hscc.pipeline.tracking.journal import (
    KEY_PREFIX,
    Artifact,
    End,
    Event,
    Journal,
    Metrics,
    Start,
    Tags,
    event_kind,
    take_waiting,
    write_json,
)
from hscc.pipeline.tracking.store import EXPERIMENT, StoreDown, experiment_id, open_client, shown_uri, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_TAG = "mlflow.parentRunId"

_KEY_TAG = "hscc.key"
_REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # asking again would change nothing
_LIVE = 5.0  # seconds; an event that is older when it is sent has waited
_LONGEST_DIGEST = 36  # characters MLflow keeps of a data set's digest


def deliver(journal: Journal, client: MlflowClient, workspace: Path) -> None:
    """Send all events that wait.

    Parameters
    ----------
    journal : Journal
        Locked by this process.
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
        tried = journal.was_tried
        journal.mark_tried()
        with store_errors():
            if isinstance(events[0], Start):
                run_id = _start(events[0], journal, client, workspace, tried)
            else:
                assert journal.run_id is not None, "a journal begins with the start of its run"
                run_id = journal.run_id
                _send(events[0], journal, client, run_id)
        journal.mark_arrived(run_id)


def send_backlog(workspace: Path = Path(".")) -> list[str]:
    """Send the journals of all runs that ended or were killed while the store was down, the earliest first.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    list of str
        One line per run: its name and id.

    Raises
    ------
    HSCCError
        If the store still does not answer; what has not arrived keeps waiting.
    """
    journals = take_waiting(workspace)
    if not journals:
        return []
    sent = []
    try:
        client = open_client(workspace)
        for journal in journals:  # a parent began before its children
            name = journal.name
            deliver(journal, client, workspace)
            sent.append(f"{name}: run {journal.run_id}")
    except StoreDown as error:
        raise HSCCError(
            f"the MLflow store {shown_uri(workspace)} does not answer ({error}); {len(journals) - len(sent)} of "
            f"{len(journals)} runs keep waiting; start it and run `hscc track` again."
        ) from error
    finally:
        for journal in journals:
            journal.release()
    outage.clear(workspace)
    return sent


def _send(event: Event, journal: Journal, client: MlflowClient, run_id: str) -> None:
    from mlflow.entities import Metric, RunTag
    from mlflow.exceptions import MlflowException

    try:
        match event:
            case Metrics():
                points = [Metric(name, value, event.time, event.step) for name, value in event.values.items()]
                client.log_batch(run_id, metrics=points)
            case Tags():
                client.log_batch(run_id, tags=[RunTag(name, value) for name, value in event.values.items()])
            case Artifact():
                path = journal.kept(event.file)
                if path.is_dir():
                    client.log_artifacts(run_id, str(path), artifact_path=path.name)
                elif path.is_file():
                    client.log_artifact(run_id, str(path))
            case End():
                client.set_terminated(run_id, event.status, event.time)
    except MlflowException as error:
        if error.error_code not in _REFUSED:
            raise
        reason = redact(str(error).splitlines()[0])
        print(
            f"warning: MLflow refuses the {event_kind(event)} of run {run_id} ({reason}).", file=sys.stderr, flush=True
        )


def _start(event: Start, journal: Journal, client: MlflowClient, workspace: Path, tried: bool) -> str:
    from mlflow.entities import Param

    experiment = experiment_id(client, workspace)
    parent = event.parent
    if parent and parent.startswith(KEY_PREFIX):  # it began while the store was down
        parent = _find(client, experiment, _KEY_TAG, parent) or parent
    run_id = _reopen(journal.run_id or event.continues, parent, client)
    if run_id is None and tried:
        run_id = _find(client, experiment, _KEY_TAG, journal.key)
    if run_id is None:
        tags = {**event.tags, _KEY_TAG: journal.key, **({PARENT_TAG: parent} if parent else {})}
        run = client.create_run(experiment, start_time=event.time, tags=tags, run_name=event.name)
        run_id = str(run.info.run_id)
    client.log_batch(run_id, params=[Param(name, value) for name, value in event.params.items()])
    _log_dataset(client, run_id, event.tags)
    if tried or time.time() - event.time / 1000 > _LIVE:
        # Children that reached MLflow before this run, their parent, name it by its key.
        for child in client.search_runs([experiment], f"tags.`{PARENT_TAG}` = '{journal.key}'"):
            client.set_tag(child.info.run_id, PARENT_TAG, run_id)
    if event.link:
        note = {"experiment": EXPERIMENT, "run_id": run_id, "store": shown_uri(workspace)}
        write_json(workspace / layout.RUNS / f"{event.name}.json", note, indent=2)
    return run_id


def _reopen(run_id: str | None, parent: str | None, client: MlflowClient) -> str | None:
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        client.update_run(run_id, status="RUNNING")
        if parent:  # another pipeline run may resume what an earlier one began
            client.set_tag(run_id, PARENT_TAG, parent)
    except MlflowException as error:
        if error.error_code not in _REFUSED:
            raise
        return None  # the store was emptied since
    return run_id


def _find(client: MlflowClient, experiment: str, tag: str, value: str) -> str | None:
    found = client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _log_dataset(client: MlflowClient, run_id: str, tags: dict[str, str]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    if tags["data_hash"] == UNKNOWN:
        return
    # The images are what data.dvc pins at this commit: that, not a path of one machine, is where they come from.
    source = json.dumps({"tags": {"dvc.file": "data.dvc", "dvc.md5": tags["data_hash"], "commit": tags["git_commit"]}})
    dataset = Dataset("data", tags["data_hash"][:_LONGEST_DIGEST], "code", source)
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, tags["stage"])])])
