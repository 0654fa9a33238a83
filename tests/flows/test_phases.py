from pathlib import Path
from queue import SimpleQueue

import pytest
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows import phases
from flows.graph import Stage
from flows.lock import hold
from flows.phases import Ended, Phase


def test_a_task_that_breaks_off_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a console goes away: `rich` then ends the thread by SystemExit."""

    def leave(*arguments: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(phases, "run_commands", leave)
    ended: SimpleQueue[Ended] = SimpleQueue()
    stage = Stage("a", ("true",), tmp_path, frozenset())

    @flow
    def run() -> None:
        with hold(tmp_path, "a test") as lock:
            phase = Phase("a", ThreadPoolTaskRunner(max_workers=1), lock, {}, ended)
            phase.submit(stage)
            phase.close()
            phase.join(900)

    run()
    reported, state = ended.get(timeout=900)
    assert reported == stage
    assert not state.is_completed()
    assert ended.empty()
