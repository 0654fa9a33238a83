from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hscc.errors import DataError
from hscc.pipeline.data.images import labels_of, load_images
from hscc.pipeline.data.listing import list_files, list_images
from hscc.pipeline.data.manifest import group_near_copies, read_manifest, scan, write_manifest
from hscc.pipeline.data.splits import assign_splits
from hscc.pipeline.data_spec import DataSpec
from tests.pipeline.specs import changed

LESIONS = ("mole", "scar")
TABLE = {"file": "labels.csv", "path": "image", "label": "label", "split": "split", "group": "lesion"}
OFFICIAL = {"train": "learn", "val": None, "test": "final"}


def table_spec(**changes: object) -> DataSpec:
    settings = {
        "layout": "table",
        "table": TABLE,
        "official": OFFICIAL,
        "classes": LESIONS,
        "channels": 3,
        "remarks": [],
    }
    texts = {**changed().texts.model_dump(), "classes": {}}
    return changed(**{**settings, "texts": texts, **changes})


def draw(path: Path, seed: int) -> None:
    """Draw a small colour picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def lesions(tmp_path: Path) -> Path:
    """40 colour pictures and their table: two classes, an official split, two pictures of most lesions."""
    root = tmp_path / "data"
    rows = []
    for number in range(40):
        path = f"images/{number:02}.png"
        draw(root / path, number)
        split = "final" if number >= 32 else "learn"
        lesion = "" if split == "final" and number % 4 == 0 else f"L{number // 2}"
        rows.append((path, LESIONS[number // 2 % 2], split, lesion))
    pd.DataFrame(rows, columns=["image", "label", "split", "lesion"]).to_csv(root / "labels.csv", index=False)
    return root


def edit(root: Path, **columns: object) -> None:
    """Change columns of the table."""
    pd.read_csv(root / "labels.csv", dtype=str).assign(**columns).to_csv(root / "labels.csv", index=False)


def test_a_table_says_what_each_image_is(lesions: Path) -> None:
    listed = list_images(lesions, table_spec())
    assert listed.columns.tolist() == ["path", "label", "official_split", "subject"]
    assert listed.iloc[2].tolist() == ["images/02.png", "scar", "learn", "L1"]
    assert listed.iloc[36]["subject"] == ""


def test_a_parquet_table_is_read_as_a_csv(lesions: Path) -> None:
    pd.read_csv(lesions / "labels.csv").to_parquet(lesions / "labels.parquet")
    parquet = table_spec(table={**TABLE, "file": "labels.parquet"})
    pd.testing.assert_frame_equal(list_images(lesions, parquet), list_images(lesions, table_spec()))


def test_lesions_stay_on_one_side_and_the_manifest_keeps_them(lesions: Path, tmp_path: Path) -> None:
    spec = table_spec()
    frame, thumbnails = scan(lesions, spec)
    frame = assign_splits(group_near_copies(frame, thumbnails, spec.near_duplicate), spec)
    known = frame[frame["subject"] != ""]
    assert known.groupby("subject")["group"].nunique().max() == 1
    assert frame.loc[frame["subject"] == "", "group"].nunique() == (frame["subject"] == "").sum()
    for protocol in spec.protocols:
        if protocol != "pooled":
            used = known[known[f"split_{protocol}"] != "excluded"]
            assert used.groupby("subject")[f"split_{protocol}"].nunique().max() == 1
    assert (frame.loc[frame["official_split"] == "final", "split_official"] == "test").all()
    write_manifest(frame, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv")["subject"].tolist() == frame["subject"].tolist()


def test_colours_are_decoded_as_they_are(lesions: Path, tmp_path: Path) -> None:
    frame, _ = scan(lesions, table_spec())
    colours = load_images(frame, lesions, (16, 16), tmp_path / "cache", channels=3)
    grey = load_images(frame, lesions, (16, 16), tmp_path / "cache")
    assert (colours.shape, grey.shape) == ((40, 16, 16, 3), (40, 16, 16))
    with Image.open(lesions / "images/07.png") as image:
        assert np.array_equal(colours[7], np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR)))
    assert labels_of(frame, LESIONS)[:4].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": "images/none.png"}, r"labels\.csv lists twice images/none\.png"),
        (
            {"image": [f"images/{n}.png" for n in range(100, 140)]},
            r"does not hold what .*labels\.csv names: images/100",
        ),
        ({"label": ""}, r"labels\.csv gives no label to images/00\.png, .* and 37 more; fill in"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_sentence(
    lesions: Path, columns: dict[str, object], words: str
) -> None:
    edit(lesions, **columns)
    with pytest.raises(DataError, match=words) as error:
        list_images(lesions, table_spec())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["path", "label", "split", "group"])
def test_a_missing_column_is_named_with_its_parameter(lesions: Path, key: str) -> None:
    spec = table_spec(table={**TABLE, key: "nowhere"})
    with pytest.raises(DataError, match=rf"no column 'nowhere'.*data\.table\.{key}"):
        list_images(lesions, spec)


def test_a_missing_table_is_named(lesions: Path) -> None:
    (lesions / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv does not exist; correct data\.table\.file"):
        list_images(lesions, table_spec())


def test_folders_without_an_official_split_hold_the_classes(tmp_path: Path) -> None:
    draw(tmp_path / "mole/p1-a.png", 0)
    draw(tmp_path / "scar/p1-b.png", 1)
    draw(tmp_path / "scar/other.png", 2)
    texts = {**changed().texts.model_dump(), "classes": {}}
    spec = changed(official=None, classes=LESIONS, group=r"(p\d+)-", texts=texts, remarks=[])
    listed = list_images(tmp_path, spec)
    assert listed["label"].tolist() == ["mole", "scar", "scar"]
    assert listed["official_split"].tolist() == ["", "", ""]
    assert listed["subject"].tolist() == ["p1", "", "p1"]


def test_a_link_to_a_folder_is_refused_since_its_changes_would_not_be_seen(tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere/1.png", 1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mole").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(DataError, match="link"):
        list_files(tmp_path / "data")
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert list_files(tmp_path / "linked") == ["1.png"]  # the data folder itself may be one
