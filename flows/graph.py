"""What DVC knows, as plain data: the stages in the order they must run, and which of them are stale.

Only the process that runs a flow talks to DVC, through these functions; tasks run commands and nothing else.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph
from dvc.rwlock import rwlock

from flows.full_disk import WholeFiles, one_sentence
from hscc.errors import HSCCError

logging.getLogger("dvc").setLevel(logging.WARNING)  # "Updating lock file" after every stage says nothing


MEMORY = 2.0  # GiB a stage takes that says nothing


@dataclass(frozen=True)
class Stage:
    """One stage of the graph, a cell of a matrix being a stage of its own.

    Parameters
    ----------
    address : str
        What DVC calls it, such as ``compress@hscc-macs6-seed0`` or ``data.dvc``.
    commands : tuple of str
        Shell commands, run one after another; none for pinned data.
    folder : Path
        Where the commands run.
    needs : frozenset of str
        Addresses of the stages whose outputs it reads.
    outputs : frozenset of Path
        What it writes, absolute.
    alone : bool
        Nothing may run beside it, as where it measures time: ``meta: {alone: true}`` in ``dvc.yaml``.
    memory : float
        GiB it takes: ``meta: {memory_gib: 3}`` in ``dvc.yaml``.
    """

    address: str
    commands: tuple[str, ...]
    folder: Path
    needs: frozenset[str]
    outputs: frozenset[Path] = frozenset()
    alone: bool = False
    memory: float = MEMORY

    @property
    def phase(self) -> str:
        """Its name in ``dvc.yaml``, which all cells of a matrix share."""
        return self.address.rpartition(":")[2].partition("@")[0]


def open_repo(workspace: Path) -> Repo:
    """Open the DVC repository of a workspace.

    DVC names stages relative to the current folder, so the caller stands in the workspace.

    Parameters
    ----------
    workspace : Path
        Folder that holds ``.dvc`` and ``dvc.yaml``.

    Returns
    -------
    Repo
        The open repository.

    Raises
    ------
    HSCCError
        If the folder is not a DVC repository.
    """
    try:
        return Repo(os.fspath(workspace), fs=WholeFiles())
    except NotDvcRepoError as error:
        raise HSCCError(
            f"{workspace} is not a DVC repository; name the folder that holds .dvc and dvc.yaml."
        ) from error


def read_graph(repo: Repo) -> list[Stage]:
    """Read the stages of every ``dvc.yaml`` and ``.dvc`` file.

    Parameters
    ----------
    repo : Repo
        The DVC repository.

    Returns
    -------
    list of Stage
        In topological order: each stage after all that it needs.

    Raises
    ------
    HSCCError
        If ``dvc.yaml``, ``params.yaml`` or the graph itself is not valid.
    """
    try:
        graph = get_active_graph(repo.index.graph)
    except DvcException as error:
        raise HSCCError(f"dvc.yaml does not describe a valid graph: {error}; fix it or params.yaml.") from error
    return [
        Stage(
            address=stage.addressing,
            commands=_commands(stage.cmd),
            folder=Path(stage.wdir),
            needs=frozenset(needed.addressing for needed in graph.successors(stage)),
            outputs=frozenset(Path(out.fs_path) for out in stage.outs),
            **_meta(stage.meta or {}),
        )
        for stage in nx.dfs_postorder_nodes(graph)  # the order of `dvc repro`
    ]


def select(stages: Sequence[Stage], targets: Collection[str]) -> list[Stage]:
    """Pick stages and all that they need.

    Parameters
    ----------
    stages : sequence of Stage
        The graph in topological order.
    targets : collection of str
        Names of ``dvc.yaml`` (all cells of a matrix) or addresses (one cell); none means everything.

    Returns
    -------
    list of Stage
        In the order given.

    Raises
    ------
    HSCCError
        If a target is none of the stages.
    """
    named = {target: [stage for stage in stages if target in (stage.address, stage.phase)] for target in targets}
    for target, found in named.items():
        if not found:
            names = ", ".join(sorted({stage.phase for stage in stages if stage.commands}))
            raise HSCCError(f"target {target!r} is no stage of dvc.yaml; choose among {names}, or a cell of them.")
    wanted = {stage.address for found in named.values() for stage in found}
    for stage in reversed(stages):
        if stage.address in wanted:
            wanted |= stage.needs
    return [stage for stage in stages if not targets or stage.address in wanted]


def is_stale(repo: Repo, stage: Stage) -> bool:
    """Tell whether ``dvc repro`` would run a stage now.

    Parameters
    ----------
    repo : Repo
        The DVC repository.
    stage : Stage
        A stage all of whose needs are up to date.

    Returns
    -------
    bool
        True if its command, parameters, dependencies or outputs differ from ``dvc.lock``.
    """
    with _translated_errors(stage):
        return bool(repo.status([stage.address]))


def differs(repo: Repo, stage: Stage) -> bool:
    """Tell whether the files of pinned data are other than ``.dvc`` says, whatever the cache holds.

    Parameters
    ----------
    repo : Repo
        The DVC repository.
    stage : Stage
        A ``.dvc`` file.

    Returns
    -------
    bool
        True if a file was changed, added or removed.
    """
    with _translated_errors(stage), repo.lock:
        return any(out.workspace_status() for found in repo.stage.collect(stage.address) for out in found.outs)


def is_missing(stage: Stage) -> bool:
    """Tell whether an output of a stage is not there at all."""
    return not all(output.exists() for output in stage.outputs)


@contextmanager
def claim(repo: Repo, stage: Stage) -> Iterator[None]:
    """Keep other DVC processes off a stage's files while its commands run, as ``dvc repro`` does.

    Outputs are removed first, or freed of links to the cache where they are marked ``persist``.

    Parameters
    ----------
    repo : Repo
        The DVC repository.
    stage : Stage
        The stage about to run.

    Raises
    ------
    HSCCError
        If another process reads or writes them, or the disk is full.
    """
    with _translated_errors(stage):
        (found,) = repo.stage.collect(stage.address)
        lock = rwlock(
            repo.tmp_dir,
            repo.fs,
            " ".join(sys.argv),  # under this name DVC's own calls of this process pass
            [dependency.fs_path for dependency in found.deps],
            [out.fs_path for out in found.outs],
            repo.config["core"].get("hardlink_lock", False),
        )
        lock.__enter__()
    try:
        with _translated_errors(stage), repo.lock:
            found.remove_outs(ignore_remove=False, force=False)
        yield
    finally:
        with _translated_errors(stage):
            lock.__exit__(None, None, None)


def commit_outputs(repo: Repo, stage: Stage) -> None:
    """Give a stage's outputs to DVC and record them in ``dvc.lock``.

    Parameters
    ----------
    repo : Repo
        The DVC repository.
    stage : Stage
        A stage whose commands have just succeeded.

    Raises
    ------
    HSCCError
        If an output was not written, or the disk is full.
    """
    try:
        with _translated_errors(stage), repo.fs.raising_failed_copies():
            repo.commit(stage.address, force=True)
    except (DvcException, OSError) as error:
        raise HSCCError(f"stage {stage.address} succeeded but DVC cannot take its outputs: {error}.") from error


@contextmanager
def _translated_errors(stage: Stage) -> Iterator[None]:
    try:
        with one_sentence(stage.folder, f"stage {stage.address}: "):
            yield
    except LockError as error:
        blocker = str(error).splitlines()[0].rstrip(":")
        raise HSCCError(
            f"another DVC process works in this folder and keeps stage {stage.address} waiting ({blocker}); "
            "let it end and run again."
        ) from error


def _meta(meta: dict[str, Any]) -> dict[str, Any]:
    return {"alone": bool(meta.get("alone", False)), "memory": float(meta.get("memory_gib", MEMORY))}


def _commands(command: str | list[str] | None) -> tuple[str, ...]:
    if command is None:
        return ()
    return tuple(command if isinstance(command, list) else command.splitlines())
