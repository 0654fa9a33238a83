"""Fine-tuning draws a network towards its dense one, never makes it worse, and resumes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import hscc
from hscc.errors import CompressionError
from hscc.outputs import Outputs
from hscc.training.finetuning import Finetuned, Finetuning, answers, finetune

RECIPE = Finetuning(epochs=3, learning_rates=(1e-3, 3e-3), trial_steps=3, precision="fp32", mixup=0.0)
BATCHES = list(torch.randn(96, 3, 12, 12, generator=torch.Generator().manual_seed(0)).split(16))
VALIDATION = list(torch.randn(32, 3, 12, 12, generator=torch.Generator().manual_seed(1)).split(16))


def _network(outputs: int = 4, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.5), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(96, outputs),
    )  # fmt: skip
    with torch.no_grad():
        network[-1].weight.mul_(20)  # answers that differ from image to image
    return network


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    return _network().eval()


@pytest.fixture(scope="module")
def small(dense: nn.Module) -> nn.Module:
    return hscc.compress(dense, BATCHES, hscc.HSCC(), hscc.Budget(macs=8, only=True), refit=False)


def _later(batches: list[torch.Tensor], epoch: int) -> list[torch.Tensor]:
    return batches[epoch:] + batches[:epoch]


def _divergence(small: nn.Module, dense: nn.Module, output: Outputs) -> float:
    found, targets = (answers(network, VALIDATION, output) for network in (small, dense))
    return float(output.divergence(found, targets).mean())


def test_a_compressed_network_comes_nearer_to_its_dense_one(small: nn.Module, dense: nn.Module) -> None:
    given = {key: value.clone() for key, value in small.state_dict().items()}
    done = finetune(small, dense, BATCHES, VALIDATION, RECIPE)
    assert done.after["val_kl"] < 0.7 * done.before["val_kl"]
    assert done.after["val_kl"] == pytest.approx(_divergence(done.network, dense, Outputs()), rel=1e-4)
    assert all(torch.equal(value, given[key]) for key, value in small.state_dict().items())
    assert done.network.hscc_plan == small.hscc_plan
    assert {module.p for module in done.network.modules() if isinstance(module, nn.modules.dropout._DropoutNd)} == {0.5}


def test_the_best_trial_decides_the_learning_rate(small: nn.Module, dense: nn.Module) -> None:
    rates = (1e-7, 3e-3)
    done = finetune(small, dense, BATCHES, VALIDATION, replace(RECIPE, learning_rates=rates, epochs=1))
    assert [trial.learning_rate for trial in done.trials] == list(rates)
    assert done.learning_rate == min(done.trials, key=lambda trial: trial.divergence).learning_rate == 3e-3


def test_it_never_makes_a_network_worse(small: nn.Module, dense: nn.Module) -> None:
    done = finetune(small, dense, BATCHES, VALIDATION, replace(RECIPE, learning_rates=(30.0,), epochs=1))
    assert done.after["val_kl"] <= done.before["val_kl"]


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_a_killed_run_resumes_to_the_same_weights(
    mixup: float, small: nn.Module, dense: nn.Module, tmp_path: Path
) -> None:
    def kill(epoch: int, row: dict[str, float]) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    def run(folder: Path, on_epoch: Callable[[int, dict[str, float]], None] | None = None) -> Finetuned:
        recipe = replace(RECIPE, mixup=mixup)
        draw = partial(_later, BATCHES)
        return finetune(small, dense, draw, VALIDATION, recipe, checkpoint=folder, on_epoch=on_epoch)

    whole = run(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", kill)
    seen: list[int] = []
    resumed = run(tmp_path / "b", lambda epoch, row: seen.append(epoch))
    assert resumed.history == whole.history and resumed.trials == whole.trials and seen == [0, 1, 2]
    again = resumed.network.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in whole.network.state_dict().items())
    assert not (tmp_path / "b").exists()


def test_another_network_does_not_take_up_a_killed_run(small: nn.Module, dense: nn.Module, tmp_path: Path) -> None:
    def kill(epoch: int, row: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(small, dense, BATCHES, VALIDATION, RECIPE, checkpoint=tmp_path / "c", on_epoch=kill)
    other = _network(seed=1).eval()
    resumed = finetune(small, other, BATCHES, VALIDATION, RECIPE, checkpoint=tmp_path / "c")
    fresh = finetune(small, other, BATCHES, VALIDATION, RECIPE)
    assert resumed.history == fresh.history


@pytest.mark.parametrize("output", [Outputs("independent"), Outputs("values")], ids=lambda output: output.kind)
def test_other_tasks_are_distilled_by_their_own_divergence(output: Outputs, dense: nn.Module) -> None:
    student = _network(seed=2).eval()
    done = finetune(student, dense, BATCHES, VALIDATION, replace(RECIPE, epochs=4), output=output)
    assert _divergence(done.network, dense, output) < 0.5 * _divergence(student, dense, output)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("epochs", 0), ("learning_rates", ()), ("mixup", -1.0), ("temperature", 0.0), ("precision", "fp8")],
)
def test_settings_out_of_range_are_named(setting: str, value: object) -> None:
    with pytest.raises(CompressionError, match=setting):
        replace(RECIPE, **{setting: value})


def test_no_batches_is_an_error(small: nn.Module, dense: nn.Module) -> None:
    with pytest.raises(CompressionError, match="batch"):
        finetune(small, dense, [], VALIDATION, RECIPE)
    with pytest.raises(CompressionError, match="validation"):
        finetune(small, dense, BATCHES, [], RECIPE)


def test_batches_that_can_be_read_only_once_are_an_error(small: nn.Module, dense: nn.Module) -> None:
    with pytest.raises(CompressionError, match="once"):
        finetune(small, dense, iter(BATCHES), VALIDATION, RECIPE)


SHORT = replace(RECIPE, epochs=1, learning_rates=(1e-3,))


def test_frozen_layers_stay_as_they_are_in_any_precision(small: nn.Module, dense: nn.Module) -> None:
    frozen = copy.deepcopy(small)
    frozen[-1].requires_grad_(False)
    tuned = finetune(frozen, dense, BATCHES, VALIDATION, replace(SHORT, precision="auto"))
    for name, value in frozen[-1].state_dict().items():
        assert torch.equal(tuned.network[-1].state_dict()[name], value)


def test_batches_of_another_dtype_fit_and_no_network_overwrites_them() -> None:
    dense = nn.Sequential(nn.ReLU(inplace=True), _network()).double().eval()
    small = hscc.compress(dense, BATCHES, hscc.HSCC(), hscc.Budget(macs=8, only=True), refit=False)
    batches = [batch.double() for batch in BATCHES]
    finetune(small, dense, BATCHES, VALIDATION, SHORT)
    finetune(small, dense, batches, VALIDATION, SHORT)
    assert all(torch.equal(batch, given.double()) for batch, given in zip(batches, BATCHES, strict=True))


def test_other_files_of_the_checkpoint_folder_stay(small: nn.Module, dense: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    finetune(small, dense, BATCHES, VALIDATION, SHORT, checkpoint=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


class _Shared(nn.Module):
    """One head under two names."""

    def __init__(self) -> None:
        super().__init__()
        head = nn.Linear(16, 4)
        self.conv, self.heads = nn.Conv2d(3, 16, 3), nn.ModuleList([head, head])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x)).mean((2, 3))
        return sum(head(x) for head in self.heads)


def test_shared_weights_are_tuned_and_saved(tmp_path: Path) -> None:
    dense = _Shared().eval()
    small = hscc.compress(dense, BATCHES, hscc.HSCC(), hscc.Budget(macs=2, only=True), refit=False)
    tuned = finetune(small, dense, BATCHES, VALIDATION, SHORT).network
    hscc.save(tuned, tmp_path / "small")
    read = hscc.load(tmp_path / "small", _Shared())
    torch.testing.assert_close(read(VALIDATION[0]), tuned(VALIDATION[0]))


@pytest.mark.parametrize(("epochs", "warm_up"), [(4, 0.2), (9, 0.1)])
def test_a_warm_up_of_one_step_is_no_division_by_zero(
    epochs: int, warm_up: float, small: nn.Module, dense: nn.Module
) -> None:
    tuned = finetune(small, dense, BATCHES[:1], VALIDATION, replace(SHORT, epochs=epochs, warm_up=warm_up))
    assert tuned.history
    assert all(0 < row["learning_rate"] <= SHORT.learning_rates[0] for row in tuned.history)


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.age, self.head = nn.Conv2d(3, 24, 3), nn.Linear(2, 24), nn.Linear(24, 3)

    def forward(self, image: torch.Tensor, age: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": 20 * self.head(torch.relu(self.image(image).mean((2, 3)) + self.age(age)))}


def test_networks_of_several_inputs_are_fine_tuned() -> None:
    dense = _TwoInputs().eval()
    student = copy.deepcopy(dense)
    with torch.no_grad():
        student.image.weight.mul_(0.5)
    given = [{"image": batch, "age": batch[:, 0, 0, :2]} for batch in BATCHES]
    done = finetune(student, dense, given[:4], given[4:], replace(RECIPE, mixup=1.0, epochs=8))
    assert done.after["val_kl"] < 0.7 * done.before["val_kl"]
