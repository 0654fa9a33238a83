"""Weights come from safetensors and nothing else."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from hscc.errors import ArtifactError
from hscc.networks.backbones import build
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


@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch.save"])
def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path: Path, write) -> None:
    mark, path = tmp_path / "ran", tmp_path / "model.safetensors"
    with path.open("wb") as file:
        write(Bomb(mark), file)
    with pytest.raises(ArtifactError, match=r"model\.safetensors is not a network written by"):
        load_dense(path)
    assert not mark.exists()
