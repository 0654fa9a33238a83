"""Records what each job did as a run in MLflow."""

from __future__ import annotations

from hscc.pipeline.provenance import data_hash, git_commit
from hscc.pipeline.tracking.delivery import send_backlog
from hscc.pipeline.tracking.runs import PARENT_RUN, StageRun, stage_run
from hscc.pipeline.tracking.store import (
    EXPERIMENT,
    StoreDown,
    open_client,
    run_page,
    server_address,
    shown_uri,
    tracking_uri,
)

__all__ = [
    "EXPERIMENT",
    "PARENT_RUN",
    "StageRun",
    "StoreDown",
    "data_hash",
    "git_commit",
    "open_client",
    "run_page",
    "send_backlog",
    "server_address",
    "shown_uri",
    "stage_run",
    "tracking_uri",
]
