"""Compressed networks of the sweep, opened in torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.artifacts import read_cell
from hscc.pipeline.cell_spec import CellSpec
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
        One per layer of the plan.
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
    cells = params.insight.cells or (_first_with_regions(params, workspace),)
    return [_open(workspace, cell, params) for cell in cells]


def list_clusters(params: Params, workspace: Path) -> list[dict[str, str | int]]:
    """Count the clusters of every cell of the sweep that has a layer of several, and those that kept a rank.

    Returns
    -------
    list of dict
        ``network``, ``layers`` (of several clusters), ``clusters``, ``kept``.
    """
    rows: list[dict[str, str | int]] = []
    for cell, maps in _of_sweep(params, workspace):
        several = [found.structure for found in maps if found.structure.cluster_count > 1]
        if several:
            counts = {"clusters": sum(s.cluster_count for s in several), "kept": sum(s.kept_clusters for s in several)}
            rows.append({"network": cell.name, "layers": len(several), **counts})
    return rows


def _open(workspace: Path, cell: CellSpec, params: Params) -> OpenedCell:
    folder = workspace / layout.cell(cell.name)
    if not folder.is_dir():
        there = ", ".join(sorted(path.parent.name for path in (workspace / layout.CELLS).glob(f"*/{PLAN}")))
        raise ArtifactError(
            f"insight.cells in params.yaml names {cell.name}, which is not in {folder.parent}; name what is there "
            f"({there or 'nothing'}), or let `dvc repro` make it."
        )
    read_cell(folder, cell, params.data.protocol, params.evaluate.score)
    model = load(folder)
    plan = Plan.from_json((folder / PLAN).read_text(encoding="utf-8"))
    return OpenedCell(cell.name, model, plan, _maps(plan))


def _first_with_regions(params: Params, workspace: Path) -> CellSpec:
    made = list(_of_sweep(params, workspace))
    if not made:
        raise ArtifactError(f"{workspace / layout.CELLS} holds no cell of the sweep; run `dvc repro` to make them.")
    return next((cell for cell, maps in made if has_regions(maps)), made[0][0])


def _of_sweep(params: Params, workspace: Path) -> Iterator[tuple[CellSpec, tuple[RankMap, ...]]]:
    for cell in params.compress.cells:
        path = workspace / layout.cell(cell.name) / PLAN
        if path.is_file():
            yield cell, _maps(Plan.from_json(path.read_text(encoding="utf-8")))


def _maps(plan: Plan) -> tuple[RankMap, ...]:
    return tuple(rank_map(entry) for entry in plan.layers)
