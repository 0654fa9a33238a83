from __future__ import annotations

from rich.console import Console
from rich.table import Table

from hscc.pipeline.registry.audit_log import CHAMPION, PROMOTE, ROLLBACK, Entry
from hscc.pipeline.registry.listing import trail_table, versions_table
from hscc.pipeline.registry.versions import Version

FULL = Version(
    "hscc-tiny",
    "2",
    ("challenger", "champion"),
    {
        "network": "hscc-macs6-seed0", "method": "hscc", "seed": "0", "protocol": "grouped", "phantom": "false",
        "accuracy": "0.9123",
        "accuracy_se": "0.031", "macro_f1": "0.9", "macs_ratio": "6.1", "speedup_b1": "2", "data_hash": "440a20f27877",
    },
    "run",
    1_700_000_000_000,
)  # fmt: skip


def printed(table: Table) -> list[list[str]]:
    """Give title, head and rows as a reader sees them, cell by cell."""
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(table)
    lines = [line.strip(" │┃") for line in capture.get().splitlines()]
    return [[cell.strip() for cell in line.replace("┃", "│").split("│")] for line in lines if line[:1] not in "┏┡└├"]


def test_a_version_is_told_with_its_scores_in_units() -> None:
    title, head, row = printed(versions_table([FULL]))
    assert title == ["Versions of hscc-tiny"]
    assert dict(zip(head, row, strict=True)) == {
        "version": "2", "alias": "challenger, champion", "network": "hscc-macs6-seed0", "protocol": "grouped",
        "accuracy %": "91.2 ± 3.1", "F1 %": "90.0", "MACs": "6.10×", "speed": "2.00×", "data": "440a20f",
        "registered (UTC)": "2023-11-14 22:13",
    }  # fmt: skip


def test_what_is_not_known_is_a_dash_and_a_phantom_is_marked() -> None:
    bare = Version("hscc-tiny", "1", (), {"phantom": "true"}, "run", 0)
    (_, _, row) = printed(versions_table([bare]))
    assert row == ["1", "–", "–", "– (phantom)", "–", "–", "–", "–", "–", "1970-01-01 00:00"]


def test_an_empty_registry_says_so() -> None:
    assert printed(versions_table([]))[0] == ["No version is registered"]


def test_the_trail_begins_with_the_latest_and_tells_what_was_forced_and_what_was_cut_short() -> None:
    trail = [
        Entry(PROMOTE, CHAMPION, None, "1", "ada", "", at=60),
        Entry(PROMOTE, CHAMPION, "1", "2", "bob", "a study", forced=True, at=120),
        Entry(ROLLBACK, CHAMPION, "2", "1", "ada", "worse", at=180, done=False),
    ]
    title, _, *rows = printed(trail_table(CHAMPION, trail))
    assert title == ["Moves of the champion"]
    assert rows == [
        ["1970-01-01 00:03", "rollback, cut short", "2", "1", "ada", "worse"],
        ["1970-01-01 00:02", "promote, forced", "1", "2", "bob", "a study"],
        ["1970-01-01 00:01", "promote", "–", "1", "ada", "–"],
    ]
