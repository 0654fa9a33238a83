from __future__ import annotations

import hashlib
import io
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import EpsImagePlugin, Image

from hscc.errors import ArtifactError, DataError
from hscc.pipeline.data.listing import list_files
from hscc.pipeline.data.manifest import COLUMNS, group_near_copies, read_manifest, scan, write_manifest
from hscc.pipeline.data.splits import assign_splits
from tests.pipeline.specs import BRAIN


def jpeg(seed: int, size: tuple[int, int] = (90, 70), mode: str = "RGB") -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def put(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def row(frame: pd.DataFrame, path: str) -> pd.Series:
    return frame.set_index("path").loc[path]


def test_scan_tells_what_each_image_is(tmp_path: Path):
    content = jpeg(0)
    put(tmp_path, "Training/no_tumor/b (1).jpg", content)
    put(tmp_path, "Testing/glioma_tumor/a.jpg", jpeg(1, (64, 128), "L"))
    frame, thumbnails = scan(tmp_path, BRAIN)
    assert frame.columns.tolist() == list(COLUMNS[:10])
    assert frame["path"].tolist() == ["Testing/glioma_tumor/a.jpg", "Training/no_tumor/b (1).jpg"]
    assert thumbnails.shape == (2, 256)
    assert thumbnails.dtype == np.uint8
    grey = row(frame, "Testing/glioma_tumor/a.jpg")
    assert (grey["width"], grey["height"], grey["mode"]) == (64, 128, "L")
    colour = row(frame, "Training/no_tumor/b (1).jpg")
    assert colour["label"] == "no_tumor"
    assert colour["official_split"] == "Training"
    assert (colour["width"], colour["height"], colour["mode"]) == (90, 70, "RGB")
    assert (colour["bytes"], colour["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert colour["phash"] == str(imagehash.phash(Image.open(io.BytesIO(content))))
    assert colour["decodable"]


@pytest.mark.parametrize(
    "content",
    [jpeg(0)[:-400], b"this is no picture\n", b""],
    ids=["truncated", "text", "empty"],
)
def test_what_is_no_whole_image_is_kept_and_marked(tmp_path: Path, content: bytes):
    put(tmp_path, "Training/no_tumor/good.jpg", jpeg(1))
    put(tmp_path, "Training/no_tumor/bad.jpg", content)
    frame, thumbnails = scan(tmp_path, BRAIN)
    bad = row(frame, "Training/no_tumor/bad.jpg")
    assert not bad["decodable"]
    assert (bad["width"], bad["height"], bad["mode"], bad["phash"]) == (-1, -1, "", "")
    assert (bad["bytes"], bad["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert not thumbnails[0].any()
    assert row(frame, "Training/no_tumor/good.jpg")["decodable"]


def test_postscript_named_jpg_is_not_handed_to_an_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    buffer = io.BytesIO()
    Image.new("L", (80, 80)).save(buffer, "EPS")
    put(tmp_path, "Training/no_tumor/a.jpg", buffer.getvalue())
    calls: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: calls.append(1) or Image.new("L", (9, 9)).im)
    frame, _ = scan(tmp_path, BRAIN)
    assert not frame["decodable"].any()
    assert calls == []


def test_stray_files_have_the_place_they_are_in(tmp_path: Path):
    for path in ("notes.txt", "Training/list.csv", "Training/cyst/a.jpg", "Testing/no_tumor/more/b.jpg"):
        put(tmp_path, path, jpeg(2))
    frame, _ = scan(tmp_path, BRAIN)
    places = {path: (row(frame, path)["official_split"], row(frame, path)["label"]) for path in frame["path"]}
    assert places == {
        "notes.txt": ("", ""),
        "Training/list.csv": ("Training", ""),
        "Training/cyst/a.jpg": ("Training", "cyst"),
        "Testing/no_tumor/more/b.jpg": ("Testing", "no_tumor/more"),
    }


@pytest.mark.parametrize("make", [False, True], ids=["missing", "empty"])
def test_no_data_says_how_to_get_it(tmp_path: Path, make: bool):
    root = tmp_path / "data"
    if make:
        root.mkdir()
    with pytest.raises(DataError, match=r"data .*hscc fetch.*hscc phantom"):
        list_files(root)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    put(tmp_path, "Training/no_tumor/good.jpg", jpeg(1))
    (tmp_path / "Training/no_tumor/gone.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"gone\.jpg cannot be read"):
        scan(tmp_path, BRAIN)


@pytest.fixture
def manifest(tmp_path: Path) -> pd.DataFrame:
    root = tmp_path / "data"
    for number in range(40):
        folder = ("Training", "Testing")[number % 10 == 0]
        label = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")[number % 4]
        put(root, f"{folder}/{label}/{number}.jpg", jpeg(number))
    put(root, "Training/no_tumor/copy, of 2.jpg", jpeg(2))
    put(root, "Training/glioma_tumor/other 3.jpg", jpeg(3))
    put(root, "Training/no_tumor/bad.jpg", b"NA")
    frame, thumbnails = scan(root, BRAIN)
    return assign_splits(group_near_copies(frame, thumbnails, 0.99), BRAIN)


def test_groups_and_conflicts_come_from_the_pictures(manifest: pd.DataFrame):
    group = manifest.set_index("path")["group"]
    assert group["Training/no_tumor/copy, of 2.jpg"] == group["Training/no_tumor/2.jpg"]
    assert manifest["group"].nunique() == len(manifest) - 2
    assert set(manifest.loc[manifest["conflict"], "path"]) == {
        "Training/glioma_tumor/other 3.jpg",
        "Training/pituitary_tumor/3.jpg",
    }


def test_a_manifest_reads_back_as_written(tmp_path: Path, manifest: pd.DataFrame):
    manifest.loc[0, "phash"] = "0000000000000012"  # a number, unless read as text
    path = tmp_path / "artifacts" / "manifest.csv"
    write_manifest(manifest, path)
    again = read_manifest(path)
    pd.testing.assert_frame_equal(again, manifest[list(COLUMNS)])
    assert again["decodable"].dtype == bool
    assert again["group"].dtype == np.int64


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, manifest: pd.DataFrame):
    path = tmp_path / "manifest.csv"
    write_manifest(manifest, path)
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write_manifest(manifest.drop(columns="group"), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist; run `hscc validate`"),
        ("path,label\na,b\n", "lacks the column official_split"),
        ("", "is not a manifest"),
        ("path,width\na,wide\n", "is not a manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str | None, message: str):
    path = tmp_path / "manifest.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message) as caught:
        read_manifest(path)
    assert "manifest.csv" in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "Training/../../secret.jpg"])
def test_a_manifest_cannot_name_what_lies_outside_the_data(tmp_path: Path, manifest: pd.DataFrame, name: str):
    path = tmp_path / "manifest.csv"
    frame = manifest.copy()
    frame.loc[0, "path"] = name
    write_manifest(frame, path)
    with pytest.raises(ArtifactError, match="outside the data folder"):
        read_manifest(path)
