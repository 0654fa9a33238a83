"""Where the figures come from: data, code, machine, versions, seeds, runs, and the content of every output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hscc.pipeline.report.html.section import Section
from hscc.pipeline.statistics.schema import Results


@dataclass(frozen=True)
class Lock:
    """What DVC recorded of one output: the stage that made it, its path and the hash of its content."""

    stage: str
    path: str
    digest: str


@dataclass(frozen=True)
class Origin:
    """What the results do not say themselves.

    Attributes
    ----------
    locks : tuple of Lock
        Outputs of the stages before this one.
    runs : mapping of str to str
        Ids of tracked runs by name.
    """

    locks: tuple[Lock, ...] = ()
    runs: Mapping[str, str] = field(default_factory=dict)


def provenance_section(results: Results, origin: Origin) -> Section:
    """Lay out what it takes to make the figures again."""
    stages: dict[str, list[Lock]] = {}
    for lock in origin.locks:
        stages.setdefault(lock.stage, []).append(lock)
    own = [row for row in results.rows if row.protocol == results.protocol]
    content = {
        "seeds": sorted({row.seed for row in own}),
        "runs": {**origin.runs, **results.run_ids},
        "stages": stages,
        "models": {row.name: row.model_sha256 for row in own},
    }
    return Section("provenance", "Where these figures come from", content)
