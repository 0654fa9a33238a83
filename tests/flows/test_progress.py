import io
import json
from pathlib import Path

import yaml

from flows.progress import SHOWN, Progress, what_it_found
from hscc.pipeline import layout
from hscc.pipeline.statistics.schema import read_results

from .test_demo import ROOT


def follow(workspace: Path, *lines: str, failed: bool = False) -> tuple[list[str], str, Progress]:
    said: list[str] = []
    log = io.StringIO()
    progress = Progress(workspace, log, said.append)
    for line in lines:
        progress.line(f"{line}\n")
    progress.end(failed)
    return "".join(said).splitlines(), log.getvalue(), progress


def test_a_stage_gets_one_line_and_all_else_goes_to_the_log(tmp_path: Path) -> None:
    folder = tmp_path / layout.DATA_REPORT.parent
    folder.mkdir()
    (tmp_path / layout.DATA_REPORT).write_text(json.dumps({"files": {"count": 1252}, "findings": [{}, {}]}))
    lines = (
        "'data.dvc' didn't change, skipping",
        "Stage 'code' didn't change, skipping",
        "Running stage 'validate':",
        "> python -m hscc validate",
        "a table",
        "Running stage 'compress@hscc-macs3-seed0':",
    )
    said, log, progress = follow(tmp_path, *lines)
    assert log.splitlines() == list(lines)
    assert len(said) == 2
    assert said[0].startswith("validate") and said[0].endswith("0 s: 1,252 images, 2 warnings")
    assert said[1].startswith("compress hscc-macs3-seed0") and said[1].endswith("0 s")  # it has left nothing
    assert (progress.ran, progress.skipped) == (2, 2)


def test_a_stage_that_failed_says_so(tmp_path: Path) -> None:
    said, _, _ = follow(tmp_path, "Running stage 'train@grouped':", "Traceback", failed=True)
    assert len(said) == 1 and said[0].endswith("0 s: failed")


def test_every_stage_says_what_it_shows() -> None:
    assert set(SHOWN) == set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


def test_what_was_found_is_read_from_the_outputs() -> None:
    found = {stage: what_it_found(stage, ROOT) for stage in ("validate", "train@grouped", "bench", "evaluate")}
    dense = read_results(ROOT / layout.RESULTS_JSON).rows[0]
    assert found["evaluate"].startswith("accuracy dense") and f"{100 * dense.primary.value:.1f} %" in found["evaluate"]
    assert "faster than dense" in found["bench"] and "accuracy" in found["train@grouped"]
    assert what_it_found("register", ROOT).startswith(
        json.loads((ROOT / layout.REGISTRATION).read_text())["registered"]
    )
    assert what_it_found("no such stage", ROOT) == ""
