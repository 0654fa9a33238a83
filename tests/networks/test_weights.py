"""Weights trained elsewhere fit whole or are refused; a network's answer has the shape that the spec asks for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from hscc.errors import ArtifactError, HSCCError, ParamsError
from hscc.networks.backbones import build
from hscc.networks.storage import ModelCard, load_dense, save_dense
from hscc.networks.weights import check_answer, load_weights


def network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


@pytest.mark.parametrize("form", ["safetensors", "pt", "checkpoint", "parallel"])
def test_weights_are_read_in_the_forms_that_training_leaves(form: str, tmp_path: Path) -> None:
    given, model = network(), network()
    state = given.state_dict()
    if form == "safetensors":
        path = tmp_path / "w.safetensors"
        safetensors.torch.save_file(state, path)
    else:
        path = tmp_path / "w.pt"
        wrapped = {f"module.{name}": value for name, value in state.items()}
        torch.save({"pt": state, "checkpoint": {"epoch": 3, "state_dict": state}, "parallel": wrapped}[form], path)
    load_weights(model, path)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(images), given(images))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("3.bias"), r"lacks 3\.bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda state: state.update({"3.bias": torch.zeros(9)}), r"3\.bias \(9,\) where the network has \(3,\)"),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_loaded(change, named: str, tmp_path: Path) -> None:
    model, path = network(), tmp_path / "w.safetensors"
    state = {name: value + 1 for name, value in network().state_dict().items()}
    change(state)
    safetensors.torch.save_file(state, path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ArtifactError, match=named) as raised:
        load_weights(model, path)
    assert "w.safetensors" in str(raised.value) and "train.backbone" in str(raised.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Code:
    def __reduce__(self) -> tuple:
        return (print, ("executed",))


@pytest.mark.parametrize("content", ["missing", "garbage", "code", "numbers"])
def test_a_file_without_weights_is_refused_and_runs_nothing(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "w.pt"
    if content == "garbage":
        path.write_bytes(b"garbage")
    elif content != "missing":
        torch.save(Code() if content == "code" else [1, 2], path)
    with pytest.raises(ArtifactError, match=r"w\.pt"):
        load_weights(network(), path)
    assert "executed" not in capsys.readouterr().out


def test_a_network_that_answers_with_something_else_is_named() -> None:
    check_answer(network(3), "mine:net", (3, 8, 8), (3,))
    with pytest.raises(ParamsError, match=r"mine:net.*\(1, 3\).*\(1, 2\)"):
        check_answer(network(3), "mine:net", (3, 8, 8), (2,))
    with pytest.raises(ParamsError, match=r"mine:net.*fails.*\(1, 3, 2, 2\)"):
        check_answer(network(3), "mine:net", (3, 2, 2), (3,))


MODULE = """
from torch import nn
def net(classes): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
def fails(classes): raise KeyError("depth")
def number(classes): return classes
"""


def test_a_network_of_the_users_own_is_found_again_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_of_a_test.py").write_text(MODULE)
    path = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        model = build("own_of_a_test:net", 2).eval()
        save_dense(model, ModelCard("own_of_a_test:net", ("a", "b"), 8, "grouped", 0), path)
        images = torch.randn(1, 3, 8, 8)
        assert torch.equal(load_dense(path)[0](images), model(images))
        for function, named in (("other", "no function other"), ("fails", "number of classes, 2"), ("number", "int")):
            with pytest.raises(ParamsError, match=named):
                build(f"own_of_a_test:{function}", 2)
    sys.modules.pop("own_of_a_test")
    with pytest.raises(HSCCError, match=r"own_of_a_test.*folder of params\.yaml"):
        load_dense(path)
