import os
from pathlib import Path

import pytest

from flows.lock import BusyError, hold


def test_a_second_flow_is_told_who_runs(tmp_path: Path) -> None:
    said = rf"^flow run brave-otter \(process {os.getpid()} on .*wait for its end"
    with (
        hold(tmp_path, "flow run brave-otter"),
        pytest.raises(BusyError, match=said),
        hold(tmp_path, "flow run late-crow"),
    ):
        pass
    with hold(tmp_path, "flow run late-crow") as lock:
        assert lock.path.read_text() == lock.owner


def test_an_ended_lease_names_nobody(tmp_path: Path) -> None:
    with hold(tmp_path, "a") as lock:
        pass
    assert lock.path.read_text() == ""


def test_two_starts_of_one_flow_are_told_apart(tmp_path: Path) -> None:
    with hold(tmp_path, "a") as first:
        pass
    with hold(tmp_path, "a") as second:
        assert first.owner != second.owner
