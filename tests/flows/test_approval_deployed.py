"""A person approves a promotion: server, worker and registry are real."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from hscc.pipeline.registry.audit_log import CHAMPION, alias_of, read_audit_log
from hscc.pipeline.stages import register
from hscc.pipeline.tracking import tracking_uri
from tests.pipeline.registered import NAME, params, write_results

from .stack import ROOT, Stack, wait_for


@pytest.fixture
def registered(empty_store: Path, tmp_path: Path) -> Path:
    """A workspace with one version in its registry, whose policy asks a person."""
    shutil.copy(empty_store, tmp_path)
    write_results(tmp_path)
    register.run(params(), tmp_path)
    asked = yaml.safe_load((ROOT / "params.yaml").read_text())
    asked["register"]["name"] = NAME
    asked["promote"] |= {"approval": True, "min_images": 50}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(asked))
    return tmp_path


@pytest.mark.timeout(1800)
def test_a_person_who_resumes_the_run_decides(stack: Stack, registered: Path) -> None:
    stack.move(registered, "promote")
    run = stack.run("promote", flow="promote")
    wait_for(lambda: stack.state(run) == "Paused", why=lambda: f"{stack.state(run)}: {stack.logs(run)}")
    uri = tracking_uri(registered)
    assert alias_of(NAME, CHAMPION, uri) is None
    assert "| accuracy | kept |" in stack.artifacts(run)["promotion"].data
    refused = stack.client.resume_flow_run(run, run_input={"approve": True, "by": ""})
    assert refused.status.value == "REJECT"  # a nameless answer is none
    assert stack.state(run) == "Paused"
    stack.client.resume_flow_run(run, run_input={"approve": True, "by": "ada", "reason": "seen the report"})
    ended = stack.ended(run).state
    assert ended is not None
    assert ended.is_completed(), ended
    assert ended.message == f"version 1 of {NAME} is the champion, approved by ada"
    assert alias_of(NAME, CHAMPION, uri) == "1"
    (entry,) = read_audit_log(NAME, CHAMPION, uri)
    assert (entry.before, entry.after, entry.by, entry.reason) == (None, "1", "ada", "seen the report")
