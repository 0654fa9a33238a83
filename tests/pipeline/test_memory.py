"""Memory is kept on glibc, and nothing breaks elsewhere."""

from __future__ import annotations

import platform
import sys

import numpy as np
import pytest

from hscc.pipeline import memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own allocator")
def test_glibc_takes_the_request() -> None:
    assert memory.keep_freed()
    assert np.ones(2**24, dtype=np.uint8).sum() == 2**24


def test_other_systems_are_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed()
