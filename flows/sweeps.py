"""``make evidence``: a named sweep of ``sweeps.yaml`` over the stages of the graph, kept as a DVC experiment.

``python -m flows.sweeps NAME``. What came out is copied to ``reports/NAME/``, where the documents are printed from.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from hscc.errors import HSCCError, ParamsError
from hscc.pipeline import layout
from hscc.pipeline.redaction import redact

SWEEPS = Path("sweeps.yaml")
_KEPT = {".json", ".csv", ".parquet", ".svg"}  # the page holds images, which git never does


@dataclass(frozen=True)
class CellGrid:
    """All combinations of some methods, budgets and seeds.

    Attributes
    ----------
    methods : tuple of str
        Names in `hscc.METHODS`.
    budgets : tuple of str
        As in a cell's name, such as ``macs10-latency7.5``.
    seeds : tuple of int
        Of clustering and fine-tuning.
    """

    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)

    def names(self) -> list[str]:
        """Names of the cells, budget by budget."""
        combinations = product(self.budgets, self.methods, self.seeds)
        return [f"{method}-{budget}-seed{seed}" for budget, method, seed in combinations]


@dataclass(frozen=True)
class Sweep:
    """Cells and other parameters of one sweep.

    Attributes
    ----------
    cells : tuple of CellGrid
        In the order of the tables.
    parameters : dict of str to Any
        Other values by dotted name in ``params.yaml``.
    """

    cells: tuple[CellGrid, ...]
    parameters: dict[str, Any] = field(default_factory=dict)

    def overrides(self) -> dict[str, Any]:
        """What the sweep changes in ``params.yaml``, by dotted name."""
        names = [name for grid in self.cells for name in grid.names()]
        return {"compress.cells": list(dict.fromkeys(names)), "insight.cells": [], **self.parameters}


def sweep_names(path: Path = SWEEPS) -> list[str]:
    """Names of all sweeps; empty where the file cannot be read."""
    try:
        return list(read_sweeps(path))
    except HSCCError:
        return []


def read_sweeps(path: Path = SWEEPS) -> dict[str, Sweep]:
    """Read the sweeps by name.

    Parameters
    ----------
    path : Path
        ``sweeps.yaml``.

    Raises
    ------
    ParamsError
        If the file is missing or a sweep is none.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {
            str(name): Sweep(tuple(_grid(row) for row in sweep["cells"]), dict(sweep.get("parameters") or {}))
            for name, sweep in found.items()
        }
    except OSError as error:
        raise ParamsError(f"{path} cannot be read ({error.strerror}); run in the folder of the repository.") from error
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise ParamsError(f"{path}: a sweep has cells, each with methods, budgets and seeds ({error!r}).") from error


def overrides_of(name: str, path: Path = SWEEPS) -> dict[str, Any]:
    """What a sweep changes in ``params.yaml``, by dotted name.

    Raises
    ------
    ParamsError
        If there is none of that name.
    """
    sweeps = read_sweeps(path)
    if name not in sweeps:
        raise ParamsError(f"{path} has no sweep {name!r}; it has {', '.join(sweeps)}.")
    return sweeps[name].overrides()


def run(workspace: Path, name: str) -> Path:
    """Run a sweep and keep its reports; what has been run is not run again.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``; the current folder.
    name : str
        Of the sweep.

    Returns
    -------
    Path
        Folder with the reports, relative to `workspace`.

    Raises
    ------
    HSCCError
        If the run fails, or the experiment cannot be made.
    """
    from flows.pipeline import reports_of  # here: its parameters offer the names of the sweeps

    found = reports_of(workspace, sweep=name)
    kept = layout.sweep_reports(name)
    shutil.rmtree(workspace / kept, ignore_errors=True)
    for file in sorted(found.rglob("*")):
        own = file.relative_to(found)
        if file.is_file() and file.suffix in _KEPT and not (found / own.parts[0] / layout.RESULTS_JSON.name).is_file():
            (workspace / kept / own).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, workspace / kept / own)
    return kept


def _grid(row: dict[str, Any]) -> CellGrid:
    return CellGrid(tuple(row["methods"]), tuple(row["budgets"]), tuple(row.get("seeds", (0,))))


def main(
    name: Annotated[str, typer.Argument(help="Of the sweep in sweeps.yaml.")],
    workspace: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder that holds .dvc and dvc.yaml.")
    ] = Path("."),
) -> None:
    """Run a named sweep as a DVC experiment and copy what came out to reports/NAME/."""
    try:
        with contextlib.chdir(workspace):
            typer.echo(run(Path.cwd(), name))
    except HSCCError as error:
        typer.echo(f"error: {redact(str(error))}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
