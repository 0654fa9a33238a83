import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom.uid import generate_uid

from hscc.errors import DataError
from hscc.pipeline.workspace.looking import propose
from tests.pipeline.pictures import dicom
from tests.pipeline.workspace.drawn import arrays, draw, folders, with_masks


def test_folders_of_a_split_and_of_classes(tmp_path: Path) -> None:
    root, proposal = propose(folders(tmp_path / "scans", ["ill", "Healthy"], ["Training", "Testing"]))
    values = proposal.values
    assert root == tmp_path / "scans"
    assert values["data.layout"] == "folders" and values["data.classes"] == ["Healthy", "ill"]
    assert values["data.official"] == {"train": "Training", "val": None, "test": "Testing"}
    assert (values["data.channels"], values["data.image_size"]) == (1, 48)
    assert values["data.protocol"] == values["promote.protocol"] == "official"
    assert values["data.augmentation.outside"] == "black"
    assert values["validate.min_side"] == 48 and values["validate.min_per_class"] == 12
    assert not proposal.warnings
    for key in ("data.classes", "data.official", "data.channels", "data.group"):
        assert any(line.startswith(f"{key}: ") for line in proposal.lines())


def test_test_images_that_are_training_images_speak_against_the_official_split(tmp_path: Path) -> None:
    root = folders(tmp_path, ["a", "b"], ["train", "test"])
    assert propose(root)[1].values["data.protocol"] == "official"
    shutil.copy(root / "train/a/atrain(0).png", root / "test/b/copy.png")
    values = propose(root)[1].values
    assert values["data.protocol"] == "grouped" and values["train.protocols"] == ["grouped"]


def test_rare_classes_count_as_much_as_the_others(tmp_path: Path) -> None:
    for index in range(30):
        draw(tmp_path / f"{'rare' if index < 3 else 'usual'}/{index}.png")
    values = propose(tmp_path)[1].values
    assert (values["evaluate.score"], values["train.class_weights"]) == ("balanced_accuracy", "balanced")
    even = propose(folders(tmp_path / "even", ["a", "b"]))[1].values
    assert even["evaluate.score"] == "accuracy" and "train.class_weights" not in even


def test_the_only_folder_is_looked_into(tmp_path: Path) -> None:
    folders(tmp_path / "download/set", ["a", "b"], colour=True)
    root, proposal = propose(tmp_path / "download")
    assert root == tmp_path / "download/set"
    assert proposal.values["data.official"] is None and proposal.values["data.channels"] == 3
    assert proposal.values["data.plausible.max_colour"] is None
    assert proposal.values["register.name"] == "hscc-set"


def test_a_pattern_is_set_where_a_word_says_whose_number_it_is_and_else_only_shown(tmp_path: Path) -> None:
    for index in range(40):
        draw(tmp_path / f"clear/{'ab'[index % 2]}/patient{index // 2}_{index}.png")
        draw(tmp_path / f"unclear/{'ab'[index % 2]}/x{index // 2}_{index}.png")
    (clear,) = [choice for choice in propose(tmp_path / "clear")[1].choices if choice.key == "data.group"]
    assert clear.value == r"patient\d+"
    (unclear,) = [choice for choice in propose(tmp_path / "unclear")[1].choices if choice.key == "data.group"]
    assert unclear.value is None and r"x\d+" in unclear.comment


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_is_known_by_its_column_of_paths(tmp_path: Path, ending: str) -> None:
    rows = []
    for index in range(24):
        draw(tmp_path / f"images/{index}.png", colour=True)
        rows.append(
            {
                "age": str(40 + index),
                "file": f"images/{index}.png",
                "dx": ["nv", "mel", "bcc"][index % 3],
                "sex": "fm"[index % 2],
                "set": "train" if index < 16 else "test",
                "lesion_id": f"L{index // 2}",
            }
        )
    frame = pd.DataFrame(rows)
    if ending == "csv":
        frame.to_csv(tmp_path / "labels.csv", index=False)
    else:
        frame.to_parquet(tmp_path / "labels.parquet")
    values = propose(tmp_path)[1].values
    assert values["data.layout"] == "table" and values["data.classes"] == ["bcc", "mel", "nv"]
    assert values["data.table"] == {
        "file": f"labels.{ending}",
        "path": "file",
        "label": "dx",
        "split": "set",
        "group": "lesion_id",
    }
    assert values["data.official"] == {"train": "train", "val": None, "test": "test"}
    assert values["data.texts.group"] == "lesion"


def test_what_the_stage_validate_would_stop_at_is_a_warning(tmp_path: Path) -> None:
    root = folders(tmp_path, ["a", "b"], ["train", "test"])
    shutil.rmtree(root / "test/b")
    (root / "readme.txt").write_text("x")
    (root / "train/a/broken.png").write_bytes(b"no image")
    warnings = " ".join(propose(root)[1].warnings)
    assert "readme.txt" in warnings and "broken.png" in warnings and "test has no image of b" in warnings


def _nothing(root: Path) -> None:
    root.mkdir()


def _texts(root: Path) -> None:
    root.mkdir()
    (root / "scan.nii.gz").write_bytes(b"0")


def _one_class(root: Path) -> None:
    folders(root, ["only"], ["train", "test"])


def _unlabelled(root: Path) -> None:
    for index in range(3):
        draw(root / f"{index}.png")


def _deep(root: Path) -> None:
    folders(root, ["patient1", "patient2"], ["ill", "healthy"])


def _masks(root: Path) -> None:
    folders(root, ["images", "masks"], ["training", "test"])


def _stems(root: Path) -> None:
    for name in ("a", "b"):
        draw(root / f"images/{name}.png")
    pd.DataFrame({"image": ["a", "b"], "label": ["x", "y"]}).to_csv(root / "labels.csv", index=False)


def _damaged(root: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "x.png").write_bytes(b"0")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda root: None, "--data"),
        (_nothing, "no file"),
        (_texts, ".gz"),
        (_one_class, "only"),
        (_unlabelled, "0 images|3 images"),
        (_deep, "patient1"),
        (_masks, "--spec"),
        (_stems, "images/a.png"),
        (_damaged, "a/x.png"),
    ],
)
def test_data_that_is_of_no_use_is_refused_in_one_sentence(make, named: str, tmp_path: Path) -> None:
    make(tmp_path / "data")
    with pytest.raises(DataError, match=named) as raised:
        propose(tmp_path / "data")
    message = str(raised.value)
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize("tops", [("",), ("training", "test")])
def test_masks_are_found_by_the_number_in_front_and_fields_of_view_beside_them(
    tmp_path: Path, tops: tuple[str, ...]
) -> None:
    root = with_masks(tmp_path / "eyes", tops, field=True)
    values = propose(root)[1].values
    masks = values["data.masks"]
    assert isinstance(masks, dict)
    pattern = re.compile(masks["images"])
    images = sorted(path.relative_to(root).as_posix() for path in root.glob("**/images/*.png"))
    for image in images:
        found = pattern.search(image)
        assert found is not None
        number = Path(image).name.split("_")[0]
        assert (root / found.expand(masks["mask"])).name == f"{number}_manual1.png"
        assert (root / found.expand(masks["field"])).name == f"{Path(image).stem}_mask.png"
    assert masks["values"] == {"background": 0, "foreground": 255}
    assert values["data.task"] == "segmentation" and values["train.backbone"] == "unet"
    assert values["data.image_size"] == 48 and values["evaluate.score"] == "dice"
    assert (values["data.official"] is None) == (len(tops) == 1)


def test_a_mask_that_is_missing_is_said_before_anything_is_made(tmp_path: Path) -> None:
    root = with_masks(tmp_path)
    (root / "1st_manual/2_manual1.png").unlink()
    with pytest.raises(DataError, match="1st_manual"):
        propose(root)


def test_arrays_of_volumes_and_of_pictures(tmp_path: Path) -> None:
    arrays(tmp_path / "deep/set.npz", (16, 20, 24))
    values = propose(tmp_path / "deep")[1].values
    assert values["data.layout"] == "arrays" and values["data.image_size"] == [16, 20, 24]
    assert values["data.official"] == {"train": "train", "val": "val", "test": "test"}
    assert values["data.classes"] == ["class_0", "class_1"] and values["train.backbone"] == "resnet10_3d"
    assert values["data.normalisation.mean"] == [pytest.approx(0.5, abs=0.01)]
    arrays(tmp_path / "flat/set.npz", (28, 28, 3), ("train", "test"))
    flat = propose(tmp_path / "flat")[1].values
    assert (flat["data.channels"], flat["data.image_size"]) == (3, 28)
    assert "data.normalisation.mean" not in flat


def table(folder: Path, **columns: list[str]) -> dict[str, object]:
    """Propose for 24 pictures and a table with these columns, repeated."""
    for index in range(24):
        draw(folder / f"images/{index}.png")
    cells = {name: [values[index % len(values)] for index in range(24)] for name, values in columns.items()}
    pd.DataFrame({"path": [f"images/{index}.png" for index in range(24)], **cells}).to_csv(
        folder / "labels.csv", index=False
    )
    return propose(folder)[1].values


def test_columns_of_0_and_1_are_labels_of_which_an_image_may_have_several(tmp_path: Path) -> None:
    values = table(tmp_path, patient=["p", "q", "r"], cyst=["0", "1"], **{"mass (any)": ["1", "1", "0"]})
    assert values["data.task"] == "multilabel" and values["evaluate.score"] == "roc_auc"
    assert values["data.classes"] == ["cyst", "mass any"]
    assert values["data.table"] == {
        "file": "labels.csv", "path": "path", "label": ["cyst", "mass (any)"], "split": None, "group": "patient",
    }  # fmt: skip
    assert values["train.label_smoothing"] == 0 and values["validate.min_per_class"] == 12


def test_a_column_of_lists_is_several_labels(tmp_path: Path) -> None:
    values = table(tmp_path, **{"Finding Labels": ["Mass|Edema", "Mass", "No Finding", "Edema"], "sex": ["0", "1"]})
    assert values["data.classes"] == ["Edema", "Mass"]
    found = values["data.table"]
    assert isinstance(found, dict)
    assert (found["label"], found["separator"], found["no_label"]) == ("Finding Labels", "|", "No Finding")


def test_one_named_class_stays_a_class_beside_columns_of_0_and_1(tmp_path: Path) -> None:
    values = table(tmp_path, diagnosis=["ill", "well"], male=["0", "1", "1"], smoker=["0", "0", "1"])
    assert "data.task" not in values and values["data.classes"] == ["ill", "well"]


def test_numbers_are_values(tmp_path: Path) -> None:
    values = table(tmp_path, boneage=[str(40 + 1.5 * index) for index in range(24)], number=list(map(str, range(24))))
    assert values["data.task"] == "regression" and values["data.classes"] == ["boneage"]
    assert values["evaluate.score"] == "r2"


def test_dicom_files_in_class_folders_are_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (40, 48))
    for index in range(12):
        path = tmp_path / f"{'ab'[index % 2]}" / (f"IM{index:04}" if index < 6 else f"{index}.dcm")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(dicom(pixels + index, BodyPartExamined="KNEE"))
    values = propose(tmp_path)[1].values
    assert values["data.layout"] == "folders" and values["data.classes"] == ["a", "b"]
    assert (values["data.channels"], values["data.image_size"]) == (1, 32)
    assert values["data.plausible.modalities"] == ["MR"] and values["data.plausible.body_parts"] == ["KNEE"]
    assert "uint16" in values["validate.modes"]  # type: ignore[operator]


@pytest.mark.parametrize("form", ["series", "nifti"])
def test_volumes_in_class_folders(form: str, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (20, 36, 52)).astype(np.int16)
    for index in range(6):
        folder = tmp_path / f"{'train' if index < 4 else 'test'}/{'ab'[index % 2]}"
        folder.mkdir(parents=True, exist_ok=True)
        if form == "nifti":
            nibabel = pytest.importorskip("nibabel", reason="extra nifti")
            volume = nibabel.Nifti1Image(voxels.transpose(2, 1, 0) + index, np.eye(4))
            nibabel.save(volume, folder / f"patient{index}_1.nii.gz")
            continue
        series = generate_uid()
        (folder / f"patient{index}_1").mkdir()
        for place, plane in enumerate(voxels):
            content = dicom(plane + index, SeriesInstanceUID=series, InstanceNumber=place, Modality="CT")
            (folder / f"patient{index}_1" / f"{place}.dcm").write_bytes(content)
    proposal = propose(tmp_path)[1]
    values = proposal.values
    assert values["data.classes"] == ["a", "b"] and values["data.image_size"] == [16, 32, 48]
    assert values["data.official"] == {"train": "train", "val": None, "test": "test"}
    assert values["train.backbone"] == "resnet10_3d" and values["data.texts.image"] == "volume"
    assert len(values["data.normalisation.mean"]) == 1 and not proposal.warnings  # type: ignore[arg-type]
    assert any("window" in line for line in proposal.lines()) == (form == "series")  # CT needs one
