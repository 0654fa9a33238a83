"""Concurrent changes of an alias: processes on one SQLite file, and clients of a store that has no lock."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hscc.pipeline.registry import aliases
from hscc.pipeline.registry.aliases import change_alias, current_user
from hscc.pipeline.registry.audit_log import CHAMPION, PREFIX, PROMOTE, Entry, alias_of, read_audit_log, to_tag
from hscc.pipeline.registry.connection import RegistryError
from hscc.pipeline.tracking import tracking_uri
from tests.pipeline.locked import held_by_another_process

NAME = "hscc-tiny"
# Prints `ready`, waits for a line, changes the alias, and prints the result.
CHANGER = """
import sys
from hscc.pipeline.registry.connection import RegistryError, connect
from hscc.pipeline.registry.aliases import change_alias
from hscc.pipeline.registry.audit_log import Entry
uri, number = sys.argv[1:]
connect(uri).get_registered_model("hscc-tiny")
print("ready", flush=True)
sys.stdin.readline()
try:
    change_alias("hscc-tiny", Entry("promote", "champion", "1", number, "ada", ""), uri)
    print("changed")
except RegistryError as error:
    print(error)
"""


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    """A store with three versions; the champion is the first."""
    shutil.copy(empty_store, tmp_path)
    found = tracking_uri(tmp_path)
    client = MlflowClient(found)
    client.create_registered_model(NAME)
    for _ in range(3):
        client.create_model_version(NAME, "file:///nowhere")
    change_alias(NAME, to("1", before=None), found)
    return found


@pytest.fixture
def on_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it to the audit log: no lock, as for a store that is no file of this machine."""
    monkeypatch.setattr(aliases, "_sqlite_file", lambda uri: None)


def to(number: str, before: str | None = "1") -> Entry:
    return Entry(PROMOTE, CHAMPION, before, number, "ada", "")


def logged(uri: str) -> list[tuple[str | None, str, bool]]:
    return [(entry.before, entry.after, entry.done) for entry in read_audit_log(NAME, CHAMPION, uri)]


def test_of_two_processes_exactly_one_changes_the_alias(uri: str) -> None:
    processes = {
        number: subprocess.Popen(
            [sys.executable, "-c", CHANGER, uri, number], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in "23"
    }
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = {number: process.communicate(timeout=900)[0].strip() for number, process in processes.items()}
    (winner,) = [number for number, answer in printed.items() if answer == "changed"]
    (loser,) = set(printed) - {winner}
    assert printed[loser].startswith(f"champion of {NAME} changed from version 1 to version {winner} meanwhile")
    assert alias_of(NAME, CHAMPION, uri) == winner
    assert logged(uri) == [(None, "1", True), ("1", winner, True)]


@pytest.mark.usefixtures("on_a_server")
def test_of_two_clients_without_a_lock_exactly_one_changes_the_alias(uri: str) -> None:
    for _ in range(5):
        before = alias_of(NAME, CHAMPION, uri)
        said, start = {}, threading.Barrier(2)

        def attempt(number: str, said: dict, start: threading.Barrier, before: str | None) -> None:
            start.wait()
            try:
                said[number] = change_alias(NAME, to(number, before), uri)
            except RegistryError as error:
                said[number] = error

        numbers = sorted({"1", "2", "3"} - {str(before)})
        threads = [threading.Thread(target=attempt, args=(number, said, start, before)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [number for number, answer in said.items() if answer is None]
        assert alias_of(NAME, CHAMPION, uri) == winner
        assert logged(uri)[-1] == (before, winner, True)
    assert len(logged(uri)) == 6  # nothing is left of those that lost


def claim(uri: str, number: str, late_by: float, age: float = 0.0) -> str:
    """Write another client's claim into the audit log and give its tag."""
    key = f"{PREFIX}{time.time_ns() + int(late_by * 1e9):020d}-other"
    value = json.loads(to_tag(to(number))) | {"at": time.time() - age}
    MlflowClient(uri).set_registered_model_tag(NAME, key, json.dumps(value))
    return key


@pytest.mark.usefixtures("on_a_server")
def test_the_earlier_claim_wins(uri: str) -> None:
    claim(uri, "3", late_by=0)
    with pytest.raises(RegistryError, match="someone else is changing champion of hscc-tiny from version 1"):
        change_alias(NAME, to("2"), uri)
    assert alias_of(NAME, CHAMPION, uri) == "1"
    assert logged(uri) == [(None, "1", True), ("1", "3", False)]


@pytest.mark.usefixtures("on_a_server")
def test_a_claim_that_a_kill_left_expires(uri: str) -> None:
    claim(uri, "3", late_by=0, age=60)
    change_alias(NAME, to("2"), uri)
    assert logged(uri) == [(None, "1", True), ("1", "3", False), ("1", "2", True)]


@pytest.mark.usefixtures("on_a_server")
def test_the_earlier_claim_waits_for_the_later_one_to_be_withdrawn(uri: str) -> None:
    key = claim(uri, "3", late_by=60)
    withdrawal = threading.Timer(1.0, MlflowClient(uri).delete_registered_model_tag, (NAME, key))
    withdrawal.start()
    change_alias(NAME, to("2"), uri)
    assert not withdrawal.is_alive()
    assert logged(uri) == [(None, "1", True), ("1", "2", True)]


@pytest.mark.usefixtures("on_a_server")
def test_a_later_claim_that_looked_too_early_to_see_the_earlier_one_has_won(uri: str) -> None:
    claim(uri, "3", late_by=60)
    winning = threading.Timer(1.0, MlflowClient(uri).set_registered_model_alias, (NAME, CHAMPION, "3"))
    winning.start()
    with pytest.raises(RegistryError, match="changed from version 1 to version 3 meanwhile"):
        change_alias(NAME, to("2"), uri)
    assert logged(uri) == [(None, "1", True), ("1", "3", True)]


@pytest.mark.usefixtures("on_a_server")
def test_a_claim_that_does_not_succeed_in_time_is_withdrawn(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "_CLAIM_TIMEOUT", 0.0)
    claim(uri, "3", late_by=60)
    with pytest.raises(RegistryError, match="someone else is changing"):
        change_alias(NAME, to("2"), uri)
    assert logged(uri) == [(None, "1", True), ("1", "3", False)]


def test_a_store_that_another_writer_locks_is_named_and_keeps_its_alias(uri: str, tmp_path: Path) -> None:
    with (
        held_by_another_process(tmp_path / "mlflow.db"),
        pytest.raises(
            RegistryError, match=r"^the MLflow registry sqlite:.* cannot be written \(.*locked\); start it, free it"
        ),
    ):
        change_alias(NAME, to("2"), uri)
    assert logged(uri) == [(None, "1", True)]


def test_a_process_that_keeps_the_lock_is_reported(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "_LOCK_TIMEOUT", 0.1)
    with (
        aliases._locked(tmp_path / "mlflow.db"),
        pytest.raises(RegistryError, match="another process has been changing an alias"),
    ):
        change_alias(NAME, to("2"), uri)


@pytest.mark.parametrize(
    ("uri", "database"),
    [
        ("sqlite:////a/b.db", Path("/a/b.db")),
        ("sqlite:///b.db", Path("b.db")),
        ("http://127.0.0.1:5000", None),
        ("postgresql://u:p@h/d", None),
        ("mlruns", None),
    ],
)
def test_a_file_of_this_machine_is_locked_and_a_server_is_not(uri: str, database: Path | None) -> None:
    assert aliases._sqlite_file(uri) == database


def test_the_user_has_a_name_even_where_the_machine_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(aliases.getpass, "getuser", nobody)
    assert current_user() == "unknown"
    monkeypatch.setenv("HSCC_USER", "ada")
    assert current_user() == "ada"
