"""What came out of a job, in MLflow."""

from hscc.tracking.backlog import send_backlog
from hscc.tracking.origin import UNKNOWN, data_hash, git_commit
from hscc.tracking.runs import PARENT_RUN, StageRun, stage_run
from hscc.tracking.store import EXPERIMENT, StoreDown, experiment_id, open_client, shown_uri, tracking_uri

__all__ = [
    "EXPERIMENT",
    "PARENT_RUN",
    "UNKNOWN",
    "StageRun",
    "StoreDown",
    "data_hash",
    "experiment_id",
    "git_commit",
    "open_client",
    "send_backlog",
    "shown_uri",
    "stage_run",
    "tracking_uri",
]
