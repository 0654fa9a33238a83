from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hscc.engine import library
from tests.engine.builds import build


@pytest.fixture(scope="session")
def engine_library() -> Iterator[Path]:
    """Build the library of these sources and take it in place of the installed one, in subprocesses too."""
    path = build("libhscc_engine.so", ["-O3", "-shared", "-fPIC", "-fvisibility=hidden"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.VARIABLE, str(path))
        library.load_library.cache_clear()
        yield path
    library.load_library.cache_clear()
