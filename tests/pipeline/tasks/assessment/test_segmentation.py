from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from hscc.export.to_onnx import write_onnx
from hscc.networks.storage import ModelCard
from hscc.pipeline import layout
from hscc.pipeline.artifacts import Network
from hscc.pipeline.data.loading import normalisation_of
from hscc.pipeline.data.manifest import group_near_copies, scan
from hscc.pipeline.data.splits import assign_splits
from hscc.pipeline.params import Params
from hscc.pipeline.statistics.comparisons import compare
from hscc.pipeline.statistics.predictions import pixel_confusion, read_predictions, to_parquet
from hscc.pipeline.statistics.schema import OnValidation
from hscc.pipeline.tasks.assessment.registry import assessment_of
from hscc.pipeline.tasks.assessment.segmentation import SegmentationAssessment
from hscc.pipeline.tasks.registry import task_of

ROOT = Path(__file__).parents[4]
SIDE = 32


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose red channel is bright where the mask is; the last rows are outside of the field of view."""
    root, rng = tmp_path_factory.mktemp("maps"), np.random.default_rng(0)
    for number in range(9):
        part = root / layout.DATA / ("training" if number < 5 else "test")
        mask, field = np.zeros((SIDE, SIDE), dtype=np.uint8), np.full((SIDE, SIDE), 255, dtype=np.uint8)
        top, left = rng.integers(2, 16, 2)
        mask[top : top + 10, left : left + 12], field[-4:] = 255, 0
        image = rng.integers(40, 60, (SIDE, SIDE, 3)).astype(np.uint8)
        image[..., 0] = np.where(mask > 0, rng.integers(120, 255, mask.shape), 50)
        name = f"{number:02}_{part.name}"
        for folder, levels, file in (
            ("images", image, f"{name}.tif"), ("1st_manual", mask, f"{number:02}_manual1.gif"),
            ("mask", field, f"{name}_mask.gif"),
        ):  # fmt: skip
            (part / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).save(part / folder / file)
    return root


@pytest.fixture(scope="module")
def params() -> Params:
    given = yaml.safe_load((ROOT / "examples" / "retinal-vessels" / "params.yaml").read_text())
    given["data"]["image_size"] = SIDE
    given["evaluate"]["resamples"], given["train"]["precision"] = 100, "fp32"
    given["data"]["train_fraction"], given["data"]["val_fraction"] = 0.5, 0.3
    return Params.model_validate(given)


@pytest.fixture(scope="module")
def manifest(workspace: Path, params: Params) -> pd.DataFrame:
    frame, thumbnails = scan(workspace / layout.DATA, params.data)
    return assign_splits(group_near_copies(frame, thumbnails, 0.99999), params.data)


class Red(nn.Module):
    """Red pixels are vessels, above a level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[1, 0] = 4.0
            self.head.bias.copy_(torch.tensor([4.0 * level, 0.0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Network]:
    """A good one as the baseline and one that finds less."""
    folder, figures = tmp_path_factory.mktemp("networks"), OnValidation(
        score=0.9, kl=0.0, score_before=None, kl_before=None, predicted_loss=None
    )  # fmt: skip
    made = []
    for level, name in ((-0.5, "good"), (1.2, "timid")):
        write_onnx(Red(level).eval(), folder / f"{name}.onnx", (3, SIDE, SIDE))
        made.append(Network(None, 0, "official", folder / f"{name}.onnx", 1, 1, figures))
    return [made[0], replace(made[1], precision="int8")]


def test_networks_are_compared_by_their_maps(
    workspace: Path, params: Params, manifest: pd.DataFrame, networks: list[Network], tmp_path: Path
) -> None:
    assessment = assessment_of(params, manifest, workspace)
    assert isinstance(assessment, SegmentationAssessment)
    rows = assessment.rows("official", "test")
    weights = assessment.weights(rows)
    answers = {network: assessment.answers(network.model, networks[0].model, rows) for network in networks}
    dense, timid = (assessment.evidence(answers[each], answers[networks[0]], rows, weights) for each in networks)
    assert dense.scores["dice"].value > 0.95 > timid.scores["dice"].value > 0.1
    assert dense.scores["kl"].value == pytest.approx(0.0, abs=1e-9) and dense.scores["agreement"].value == 1.0
    assert timid.scores["kl"].value > 0.1 and timid.scores["specificity"].value == 1.0
    assert timid.scores["pixel_roc_auc"].value == pytest.approx(dense.scores["pixel_roc_auc"].value, abs=0.02)
    distances = [each.scores["surface_distance"].value for each in (dense, timid)]
    assert 0 <= distances[0] < 0.5 < distances[1] <= np.hypot(SIDE, SIDE)
    found = compare(timid, dense, "dense")
    assert found.score == "dice" and found.mcnemar_p is None
    assert found.primary.value == pytest.approx(timid.scores["dice"].value - dense.scores["dice"].value)
    assert found.primary.low <= found.primary.value <= found.primary.high < 0

    (tmp_path / "predictions.parquet").write_bytes(to_parquet(assessment.predictions(answers)))
    kept = read_predictions(tmp_path / "predictions.parquet")
    own = kept[kept["network"] == networks[0].name]
    assert own["dice"].mean() == pytest.approx(dense.scores["dice"].value)
    assert pixel_confusion(own, params.data.classes).sum() == len(rows) * SIDE * (SIDE - 4)
    assert assessment.validate(answers[networks[1]], answers[networks[0]], rows) == pytest.approx(
        {"val_dice": timid.scores["dice"].value, "val_kl": timid.scores["kl"].value}
    )


def test_training_and_evaluation_count_alike(
    workspace: Path, params: Params, manifest: pd.DataFrame, networks: list[Network]
) -> None:
    task, assessment = task_of(params), assessment_of(params, manifest, workspace)
    data = params.data
    card = ModelCard("unet", data.classes, data.image_size, "official", 0, 3, normalisation_of(data))
    _, val = task.splits(manifest, card, "official", workspace)
    found = task.scores(val)(Red(1.2).eval())
    rows = assessment.rows("official", "val")
    answers = assessment.answers(networks[1].model, networks[0].model, rows)
    assert found[task.column] == pytest.approx(assessment.validate(answers, answers, rows)["val_dice"], abs=1e-3)
    assert len(task.sample(val, 99, 0)) == len(val)
