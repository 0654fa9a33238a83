from __future__ import annotations

from pathlib import Path

import pytest

from hscc.pipeline.report.html.page import Report, render

from ..documents import material


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report with every section, of three seeds."""
    return render(material(tmp_path_factory.mktemp("pictures"), seeds=(0, 1, 2)))


@pytest.fixture(scope="session")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report as a file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report.html, encoding="utf-8")
    return path
