"""The loop learns, stops early, keeps the best epoch, and resumes to the same weights after a kill."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hscc.networks.backbones import build
from hscc.training.augmentation import Augmentation
from hscc.training.checkpoint import identity_of
from hscc.training.distillation import agreement, distil, teacher_batch_logits, teacher_logits
from hscc.training.images import Split
from hscc.training.loop import Recipe, epoch_batches, fit
from hscc.training.supervised import cross_entropy, score, train_baseline

RECIPE = Recipe(
    epochs=4, batch_size=16, learning_rate=2e-3, weight_decay=0.01, patience=9, seed=5,
    select="val_accuracy", select_lower=False, precision="fp32",
)  # fmt: skip


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


def _run(folder: Path, recipe: Recipe = RECIPE, on_epoch=_ignore, smoothing: float = 0.05):
    torch.manual_seed(0)
    model = build("smallcnn", 4)
    train, val = _splits()
    history = train_baseline(model, train, val, recipe, smoothing, folder, on_epoch)
    return model, history


def _next(scores: list[float], model: nn.Module) -> dict[str, float]:
    return {"val_accuracy": scores.pop(0)}


def _compared(model, inputs, labels, index, seen, teacher, logits):
    with torch.no_grad():
        seen.append(torch.equal(teacher(inputs), logits[index]))
    return model(inputs).sum() * 0.0, model(inputs)


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    model, history = _run(tmp_path / "c", replace(RECIPE, epochs=8))
    best = max(row["val_accuracy"] for row in history)
    assert best > 0.6
    assert score(model, _splits()[1])["val_accuracy"] == pytest.approx(best)
    assert not (tmp_path / "c").exists()


def test_early_epochs_see_smaller_images(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=5, sizes=(16, 24, 64), patience=1)
    train, _ = _splits()
    sides = [next(epoch_batches(train, recipe, epoch, torch.device("cpu")))[0].shape[-1] for epoch in range(5)]
    assert sides == [16, 16, 24, 24, 32]  # never larger than they are


def test_patience_waits_for_the_last_size(tmp_path: Path) -> None:
    train, _ = _splits()
    recipe = replace(RECIPE, epochs=6, sizes=(16, 16, 32), patience=1)
    loss = partial(cross_entropy, label_smoothing=0.0)
    scores = [0.9, *[0.1] * 5]
    history = fit(build("smallcnn", 4), loss, partial(_next, scores), train, recipe, tmp_path / "c", _ignore)
    assert len(history) == 5  # one more epoch at the last size brought nothing


class KilledError(Exception):
    pass


def _killed(folder: Path, last: int) -> None:
    """Train until an epoch is over and its state is written."""

    def kill(epoch: int, row: dict[str, float]) -> None:
        if epoch == last:
            raise KilledError

    with pytest.raises(KilledError):
        _run(folder, on_epoch=kill)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole, history = _run(tmp_path / "a")
    _killed(tmp_path / "b", 1)
    seen: list[int] = []
    resumed, again = _run(tmp_path / "b", on_epoch=lambda epoch, row: seen.append(epoch))
    assert seen == [0, 1, 2, 3]
    assert again == history
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": replace(RECIPE, learning_rate=1e-3)},
        {"recipe": replace(RECIPE, weight_decay=0.02)},
        {"recipe": replace(RECIPE, warm_up=0.2)},
        {"recipe": replace(RECIPE, augmentation=Augmentation(zoom=0.2))},
        {"smoothing": 0.1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_changed_settings_start_anew(changed: dict[str, Any], tmp_path: Path) -> None:
    _killed(tmp_path / "c", 0)
    model, history = _run(tmp_path / "c", **changed)
    other, fresh = _run(tmp_path / "d", **changed)
    assert history == fresh
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


def _distilled(folder: Path, temperature: float, last: int | None, start: int = 1) -> int:
    """Number of epochs that a distillation trains itself, killed after the `last`."""
    torch.manual_seed(start)
    student = build("smallcnn", 4)
    train, val = _splits()
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(4, 4, 16, 4, generator=generator)
    trained: list[int] = []
    student.register_forward_hook(lambda module, inputs, output: trained.append(1) if module.training else None)
    recipe = replace(RECIPE, select="val_kl", select_lower=True)

    def kill(epoch: int, row: dict[str, float]) -> None:
        if epoch == last:
            raise KilledError

    with suppress(KilledError):
        distil(student, teacher, train, val, torch.randn(32, 4, generator=generator), recipe, temperature, folder, kill)
    return len(trained) // 4


@pytest.mark.parametrize(("temperature", "start", "epochs"), [(2.0, 1, 2), (3.0, 1, 4), (2.0, 2, 4)])
def test_distillation_resumes_under_the_same_settings_only(
    temperature: float, start: int, epochs: int, tmp_path: Path
) -> None:
    assert _distilled(tmp_path / "c", 2.0, last=1) == 2
    assert _distilled(tmp_path / "c", temperature, last=None, start=start) == epochs


def test_a_closure_is_refused_as_a_loss(tmp_path: Path) -> None:
    smoothing = 0.1

    def loss(model, inputs, labels, index):
        return cross_entropy(model, inputs, labels, index, label_smoothing=smoothing)

    with pytest.raises(TypeError, match=r"functools\.partial"):
        fit(build("smallcnn", 4), loss, partial(_next, []), _splits()[0], RECIPE, tmp_path / "c", _ignore)


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
    name: str, bytes_left: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, history = _run(tmp_path / "a")
    _killed(tmp_path / "b", 1)
    os.truncate(tmp_path / "b" / name, bytes_left)
    again, after = _run(tmp_path / "b")
    assert str(tmp_path / "b") in capsys.readouterr().out
    assert after == history
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in whole.state_dict().items())


def test_it_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, (train, _) = build("smallcnn", 4), _splits()
    scores = partial(_next, [0.1, 0.5, 0.4, 0.4, 0.4, 0.4])
    recipe = replace(RECIPE, epochs=6, patience=2)
    loss = partial(cross_entropy, label_smoothing=0.0)
    history = fit(model, loss, scores, train, recipe, tmp_path / "c", _ignore)
    assert [row["epoch"] for row in history] == [0, 1, 2, 3]


def test_distillation_draws_a_student_towards_its_teacher(tmp_path: Path) -> None:
    teacher, _ = _run(tmp_path / "t", replace(RECIPE, epochs=6))
    student = build("smallcnn", 4)
    train, val = _splits()
    targets = teacher_logits(teacher, val)
    before = agreement(student, targets, val)["val_kl"]
    recipe = replace(RECIPE, epochs=8, weight_decay=0.0, select="val_kl", select_lower=True)
    dropout = next(module for module in student.modules() if isinstance(module, torch.nn.Dropout))
    rates = []
    dropout.register_forward_hook(lambda module, inputs, output: rates.append(module.p))
    logits = teacher_batch_logits(teacher, train, recipe)
    distil(student, logits, train, val, targets, recipe, 2.0, tmp_path / "s", _ignore)
    assert set(rates) == {0.0} and dropout.p > 0
    assert agreement(student, targets, val)["val_kl"] < before / 2


def test_the_teachers_logits_are_of_the_very_batches_of_the_loop(tmp_path: Path) -> None:
    teacher = build("smallcnn", 4).eval()
    train, _ = _splits()
    logits = teacher_batch_logits(teacher, train, RECIPE)
    seen: list[bool] = []
    loss = partial(_compared, seen=seen, teacher=teacher, logits=logits)
    fit(build("smallcnn", 4), loss, partial(_next, [0.0] * 4), train, RECIPE, tmp_path / "c", _ignore)
    assert len(seen) == logits.shape[0] * logits.shape[1] and all(seen)


def test_a_network_agrees_with_itself(tmp_path: Path) -> None:
    model = build("smallcnn", 4).eval()
    _, val = _splits()
    assert agreement(model, teacher_logits(model, val), val)["val_kl"] == pytest.approx(0.0, abs=1e-6)


def test_the_start_is_kept_where_training_only_harms(tmp_path: Path) -> None:
    trained, _ = _run(tmp_path / "a", replace(RECIPE, epochs=8))
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    train, val = _splits()
    harmful = replace(RECIPE, epochs=2, learning_rate=10.0, keep_start=True)
    train_baseline(trained, train, val, harmful, 0.05, tmp_path / "b", _ignore)
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
