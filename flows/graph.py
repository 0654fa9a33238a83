"""What DVC knows, as plain data: the stages in the order they must run, and which of them are stale.

Only the process that runs a flow talks to DVC, through these functions; tasks run commands and nothing else.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph

from hscc.errors import HSCCError

logging.getLogger("dvc").setLevel(logging.WARNING)  # "Updating lock file" after every stage says nothing


@dataclass(frozen=True)
class Stage:
    """One stage of the graph, a cell of a matrix being a stage of its own.

    Parameters
    ----------
    address : str
        What DVC calls it, such as ``compress@hscc-6-0`` or ``data.dvc``.
    commands : tuple of str
        Shell commands, run one after another; none for pinned data.
    folder : Path
        Where the commands run.
    needs : frozenset of str
        Addresses of the stages whose outputs it reads.
    """

    address: str
    commands: tuple[str, ...]
    folder: Path
    needs: frozenset[str]


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
        return Repo(os.fspath(workspace))
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
        raise HSCCError(f"dvc.yaml does not describe a valid graph: {error}; mend it or params.yaml.") from error
    return [
        Stage(
            address=stage.addressing,
            commands=_commands(stage.cmd),
            folder=Path(stage.wdir),
            needs=frozenset(needed.addressing for needed in graph.successors(stage)),
        )
        for stage in nx.dfs_postorder_nodes(graph)  # the order of `dvc repro`
    ]


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
    return bool(repo.status([stage.address]))


def make_room(repo: Repo, stage: Stage) -> None:
    """Do to a stage's outputs what ``dvc repro`` does before it runs the command.

    Outputs are removed, or freed of links to the cache where they are marked ``persist``.

    Parameters
    ----------
    repo : Repo
        The DVC repository.
    stage : Stage
        The stage about to run.
    """
    with repo.lock:
        for found in repo.stage.collect(stage.address):
            found.remove_outs(ignore_remove=False, force=False)


def hand_over(repo: Repo, stage: Stage) -> None:
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
        If an output was not written.
    """
    try:
        repo.commit(stage.address, force=True)
    except DvcException as error:
        raise HSCCError(f"stage {stage.address} succeeded but DVC cannot take its outputs: {error}.") from error


def _commands(command: str | list[str] | None) -> tuple[str, ...]:
    if command is None:
        return ()
    return tuple(command if isinstance(command, list) else command.splitlines())
