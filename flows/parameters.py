"""The parameters of a run, with what the UI says about them and the choices it offers.

The choices come from the method registry and, when the flow is deployed from their folder, from ``dvc.yaml`` and
``params.yaml``; nothing is listed twice. The server refuses what the schema does not allow, so beside a list of
choices stands a second form that takes what no list can hold, such as one cell. What a run changes in ``params.yaml``
it changes in an experiment of its own (`flows.experiments`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, WithJsonSchema
from pydantic.config import JsonDict

from flows.runners import Runner
from hscc.methods import METHODS
from hscc.pipeline import layout
from hscc.pipeline.params import Protocol

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


def usual_budgets(params: Path = layout.PARAMS) -> list[float]:
    """Read the budgets of the sweep for the UI to offer.

    Parameters
    ----------
    params : Path
        ``params.yaml``, which need not be there.

    Returns
    -------
    list of float
        Times fewer MACs, in the file's order; empty where there is no readable file.
    """
    return [budget for budget in _read(params, "compress", "budgets") if isinstance(budget, int | float)]


def _read(path: Path, *names: str) -> list[Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name in names:
            found = found[name]
        return list(found)
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []  # the run itself says what is wrong with the file


def _shown(title: str, description: str, choices: Sequence[str] = ()) -> JsonDict:
    # Prefect sets a field's own title and description to the bare name; what lies in the extra part stays.
    items: JsonDict = {"items": {"type": "string", "enum": [*choices]}} if choices else {}
    return {"title": title, "description": description, **items}


def _cells_of(stages: Sequence[str]) -> JsonDict:
    return {"pattern": f"^({'|'.join(stages)})(@\\S+)?$"} if stages else {}


def _list_of(kind: str, choices: Sequence[str | float], listed: str, others: str, limits: JsonDict) -> WithJsonSchema:
    """Offer a list to choose from, and beside it one to type into: two forms that the UI shows as two buttons."""
    chosen: JsonDict = {"title": listed, "type": "array", "items": {"type": kind, "enum": [*choices]}}
    typed: JsonDict = {"title": others, "type": "array", "items": {"type": kind, **limits}}
    return WithJsonSchema({"anyOf": [chosen, typed] if choices else [typed]})


_STAGES = stage_names()

Targets = Annotated[
    tuple[str, ...],
    _list_of("string", _STAGES, "Stages", "Stages and cells", _cells_of(_STAGES)),
    Field(
        json_schema_extra=_shown(
            "Targets",
            "Stages, or single cells such as compress@hscc-6-0, to bring up to date with all they need. "
            "Empty: the whole graph.",
        )
    ),
]
Methods = Annotated[
    tuple[str, ...],
    Field(json_schema_extra=_shown("Methods", f"Compression methods of the sweep. {AS_IT_IS}", sorted(METHODS))),
]
Budgets = Annotated[
    tuple[Annotated[float, Field(gt=1)], ...],
    _list_of("number", usual_budgets(), "Those of params.yaml", "Any", {"exclusiveMinimum": 1}),
    Field(json_schema_extra=_shown("Budgets", f"Times fewer MACs than the dense network, above 1. {AS_IT_IS}")),
]
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Field(json_schema_extra=_shown("Seeds", f"Of clustering and fine-tuning. {AS_IT_IS}")),
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
            "Workers", "Most stages side by side. Empty: a core each, as far as memory allows; on a cluster, all."
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
        json_schema_extra=_shown(
            "Wait seconds", "How long to wait for the person who is asked; after that nothing is promoted."
        ),
    ),
]


def overrides(
    methods: Sequence[str], budgets: Sequence[float], protocol: str | None, seeds: Sequence[int] = ()
) -> dict[str, Any]:
    """Say what a run changes in ``params.yaml``.

    Parameters
    ----------
    methods : sequence of str
        Empty for those of the file; so are the others.
    budgets : sequence of float
        Times fewer MACs.
    protocol : str or None
        Split protocol.
    seeds : sequence of int
        Of clustering and fine-tuning.

    Returns
    -------
    dict of str to Any
        Values by dotted name, as ``dvc exp run --set-param`` names them.
    """
    asked: dict[str, Any] = {
        "compress.methods": list(methods),
        "compress.budgets": [int(budget) if budget == int(budget) else budget for budget in budgets],
        "compress.seeds": list(seeds),
        "data.protocol": protocol,
    }
    # Whoever names the methods names them all: no controls and no timed cells beside them.
    alone: dict[str, Any] = {"compress.controls": [], "compress.timed": []} if methods else {}
    if methods or budgets or seeds:
        alone["insight.cells"] = []  # the named ones may not be among these cells; the first with regions is
    return {name: value for name, value in asked.items() if value} | alone
