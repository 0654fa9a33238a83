"""Where the figures come from: data, code, machine, versions, seeds, runs, and the content of every output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hscc.pipeline.report.html.sections.section import Section


@dataclass(frozen=True)
class Lock:
    """What the graph's runner recorded of one output: the stage that made it, its path and the hash of its content."""

    stage: str
    path: str
    digest: str


@dataclass(frozen=True)
class Origin:
    """What the document does not say itself.

    Attributes
    ----------
    locks : tuple of Lock
        Outputs of the stages before this one.
    runs : mapping of str to str
        Ids of tracked runs by name.
    """

    locks: tuple[Lock, ...] = ()
    runs: Mapping[str, str] = field(default_factory=dict)


def provenance_section(document: Mapping[str, Any], origin: Origin) -> Section:
    """Lay out what it takes to make the figures again.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.
    origin : Origin
        Hashes of outputs, ids of runs.

    Returns
    -------
    Section
        Always there.
    """
    own = [row for row in document["rows"] if row["protocol"] == document["protocol"]]
    runs = {**origin.runs, **(document.get("run_ids") or {})}
    stages: dict[str, list[Lock]] = {}
    for lock in origin.locks:
        stages.setdefault(lock.stage, []).append(lock)
    models = {
        f"{row['method']}-{row['budget']:g}-{row['seed']} {row['precision']}": row["model_sha256"]
        for row in document["rows"]
        if row["protocol"] == document["protocol"] and row.get("model_sha256")
    }
    content = {
        "seeds": sorted({row["seed"] for row in own}),
        "runs": runs,
        "stages": stages,
        "models": models,
    }
    return Section("provenance", "Where these figures come from", content)
