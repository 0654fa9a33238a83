"""The section of docs/library.md on tasks runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "library.md"


@pytest.mark.filterwarnings("ignore:.*calibration images are few")
def test_the_blocks_on_tasks_run_and_print_what_they_show(capsys: pytest.CaptureFixture[str]) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Any task\n")[2].partition("\n## ")[0]
    programs = re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", section, flags=re.DOTALL)
    assert len(programs) == 2
    scope: dict[str, object] = {}
    exec("import torch\nfrom torch import nn\nimport hscc\ntorch.manual_seed(0)", scope)
    for program, shown in programs:
        exec(program, scope)
        printed = capsys.readouterr().out
        assert printed.startswith(shown or "torch.Size([16, 1])")
