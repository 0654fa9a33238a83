"""The registry as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.table import Table

from hscc.pipeline.registry.audit_log import Entry
from hscc.pipeline.registry.registration import PHANTOM_TAG
from hscc.pipeline.registry.versions import Version

_UNKNOWN = "–"


def versions_table(versions: Sequence[Version]) -> Table:
    """Show versions with their scores, a row each."""
    table = Table(
        title=f"Versions of {versions[0].name}" if versions else "No version is registered", title_justify="left"
    )
    table.add_column("version", justify="right")
    for name in ("alias", "network", "protocol"):
        table.add_column(name)
    for name in ("accuracy %", "F1 %", "MACs", "speed"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("data", "registered (UTC)"):
        table.add_column(name, no_wrap=True)
    for version in versions:
        table.add_row(*_cells(version))
    return table


def trail_table(alias: str, trail: Sequence[Entry]) -> Table:
    """Show the moves of an alias, the latest first."""
    table = Table(title=f"Moves of the {alias}", title_justify="left")
    for name in ("when", "what", "from", "to", "by", "why"):
        table.add_column(name)
    for entry in reversed(trail):
        what = f"{entry.action}{', forced' if entry.forced else ''}{'' if entry.done else ', cut short'}"
        table.add_row(_when(entry.at), what, entry.before or _UNKNOWN, entry.after, entry.by, entry.reason or _UNKNOWN)
    return table


def _cells(version: Version) -> list[str]:
    tags = version.tags
    phantom = " (phantom)" if tags.get(PHANTOM_TAG) == "true" else ""
    return [
        version.number,
        ", ".join(version.aliases) or _UNKNOWN,
        tags.get("network", tags.get("method", _UNKNOWN)),
        f"{tags.get('protocol', _UNKNOWN)}{phantom}",
        _percent(tags, "accuracy"),
        f"{100 * float(tags['macro_f1']):.1f}" if "macro_f1" in tags else _UNKNOWN,
        _times(tags, "macs_ratio"),
        _times(tags, "speedup_b1"),
        tags.get("data_hash", _UNKNOWN)[:7],
        _when(version.created / 1000),
    ]


def _percent(tags: Mapping[str, str], name: str) -> str:
    if name not in tags:
        return _UNKNOWN
    error = f" ± {100 * float(tags[f'{name}_se']):.1f}" if f"{name}_se" in tags else ""
    return f"{100 * float(tags[name]):.1f}{error}"


def _times(tags: Mapping[str, str], name: str) -> str:
    return f"{float(tags[name]):.2f}×" if name in tags else _UNKNOWN


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M")
