"""What came out of a job, in MLflow."""

from hscc.tracking.backlog import send_backlog
from hscc.tracking.origin import UNKNOWN, data_hash, git_commit
from hscc.tracking.runs import PARENT_RUN, StageRun, stage_run
from hscc.tracking.store import EXPERIMENT, StoreDown, experiment_id, tracking_uri

__all__ = [
    "EXPERIMENT",
    "PARENT_RUN",
    "UNKNOWN",
    "StageRun",
    "StoreDown",
    "data_hash",
    "experiment_id",
    "git_commit",
    "send_backlog",
    "stage_run",
    "tracking_uri",
]
