"""Another process that holds the write lock of an SQLite file, as a backup or a migration does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy

_HOLD = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1])
store.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(database: Path) -> Iterator[None]:
    """Keep every writer out of a database; readers still get in. MLflow gives up after 50 ms instead of 20 s."""
    real = sqlalchemy.sql.text
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    "sqlalchemy.sql.text", lambda text: real(text.replace("busy_timeout = 20000", "busy_timeout = 50"))
                )
                yield
        finally:
            holder.kill()
