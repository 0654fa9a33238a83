"""Runs with other parameters: each a DVC experiment, made in a clone of its own.

Overriding ``params.yaml`` in place would leave an edit behind when a run is killed, and ``dvc.lock`` would speak of
parameters that nobody committed. So the run happens as under ``dvc exp run --temp``: a clone of the workspace as it
is (uncommitted changes of tracked files included) under ``.hscc/experiments``, with the DVC cache in common, gets the
overrides. What comes out is saved with ``dvc exp save``: parameters, ``dvc.lock`` and reports under one name in git,
outputs in the cache. The name follows from the start and the overrides, so the same request resumes a killed run. The
workspace keeps its files, its ``dvc.lock`` and its clean status throughout.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import CheckoutError, DvcException
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

from hscc.errors import HSCCError, ParamsError
from hscc.pipeline import layout
from hscc.pipeline.tracking import StoreDown, open_client, tracking_uri

FOLDER = layout.SCRATCH / "experiments"
_DIGITS = 8  # of the hash in a name


@dataclass(frozen=True)
class Experiment:
    """A clone that a run with other parameters works in.

    Parameters
    ----------
    name : str
        What DVC calls it.
    origin : Path
        The workspace it was cloned from.
    clone : Path
        Root of the clone's git repository.
    workspace : Path
        Folder of ``dvc.yaml`` in the clone.
    """

    name: str
    origin: Path
    clone: Path
    workspace: Path

    @property
    def variables(self) -> dict[str, str]:
        """Environment of its commands: its name as DVC gives it, the origin's images and tracking store."""
        return {
            "DVC_EXP_NAME": self.name,
            "HSCC_DATA_SOURCE": str(self.origin / layout.DATA),
            "MLFLOW_TRACKING_URI": tracking_uri(self.origin),
        }


def prepare(workspace: Path, overrides: Mapping[str, Any]) -> Experiment:
    """Clone a workspace and override its parameters, or take up the clone that an earlier run left.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``, in a git repository with at least one commit.
    overrides : mapping of str to Any
        Values by dotted name in ``params.yaml``.

    Returns
    -------
    Experiment
        Ready to run.

    Raises
    ------
    HSCCError
        If the workspace is in no git repository, or a parameter has no such name.
    """
    origin = workspace.resolve()
    root = Path(_git(origin, "rev-parse", "--show-toplevel"))
    snapshot = _snapshot(origin)
    name = name_of(origin, overrides)
    clone = origin / FOLDER / name
    made = Experiment(name, origin, clone, clone / origin.relative_to(root))
    _make_tracking_experiment(origin)
    if not (made.workspace / ".dvc").is_dir() or not _is_whole(made):
        shutil.rmtree(clone, ignore_errors=True)
        _clone(made, root, snapshot, overrides)
    return made


def name_of(workspace: Path, overrides: Mapping[str, Any]) -> str:
    """Name the experiment that these overrides make of a workspace as it is; parameters as those of `prepare`."""
    origin = workspace.resolve()
    head = _git(origin, "rev-parse", "HEAD")
    tree = _git(origin, "rev-parse", f"{_snapshot(origin)}^{{tree}}")
    changes = json.dumps(dict(overrides), sort_keys=True)
    return f"sweep-{hashlib.sha256(f'{head}{tree}{changes}'.encode()).hexdigest()[:_DIGITS]}"


def kept_reports(workspace: Path, name: str) -> Path:
    """Folder in which a saved experiment's reports stay."""
    return workspace.resolve() / FOLDER / f"{name}.reports"


def save(experiment: Experiment) -> None:
    """Save a finished experiment in the origin's repository; of the clone only the reports stay.

    Parameters
    ----------
    experiment : Experiment
        One whose stages are all up to date.

    Raises
    ------
    HSCCError
        If DVC or git refuses.
    """
    try:
        # DVC saves the folder it stands in.
        with contextlib.chdir(experiment.workspace), Repo() as repo:
            repo.experiments.save(name=experiment.name, force=True)
    except DvcException as error:
        raise HSCCError(f"experiment {experiment.name} ran but DVC cannot save it: {error}.") from error
    head = _git(experiment.clone, "rev-parse", "HEAD")
    reference = f"refs/exps/{head[:2]}/{head[2:]}/{experiment.name}"
    _git(experiment.origin, "fetch", "--quiet", str(experiment.clone), f"+{reference}:{reference}")
    kept = kept_reports(experiment.origin, experiment.name)
    shutil.rmtree(kept, ignore_errors=True)
    reports = experiment.workspace / layout.REPORT.parent
    if reports.is_dir():
        reports.rename(kept)
    shutil.rmtree(experiment.clone)


def _clone(experiment: Experiment, root: Path, snapshot: str, overrides: Mapping[str, Any]) -> None:
    experiment.clone.parent.mkdir(parents=True, exist_ok=True)
    _git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(experiment.clone))
    _git(experiment.clone, "read-tree", "-u", "--reset", snapshot)
    params = experiment.workspace / layout.PARAMS
    try:
        apply_overrides(params, [f"{name}={json.dumps(value)}" for name, value in overrides.items()])
    except DvcException as error:
        raise ParamsError(f"{layout.PARAMS} has no place for {', '.join(overrides)}: {error}.") from error
    with Repo(str(experiment.origin)) as repo:
        cache = repo.cache.local_cache_dir
    with Repo(str(experiment.workspace)) as repo, repo.config.edit("local") as settings:
        settings["cache"]["dir"] = cache
    # What is not in the cache, or damaged there, is fetched or made again.
    with Repo(str(experiment.workspace)) as repo, contextlib.suppress(CheckoutError):
        repo.checkout(force=True, allow_missing=True)
    _mark(experiment).write_text(snapshot, encoding="utf-8")


def _make_tracking_experiment(origin: Path) -> None:
    """Have MLflow keep files beside the workspace: made by a command in the clone they would go when it goes."""
    with contextlib.suppress(StoreDown):  # a server, which decides for itself where files go
        open_client(origin)


def _snapshot(origin: Path) -> str:
    """Make a commit of the files as they are; touches nothing."""
    _git(origin, "status", "--porcelain")  # else `stash create` fails where a file is as committed, but younger
    return _git(origin, "stash", "create") or _git(origin, "rev-parse", "HEAD")


def _is_whole(experiment: Experiment) -> bool:
    return _mark(experiment).is_file()


def _mark(experiment: Experiment) -> Path:
    return experiment.clone / ".git" / "hscc-whole"  # where git's own status does not see it


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise HSCCError("other parameters need git, which is not installed; install it.") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or "git failed").splitlines()[-1]
        raise HSCCError(
            f"a run with other parameters is kept as a DVC experiment, which {folder} does not allow ({said}); "
            "run it in a git repository with a commit, or edit params.yaml."
        )
    return done.stdout.strip()
