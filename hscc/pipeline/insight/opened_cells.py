"""Compressed networks opened in torch, by the names of their folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.artifacts import network_name, read_cell
from hscc.pipeline.cells import parse_cell
from hscc.pipeline.insight.rank_maps import RankMap, rank_map
from hscc.pipeline.params import Params
from hscc.plans import Plan
from hscc.storage import PLAN, load


@dataclass(frozen=True)
class OpenedCell:
    """A compressed network and what became of its layers.

    Attributes
    ----------
    name : str
        Of its folder, and of the network in every table.
    model : nn.Module
        In evaluation mode, on the CPU.
    plan : Plan
        What it was made from.
    maps : tuple of RankMap
        One a layer of the plan.
    """

    name: str
    model: nn.Module
    plan: Plan
    maps: tuple[RankMap, ...]

    @property
    def has_regions(self) -> bool:
        """Whether a layer has factors of its own for several regions."""
        return has_regions(self.maps)


def has_regions(maps: Sequence[RankMap]) -> bool:
    """Whether any of the maps has something to draw."""
    return any(not found.is_flat for found in maps)


def open_cells(params: Params, workspace: Path) -> list[OpenedCell]:
    """Open the cells that ``insight.cells`` names; where it names none, the first of the sweep that has regions.

    Raises
    ------
    ArtifactError
        If a cell is not there, is of another protocol, or does not fit its plan.
    """
    names = params.insight.cells or (_first_with_regions(params, workspace),)
    return [_open(workspace, name, params.data.protocol) for name in names]


def list_clusters(params: Params, workspace: Path) -> list[dict[str, str | int]]:
    """Count the clusters of every cell of the sweep that has a layer of several, and those that kept a rank.

    Returns
    -------
    list of dict
        ``network``, ``layers`` (of several clusters), ``clusters``, ``kept``.
    """
    rows: list[dict[str, str | int]] = []
    for name, maps in _of_sweep(params, workspace):
        several = [found for found in maps if found.clusters > 1]
        if several:
            counts = {"clusters": sum(f.clusters for f in several), "kept": sum(f.kept for f in several)}
            rows.append({"network": name, "layers": len(several), **counts})
    return rows


def _open(workspace: Path, name: str, protocol: str) -> OpenedCell:
    folder = workspace / layout.CELLS / name
    if not folder.is_dir():
        there = ", ".join(sorted(path.parent.name for path in (workspace / layout.CELLS).glob(f"*/{PLAN}")))
        raise ArtifactError(
            f"insight.cells in params.yaml names {name}, which is not in {folder.parent}; name what is there "
            f"({there or 'nothing'}), or let `dvc repro` make it."
        )
    stem, _, seed = name.rpartition("-")
    read_cell(folder, *parse_cell(stem), int(seed), protocol)
    model = load(folder)
    plan = Plan.from_json((folder / PLAN).read_text(encoding="utf-8"))
    return OpenedCell(name, model, plan, _maps(plan))


def _first_with_regions(params: Params, workspace: Path) -> str:
    made = list(_of_sweep(params, workspace))
    if not made:
        raise ArtifactError(f"{workspace / layout.CELLS} holds no cell of the sweep; run `dvc repro` to make them.")
    return next((name for name, maps in made if has_regions(maps)), made[0][0])


def _of_sweep(params: Params, workspace: Path) -> Iterator[tuple[str, tuple[RankMap, ...]]]:
    for cell in params.compress.cells:
        name = network_name(*cell, params.data.protocol)
        path = workspace / layout.CELLS / name / PLAN
        if path.is_file():
            yield name, _maps(Plan.from_json(path.read_text(encoding="utf-8")))


def _maps(plan: Plan) -> tuple[RankMap, ...]:
    return tuple(rank_map(entry) for entry in plan.layers)
