from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hscc.engine import library
from tests.engine.builds import build, compiler


@pytest.fixture(scope="session", autouse=True)
def _library_of_these_sources() -> Iterator[Path | None]:
    """Take the library built of these sources in place of the installed one, in subprocesses too."""
    if compiler() is None:
        yield None
        return
    path = build("libhscc_engine.so", ["-O3", "-shared", "-fPIC", "-fvisibility=hidden"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.VARIABLE, str(path))
        library.load_library.cache_clear()
        yield path
    library.load_library.cache_clear()


@pytest.fixture(scope="session")
def engine_library(_library_of_these_sources: Path | None) -> Path:
    if _library_of_these_sources is None:
        pytest.skip("there is no C++ compiler")
    return _library_of_these_sources
