"""Weights come from safetensors and nothing else."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hscc.errors import ArtifactError
from hscc.networks.backbones import build
from hscc.networks.normalisation import Normalisation
from hscc.networks.storage import ModelCard, load_dense, save_dense

CARD = ModelCard("smallcnn", ("a", "b"), 32, "grouped", 7)


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_network_reads_back_as_written(tmp_path: Path) -> None:
    model = build("smallcnn", 2)
    save_dense(model, CARD, tmp_path / "model.safetensors")
    read, card = load_dense(tmp_path / "model.safetensors")
    assert card == CARD and not read.training
    assert all(torch.equal(value, read.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("image_size", "shape"), [(32, (1, 32, 32)), ((24, 32), (1, 24, 32)), ((8, 24, 32), (1, 8, 24, 32))]
)
def test_a_card_knows_the_shape_of_an_input(tmp_path: Path, image_size: int | tuple[int, ...], shape) -> None:
    card = replace(CARD, image_size=image_size, normalisation=Normalisation((0.5,), (0.5,)))
    save_dense(build("smallcnn", 2), card, tmp_path / "model.safetensors")
    read = load_dense(tmp_path / "model.safetensors")[1]
    assert read == card and read.input_shape == shape
    assert CARD.input_shape == (3, 32, 32)


@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch.save"])
def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path: Path, write) -> None:
    mark, path = tmp_path / "ran", tmp_path / "model.safetensors"
    with path.open("wb") as file:
        write(Bomb(mark), file)
    with pytest.raises(ArtifactError, match=r"model\.safetensors is not a network written by"):
        load_dense(path)
    assert not mark.exists()
