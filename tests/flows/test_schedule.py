from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flows.graph import Stage
from flows.schedule import Schedule


def stage(address: str, *needs: str, alone: bool = False) -> Stage:
    return Stage(address, ("true",), Path(), frozenset(needs), alone=alone)


def start(schedule: Schedule) -> list[str]:
    begun = []
    for ready in schedule.candidates():
        if schedule.has_room(ready):
            schedule.begin(ready)
            begun.append(ready.address)
    return begun


def test_independent_stages_run_side_by_side_up_to_the_limit() -> None:
    stages = [stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "a")]
    schedule = Schedule(stages, workers=2)
    assert start(schedule) == ["a"]
    schedule.finish(stages[0])
    assert start(schedule) == ["b", "c"]
    schedule.finish(stages[2])
    assert start(schedule) == ["d"]
    assert schedule.done == 2


def test_a_stage_waits_only_for_what_it_needs() -> None:
    stages = [stage("train@slow"), stage("train@fast"), stage("calibrate", "train@fast")]
    schedule = Schedule(stages, workers=2)
    assert start(schedule) == ["train@slow", "train@fast"]
    schedule.finish(stages[1])
    assert start(schedule) == ["calibrate"]


def test_a_stage_that_must_be_alone_is() -> None:
    stages = [stage("a"), stage("clock", alone=True), stage("b")]
    schedule = Schedule(stages, workers=4)
    assert start(schedule) == ["a", "b"]
    schedule.finish(stages[0])
    assert start(schedule) == []
    schedule.finish(stages[2])
    assert start(schedule) == ["clock"]


def test_nothing_begins_beside_a_stage_that_must_be_alone() -> None:
    schedule = Schedule([stage("clock", alone=True), stage("b")], workers=4)
    assert start(schedule) == ["clock"]
    assert start(schedule) == []


def test_a_failure_holds_back_what_needs_it_and_nothing_else() -> None:
    stages = [stage("a"), stage("b"), stage("after-a", "a"), stage("after-b", "b"), stage("last", "after-a", "after-b")]
    schedule = Schedule(stages, workers=2)
    start(schedule)
    schedule.fail(stages[0])
    schedule.finish(stages[1])
    assert start(schedule) == ["after-b"]
    schedule.finish(stages[3])
    assert start(schedule) == []
    assert schedule.held_back == ["after-a", "last"]


def test_needs_outside_the_chosen_stages_do_not_hold_it_back() -> None:
    assert start(Schedule([stage("b", "not chosen")], workers=1)) == ["b"]


@given(st.data())
def test_any_graph_runs_to_its_end(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    stages: list[Stage] = []
    for number in range(count):
        needs = data.draw(st.sets(st.integers(0, number - 1))) if number else set()
        stages.append(stage(str(number), *map(str, needs), alone=data.draw(st.booleans())))
    workers = data.draw(st.integers(1, 4))
    schedule, done = Schedule(stages, workers), set[str]()
    by_name = {each.address: each for each in stages}
    start(schedule)
    while schedule.running:
        assert len(schedule.running) <= workers
        address = data.draw(st.sampled_from(sorted(schedule.running)))
        assert by_name[address].needs <= done
        schedule.finish(by_name[address])
        done.add(address)
        start(schedule)
    assert len(done) == count
