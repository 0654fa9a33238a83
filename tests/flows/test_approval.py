"""The flow that asks a person, against Prefect's own server; the registry is replaced by a recorder."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from flows import approval
from hscc.pipeline.commands.promote import Proposal
from hscc.pipeline.registry.promotion_policy import Finding
from tests.pipeline.committed import committed

GOOD = Proposal("hscc-tiny", "7", "6", [Finding("accuracy", True, "+0.10 points")])
BAD = Proposal("hscc-tiny", "7", "6", [Finding("recall", False, "lowest recall 50.0 %")])


@pytest.fixture
def promoted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record promotions; the policy is kept and a person must be asked."""
    seen: list[dict[str, Any]] = []
    params = committed(promote={"approval": True})
    monkeypatch.setattr(approval, "read_params", lambda path: params)
    monkeypatch.setattr(approval, "consider", lambda params, which: GOOD)
    monkeypatch.setattr(approval, "promote", lambda params, **how: seen.append(how))
    return seen


def answer_when_asked(answer: dict[str, Any]) -> threading.Thread:
    """Resume the paused run from another thread, as a person does in the UI."""
    # After `flows`, which sets how long a busy machine may take to start Prefect's server.
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.flow_runs import resume_flow_run

    def wait() -> None:
        paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
        with get_client(sync_client=True) as client:
            while True:
                found = client.read_flow_runs(flow_run_filter=paused)
                if found:
                    resume_flow_run(found[0].id, run_input=answer)
                    return
                time.sleep(0.25)

    with get_client(sync_client=True) as client:
        client.hello()  # one server for both threads: each would start one of its own
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("approve", [True, False])
def test_a_person_decides(approve: bool, promoted: list[dict[str, Any]]) -> None:
    thread = answer_when_asked({"approve": approve, "by": "ada", "reason": "seen the report"})
    state = approval.ask_and_promote(wait_seconds=600, return_state=True)
    thread.join(60)
    assert state.is_completed() is approve
    said_no = "version 7 is not promoted: ada said no. seen the report"
    assert state.message == ("version 7 of hscc-tiny is the champion, approved by ada" if approve else said_no)
    assert promoted == ([{"which": "7", "reason": "seen the report", "by": "ada"}] if approve else [])


def test_a_version_that_the_policy_refuses_asks_nobody(
    promoted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval, "consider", lambda params, which: BAD)
    state = approval.ask_and_promote(return_state=True)
    assert state.is_failed()
    assert state.message == "version 7 is not promoted: recall: lowest recall 50.0 %"
    assert promoted == []


def test_without_approval_in_the_policy_nobody_is_asked(
    promoted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = committed(promote={"approval": False})
    monkeypatch.setattr(approval, "read_params", lambda path: params)
    assert approval.ask_and_promote(return_state=True).is_completed()
    assert promoted == [{"which": "7", "reason": "", "by": None}]


def test_an_answer_that_does_not_come_promotes_nothing(promoted: list[dict[str, Any]]) -> None:
    state = approval.ask_and_promote(wait_seconds=1, return_state=True)
    assert not state.is_completed()
    assert promoted == []
