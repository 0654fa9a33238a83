from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hscc.pipeline.registry.aliases import change_alias
from hscc.pipeline.registry.audit_log import (
    CHALLENGER,
    CHAMPION,
    LONGEST_NOTE,
    PROMOTE,
    REGISTER,
    ROLLBACK,
    Entry,
    alias_of,
    predecessor,
    read_audit_log,
    to_tag,
)
from hscc.pipeline.tracking import tracking_uri

NAME = "hscc-tiny"
ENTRY = Entry(PROMOTE, CHAMPION, None, "1", "ada", "the first", findings=("NO accuracy: worse", "ok recall: fine"))


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    shutil.copy(empty_store, tmp_path)
    client = MlflowClient(tracking_uri(tmp_path))
    client.create_registered_model(NAME)
    for _ in range(2):
        client.create_model_version(NAME, "file:///nowhere")
    return tracking_uri(tmp_path)


def test_a_model_that_does_not_exist_has_no_alias_and_no_audit_log(uri: str) -> None:
    assert alias_of("no-such-model", CHAMPION, uri) is None
    assert read_audit_log("no-such-model", CHAMPION, uri) == []


def test_what_is_written_is_read_again_alias_by_alias(uri: str) -> None:
    MlflowClient(uri).set_registered_model_tag(NAME, "owner", "radiology")  # not ours
    change_alias(NAME, ENTRY, uri)
    change_alias(NAME, Entry(REGISTER, CHALLENGER, None, "2", "ada", "hscc-macs6-seed0"), uri)
    (found,) = read_audit_log(NAME, CHAMPION, uri)
    assert found.at > 0
    assert replace(found, at=0.0) == ENTRY
    assert [entry.after for entry in read_audit_log(NAME, CHALLENGER, uri)] == ["2"]


def test_a_reason_is_kept_without_secrets_and_not_without_end(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "hunter2hunter2")
    change_alias(NAME, replace(ENTRY, reason="hunter2hunter2 " + "x" * 1000), uri)
    (found,) = read_audit_log(NAME, CHAMPION, uri)
    assert found.reason.startswith("*** x")
    assert len(found.reason) == LONGEST_NOTE


def test_an_entry_that_mlflow_would_cut_off_is_kept_without_its_findings() -> None:
    long = replace(ENTRY, findings=("é" * 1000,) * 20)
    assert json.loads(to_tag(long))["findings"] == []
    assert len(json.loads(to_tag(replace(ENTRY, findings=("é" * 1000,))))["findings"][0]) == LONGEST_NOTE


def test_the_predecessor_is_the_version_it_was_promoted_over() -> None:
    def change(action: str, before: str | None, after: str, done: bool = True) -> Entry:
        return Entry(action, CHAMPION, before, after, "ada", "", done=done)

    log = [
        change(PROMOTE, None, "1"),
        change(PROMOTE, "1", "3", done=False),
        change(PROMOTE, "1", "2"),
        change(PROMOTE, "2", "3"),
        change(ROLLBACK, "3", "2"),
    ]
    assert [predecessor(log, number) for number in ("1", "2", "3", "4")] == [None, "1", "2", None]
