from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from hscc.errors import DataError
from hscc.pipeline import layout
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.stages.validate import FAILED, run
from hscc.pipeline.tracking import tracking_uri
from tests.pipeline.committed import committed

# Sections of other stages name methods and backbones; this stage reads neither.
PARAMS = committed(validate={"min_per_class": 12})
OUTPUTS = (layout.MANIFEST, layout.DATA_REPORT, layout.VALIDATION / "expectations.json")


def jpeg(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((80, 72), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def validated(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data set of 12 + 4 images a class, a copy and a contradiction among them, and validate it."""
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copy(empty_store, workspace)
    seed = 0
    for folder, count in (("Training", 12), ("Testing", 4)):
        for label in CLASSES:
            place = workspace / layout.DATA / folder / label
            place.mkdir(parents=True)
            for number in range(count):
                (place / f"image ({number}).jpg").write_bytes(jpeg(seed))
                seed += 1
    data = workspace / layout.DATA
    shutil.copy(data / "Training/no_tumor/image (3).jpg", data / "Testing/no_tumor/copy.jpg")
    shutil.copy(data / "Training/glioma_tumor/image (5).jpg", data / "Training/pituitary_tumor/same.jpg")
    run(PARAMS, workspace)
    return workspace


@pytest.fixture
def workspace(validated: Path, tmp_path: Path) -> Path:
    shutil.copytree(validated, tmp_path / "workspace")
    return tmp_path / "workspace"


def contents(workspace: Path) -> dict[Path, bytes]:
    return {path: (workspace / path).read_bytes() for path in OUTPUTS}


def test_the_three_outputs_are_written(validated: Path):
    manifest = read_manifest(validated / layout.MANIFEST)
    assert len(manifest) == 66
    report = json.loads((validated / layout.DATA_REPORT).read_text(encoding="utf-8"))
    assert report["files"] == {"count": 66, "distinct": 64, "bytes": int(manifest["bytes"].sum())}
    assert (validated / layout.VALIDATION / "data_docs/index.html").is_file()
    assert left_in_scratch(validated) == set()


def left_in_scratch(workspace: Path) -> set[str]:
    """What lies beside the notes of which runs are under way."""
    return {path.name for path in (workspace / layout.SCRATCH).iterdir()} - {"runs", "tracking"}


def test_a_run_keeps_what_was_found(validated: Path):
    client = MlflowClient(tracking_uri(validated))
    (run,) = client.search_runs([client.get_experiment_by_name("hscc").experiment_id])
    assert (run.data.tags["stage"], run.info.status) == ("validate", "FINISHED")
    assert {name: run.data.metrics[name] for name in ("files_count", "files_distinct")} == {
        "files_count": 66,
        "files_distinct": 64,
    }
    report = json.loads((validated / layout.DATA_REPORT).read_text(encoding="utf-8"))
    assert run.data.metrics["findings_warning"] == len(report["findings"])
    assert [kept.path for kept in client.list_artifacts(run.info.run_id)] == [layout.DATA_REPORT.name]


def test_findings_are_the_failed_warnings_and_name_the_images(validated: Path):
    report = json.loads((validated / layout.DATA_REPORT).read_text(encoding="utf-8"))
    failed = {check["id"]: check["count"] for check in report["checks"] if not check["passed"]}
    findings = {finding["id"]: finding for finding in report["findings"]}
    assert {name: finding["count"] for name, finding in findings.items()} == failed
    assert findings["copies"]["count"] == 2
    assert findings["copied_from_training"]["images"] == ["Testing/no_tumor/copy.jpg"]
    assert findings["contradicting_labels"]["images"] == [
        "Training/glioma_tumor/image (5).jpg",
        "Training/pituitary_tumor/same.jpg",
    ]


def test_a_summary_is_printed(workspace: Path, capsys: pytest.CaptureFixture[str]):
    run(PARAMS, workspace)
    printed = capsys.readouterr().out
    assert "66 images by class, protocol and split" in printed
    assert "The same picture carries different diagnoses" in printed


def test_a_second_run_writes_the_same_manifest_and_report(workspace: Path):
    before = contents(workspace)
    stale = workspace / layout.VALIDATION / "data_docs/validations/old.html"
    stale.write_text("of an earlier run", encoding="utf-8")
    run(PARAMS, workspace)
    for path in (layout.MANIFEST, layout.DATA_REPORT):
        assert (workspace / path).read_bytes() == before[path]
    assert not stale.exists()


def truncate(data: Path) -> None:
    path = data / "Training/glioma_tumor/image (2).jpg"
    path.write_bytes(path.read_bytes()[:-300])


def add_text(data: Path) -> None:
    (data / "Testing/no_tumor/notes.jpg").write_text("no picture", encoding="utf-8")


def empty_folder(data: Path) -> None:
    for path in (data / "Testing/pituitary_tumor").iterdir():
        path.unlink()


def add_class(data: Path) -> None:
    shutil.copytree(data / "Training/no_tumor", data / "Training/cyst")


def shrink(data: Path) -> None:
    Image.new("RGB", (40, 80)).save(data / "Training/no_tumor/small.png")


def thin_out(data: Path) -> None:
    for path in [*(data / "Training/pituitary_tumor").iterdir()][:11]:
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (truncate, "cannot be decoded as an image: Training/glioma_tumor/image (2).jpg (restore with `hscc fetch`"),
        (add_text, "cannot be decoded as an image: Testing/no_tumor/notes.jpg (restore"),
        (empty_folder, "missing, or without an image: Testing/pituitary_tumor (fill"),
        (
            add_class,
            "in no known class folder: Training/cyst/image (0).jpg, Training/cyst/image (1).jpg, "
            "Training/cyst/image (10).jpg and 9 more (move to one of glioma_tumor, ",
        ),
        (shrink, "width not 64 to 4096 pixels: Training/no_tumor/small.png (replace"),
        (thin_out, "fewer than 12 images of a class: pituitary_tumor (add images"),
    ],
)
def test_an_error_names_the_images_and_leaves_earlier_outputs(
    workspace: Path, spoil: Callable[[Path], None], named: str
):
    before = contents(workspace)
    spoil(workspace / layout.DATA)
    with pytest.raises(DataError) as caught:
        run(PARAMS, workspace)
    message = str(caught.value)
    assert named in message
    assert "\n" not in message
    assert message.endswith(f"{FAILED}/data_docs/index.html.")
    assert contents(workspace) == before
    assert (workspace / FAILED / "data_docs/index.html").is_file()
    assert left_in_scratch(workspace) == {FAILED.name}
    client = MlflowClient(tracking_uri(workspace))
    (newest, *_) = client.search_runs([client.get_experiment_by_name("hscc").experiment_id])
    assert newest.info.status == "FAILED"


def test_once_mended_the_failure_is_forgotten(workspace: Path):
    add_text(workspace / layout.DATA)
    with pytest.raises(DataError):
        run(PARAMS, workspace)
    (workspace / layout.DATA / "Testing/no_tumor/notes.jpg").unlink()
    run(PARAMS, workspace)
    assert not (workspace / FAILED).exists()


def test_without_data_it_says_how_to_get_it(tmp_path: Path):
    with pytest.raises(DataError, match=r"does not exist; run `hscc fetch` \(or `hscc phantom"):
        run(PARAMS, tmp_path)
    assert not list(tmp_path.iterdir())
