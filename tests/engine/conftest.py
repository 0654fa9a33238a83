from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hscc.engine import library
from tests.engine.builds import compiler, installed, library_of_these_sources


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Compiling, in fixtures, does not count as a test's time: it may take minutes where processors are busy."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200, func_only=True))


@pytest.fixture(scope="session", autouse=True)
def _library_of_these_sources() -> Iterator[Path | None]:
    """Take the library built of these sources, the installed one or else one of its own, in subprocesses too."""
    if installed() is None and compiler() is None:
        yield None
        return
    path = library_of_these_sources()
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
