"""The loop learns, stops early, keeps the best epoch, and resumes to the same weights after a kill."""

from __future__ import annotations

import math
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hscc.errors import TrainingError
from hscc.networks.backbones import build
from hscc.networks.normalisation import Normalisation
from hscc.training import loop
from hscc.training.augmentation import Augmentation
from hscc.training.checkpoint import identity_of
from hscc.training.images import Split
from hscc.training.loop import Recipe, faster_precision, fit
from hscc.training.supervised import cross_entropy, score
from hscc.training.views import Views

RECIPE = Recipe(
    epochs=4, learning_rate=2e-3, weight_decay=0.01, patience=9, seed=5,
    select="val_accuracy", select_lower=False, precision="fp32",
)  # fmt: skip
SHORT = replace(RECIPE, epochs=2)
LOSS = partial(cross_entropy, label_smoothing=0.0)


def _splits() -> tuple[Split, Split]:
    """Grey squares whose bright quadrant, left-right mirrored pairs apart, is the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 4
    images = rng.integers(0, 60, size=(96, 32, 32), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, size = (label // 2) * 16, 8 if label % 2 else 16
        image[top + 2 : top + 2 + size - 4, 8:24] = 220
    rows = np.arange(96)
    return Split(images, rows[:64], labels[:64]), Split(images, rows[64:], labels[64:])


def _ignore(epoch: int, row: dict[str, float]) -> None:
    return None


def _views() -> Views:
    return Views(_splits()[0], 16, 5)


def _run(folder: Path, recipe: Recipe = RECIPE, on_epoch=_ignore, smoothing: float = 0.05, views: Views | None = None):
    torch.manual_seed(0)
    model = build("smallcnn", 4)
    loss, evaluate = partial(cross_entropy, label_smoothing=smoothing), partial(score, split=_splits()[1])
    history = fit(model, loss, evaluate, views or _views(), recipe, folder, on_epoch)
    return model, history


def _next(scores: list[float], model: nn.Module) -> dict[str, float]:
    return {"val_accuracy": scores.pop(0)}


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    model, history = _run(tmp_path / "c", replace(RECIPE, epochs=8))
    best = max(row["val_accuracy"] for row in history)
    assert best > 0.6
    assert score(model, _splits()[1])["val_accuracy"] == pytest.approx(best)
    assert not (tmp_path / "c").exists()


def test_patience_waits_until_the_run_is_settled(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=6, settled=4, patience=1)
    scores = partial(_next, [0.9, *[0.1] * 5])
    history = fit(build("smallcnn", 4), LOSS, scores, _views(), recipe, tmp_path / "c", _ignore)
    assert len(history) == 5  # one more epoch from there on brought nothing


def test_the_faster_precision_leaves_the_network_as_it_was() -> None:
    model = build("smallcnn", 4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batch = next(iter(_views()(0)))
    assert faster_precision(model, LOSS, batch, calls=1) in ("bf16", "fp32")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_resumed_run_keeps_the_precision_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter(["bf16"])
    monkeypatch.setattr(loop, "faster_precision", lambda *_: next(found))
    auto = replace(RECIPE, precision="auto")
    with pytest.raises(KilledError):
        _run(tmp_path / "c", auto, on_epoch=partial(_kill_after, last=1))
    model, history = _run(tmp_path / "c", auto)  # asks no second time
    other, whole = _run(tmp_path / "d", replace(RECIPE, precision="bf16"))
    assert [row["train_loss"] for row in history] == [row["train_loss"] for row in whole]
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


class KilledError(Exception):
    pass


def _kill_after(epoch: int, row: dict[str, float], *, last: int) -> None:
    if epoch == last:
        raise KilledError


def _killed(folder: Path, last: int, recipe: Recipe) -> Path:
    """Train until an epoch is over and its state is written."""
    with pytest.raises(KilledError):
        _run(folder, recipe, on_epoch=partial(_kill_after, last=last))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    """A network trained to the end, and its history."""
    return _run(tmp_path_factory.mktemp("whole") / "a")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the same run leaves that is killed after its second of four epochs; to be copied."""
    return _killed(tmp_path_factory.mktemp("half") / "b", 1, RECIPE)


@pytest.fixture(scope="module")
def first_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that is killed after its first of two epochs; to be copied."""
    return _killed(tmp_path_factory.mktemp("first") / "c", 0, SHORT)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path, finished, half: Path) -> None:
    whole, history = finished
    shutil.copytree(half, tmp_path / "b")
    seen: list[int] = []
    resumed, again = _run(tmp_path / "b", on_epoch=lambda epoch, row: seen.append(epoch))
    assert seen == [0, 1, 2, 3]
    assert again == history
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": replace(SHORT, learning_rate=1e-3)},
        {"recipe": replace(SHORT, weight_decay=0.02)},
        {"recipe": replace(SHORT, warm_up=0.2)},
        {"views": replace(_views(), augmentation=Augmentation(zoom=0.2))},
        {"smoothing": 0.1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_changed_settings_start_anew(changed: dict[str, Any], tmp_path: Path, first_of_two: Path) -> None:
    shutil.copytree(first_of_two, tmp_path / "c")
    settings = {"recipe": SHORT, **changed}
    model, history = _run(tmp_path / "c", **settings)
    other, fresh = _run(tmp_path / "d", **settings)
    assert history == fresh
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_closure_is_refused_as_a_loss(tmp_path: Path) -> None:
    smoothing = 0.1

    def loss(model, batch):
        return cross_entropy(model, batch, label_smoothing=smoothing)

    with pytest.raises(TypeError, match=r"functools\.partial"):
        fit(build("smallcnn", 4), loss, partial(_next, []), _views(), RECIPE, tmp_path / "c", _ignore)


def test_an_identity_differs_with_each_of_its_parts() -> None:
    train, val = _splits()
    relabelled = replace(train, labels=(train.labels + 1) % 4)
    repainted = replace(train, images=train.images + 1)
    parts: list[tuple[object, ...]] = [
        (RECIPE, train), (RECIPE, val), (RECIPE, relabelled), (RECIPE, repainted), (RECIPE, None), (RECIPE,),
        (replace(RECIPE, seed=6), train), (cross_entropy,), (score,), (partial(score, split=val),),
        (1,), (1.0,), ("1",), (nn.Linear(2, 2),),
        (nn.Sequential(nn.Linear(2, 2)),), (torch.zeros(0),), (torch.zeros(2, 2),),
        (torch.zeros(4),),
    ]  # fmt: skip
    assert len({identity_of(*each) for each in parts}) == len(parts)
    assert identity_of(RECIPE, train) == identity_of(replace(RECIPE), replace(train, images=train.images.copy()))


@pytest.mark.parametrize("name", ["state.safetensors", "best.safetensors"])
@pytest.mark.parametrize("bytes_left", [0, 1000])
def test_a_damaged_checkpoint_is_reported_and_training_begins_anew(
    name: str, bytes_left: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], finished, half: Path
) -> None:
    whole, history = finished
    shutil.copytree(half, tmp_path / "b")
    os.truncate(tmp_path / "b" / name, bytes_left)
    again, after = _run(tmp_path / "b")
    assert str(tmp_path / "b") in capsys.readouterr().out
    assert after == history
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in whole.state_dict().items())


def test_it_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build("smallcnn", 4)
    scores = partial(_next, [0.1, 0.5, 0.4, 0.4, 0.4, 0.4])
    recipe = replace(RECIPE, epochs=6, patience=2)
    history = fit(model, LOSS, scores, _views(), recipe, tmp_path / "c", _ignore)
    assert [row["epoch"] for row in history] == [0, 1, 2, 3]


def test_the_start_is_kept_where_training_only_harms(tmp_path: Path) -> None:
    trained, _ = _run(tmp_path / "a", replace(RECIPE, epochs=8))
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    harmful = replace(RECIPE, epochs=2, learning_rate=10.0, keep_start=True)
    fit(
        trained,
        partial(cross_entropy, label_smoothing=0.05),
        partial(score, split=_splits()[1]),
        _views(),
        harmful,
        tmp_path / "b",
        _ignore,
    )
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())


def test_a_loss_that_is_no_number_is_an_error_and_no_result(tmp_path: Path) -> None:
    model = build("smallcnn", 4)
    nn.init.constant_(next(model.parameters()), math.nan)
    with pytest.raises(TrainingError):
        fit(model, LOSS, partial(_next, [0.5]), _views(), RECIPE, tmp_path / "c", _ignore)


def test_volumes_are_trained_in_fp32_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "pick_device", lambda: torch.device("cpu"))
    used: list[str] = []
    monkeypatch.setattr(loop, "autocast", lambda precision, device: used.append(precision) or nullcontext())
    volumes = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 16), dtype=np.uint8)
    split = Split(volumes, np.arange(8), np.arange(8) % 2, Normalisation((0.5,), (0.5,)))
    recipe = replace(RECIPE, epochs=1, precision="bf16")
    with pytest.warns(UserWarning, match="computing in fp32"):
        fit(build("resnet10_3d", 2), LOSS, partial(_next, [0.5]), Views(split, 4, 0), recipe, tmp_path / "c", _ignore)
    assert set(used) == {"fp32"}
