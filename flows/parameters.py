"""The parameters of a run, with what the UI says about them and the choices it offers.

The choices come from the method registry and, when the flow is deployed from their folder, from ``dvc.yaml`` and
``params.yaml``; nothing is listed twice. The server refuses what the schema does not allow, so beside a list of
choices stands a second form that takes what no list can hold, such as another budget. What a run changes in
``params.yaml`` it changes in an experiment of its own (`flows.experiments`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, WithJsonSchema
from pydantic.config import JsonDict

from flows.runners import Runner
from flows.sweeps import overrides_of, sweep_names
from hscc.pipeline import layout
from hscc.pipeline.cell_spec import cell_pattern
from hscc.pipeline.data_spec import Protocol
from hscc.pipeline.known_names import known_names

GRAPH = Path("dvc.yaml")
AS_IT_IS = "Empty: as in params.yaml."


def stage_names(graph: Path = GRAPH) -> list[str]:
    """Read the names of the stages for the UI to offer.

    Parameters
    ----------
    graph : Path
        ``dvc.yaml``, which need not be there.

    Returns
    -------
    list of str
        In the file's order; empty where there is no readable file.
    """
    return [str(name) for name in _read(graph, "stages")]


def cell_names(params: Path = layout.PARAMS) -> list[str]:
    """Read the names of the sweep's cells for the UI to offer.

    Parameters
    ----------
    params : Path
        ``params.yaml``, which need not be there.

    Returns
    -------
    list of str
        In the file's order; empty where there is no readable file.
    """
    return [str(cell) for cell in _read(params, "compress", "cells")]


def _read(path: Path, *names: str) -> list[Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name in names:
            found = found[name]
        return list(found)
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []  # the run itself says what is wrong with the file


def _shown(title: str, description: str) -> JsonDict:
    # Prefect sets a field's own title and description to the bare name; what lies in the extra part stays.
    return {"title": title, "description": description}


def _list_of(choices: Sequence[str], listed: str, typed: str, pattern: str) -> WithJsonSchema:
    """Offer a list to choose from, and beside it one to type into: two forms that the UI shows as two buttons."""
    typed_form: JsonDict = {"title": typed, "type": "array", "items": {"type": "string", "pattern": pattern}}
    listed_form: JsonDict = {"title": listed, "type": "array", "items": {"type": "string", "enum": [*choices]}}
    return WithJsonSchema({"anyOf": [listed_form, typed_form] if choices else [typed_form]})


for _plugin in _read(layout.PARAMS, "plugins"):
    with suppress(ImportError):  # the run itself says that it cannot be imported
        import_module(str(_plugin))
_STAGES = stage_names()
_TARGET = f"^({'|'.join(_STAGES) or '.+'})(@\\S+)?$"

Targets = Annotated[
    tuple[str, ...],
    _list_of(_STAGES, "Stages", "Stages and cells", _TARGET),
    Field(
        json_schema_extra=_shown(
            "Targets",
            "Stages, or single cells such as compress@hscc-macs6-seed0, to bring up to date with all they need. "
            "Empty: the whole graph.",
        )
    ),
]
Cells = Annotated[
    tuple[str, ...],
    _list_of(cell_names(), "Those of params.yaml", "Any", cell_pattern(known_names("method"))),
    Field(
        json_schema_extra=_shown(
            "Cells",
            f"Networks to make: method, times less of each resource, and seed, such as hscc-macs9-seed0. {AS_IT_IS}",
        )
    ),
]
NamedSweep = Annotated[
    str | None,
    # An empty enum would refuse every name: a folder without sweeps.yaml offers none, and takes what is typed.
    WithJsonSchema(
        {"anyOf": [{"type": "string"} | ({"enum": names} if (names := sweep_names()) else {}), {"type": "null"}]}
    ),
    Field(
        json_schema_extra=_shown(
            "Sweep", "One of sweeps.yaml: its cells and other parameters instead of those of params.yaml. Empty: none."
        )
    ),
]
SplitProtocol = Annotated[
    Protocol | None,
    Field(json_schema_extra=_shown("Protocol", f"Split that calibrate, compress and register use. {AS_IT_IS}")),
]
Force = Annotated[
    bool, Field(json_schema_extra=_shown("Force", "Run every stage chosen, stale or not, instead of only the stale."))
]
Workers = Annotated[
    Annotated[int, Field(ge=1)] | None,
    Field(
        json_schema_extra=_shown(
            "Workers", "Most stages side by side. Empty: one per core, as far as memory allows; on a cluster, all."
        )
    ),
]
Where = Annotated[
    Runner, Field(json_schema_extra=_shown("Runner", "This machine, or a cluster that sees the same checkout."))
]
Address = Annotated[
    str | None, Field(json_schema_extra=_shown("Address", "Of the Dask scheduler or the Ray head, for those runners."))
]
Version = Annotated[
    str, Field(json_schema_extra=_shown("Version", "Number of a version in the registry, or an alias of one."))
]
Patience = Annotated[
    int,
    Field(
        ge=1,
        json_schema_extra=_shown("Wait seconds", "How long to wait for the approval; after that nothing is promoted."),
    ),
]


def overrides(cells: Sequence[str], protocol: str | None, sweep: str | None = None) -> dict[str, Any]:
    """Say what a run changes in ``params.yaml``.

    Parameters
    ----------
    cells : sequence of str
        Names of all cells of the sweep; empty for those of the file.
    protocol : str or None
        Split protocol; None for that of the file.
    sweep : str or None
        Name of a sweep in ``sweeps.yaml``; cells and protocol go before what it says.

    Returns
    -------
    dict of str to Any
        Values by dotted name, as ``dvc exp run --set-param`` names them.
    """
    changed: dict[str, Any] = overrides_of(sweep) if sweep else {}
    if cells:
        # The cells that insight names may not be among these; without a name it takes the first with regions.
        changed |= {"compress.cells": list(cells), "insight.cells": []}
    if protocol:
        changed["data.protocol"] = protocol
        trained = _read(layout.PARAMS, "train", "protocols")
        if trained and protocol not in trained:
            changed["train.protocols"] = [protocol]
    return changed
