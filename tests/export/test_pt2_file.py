"""The archive of torch.export: the same answers without this library, and nothing to unpickle."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hscc
from hscc.errors import ExportError
from hscc.export.card import DeploymentCard
from hscc.export.preprocessing import Preprocessing
from hscc.export.pt2_file import refuse_pickles
from tests.export.conftest import SIDE, as_batch, run_without

CARD = DeploymentCard(("a", "b", "c"), protocol="grouped")


@pytest.fixture(scope="module")
def exported(network: nn.Module, pictures: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "network.pt2"
    assert hscc.export_pt2(network, path, Preprocessing(SIDE), CARD, pictures=pictures) <= 1e-4
    return path


def test_a_card_of_other_classes_is_refused(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="classes"):
        hscc.export_pt2(network, tmp_path / "x.pt2", Preprocessing(SIDE), DeploymentCard(("a", "b")))
    assert not list(tmp_path.iterdir())


def test_it_runs_without_this_library(exported: Path, network: nn.Module, pictures: list) -> None:
    np.save(exported.parent / "picture.npy", as_batch(pictures[1], 3))
    program = """
import numpy as np, torch
card = {"card.json": ""}
network = torch.export.load("network.pt2", extra_files=card).module()
print(network(torch.from_numpy(np.load("picture.npy"))).tolist())
print(card["card.json"].decode() if isinstance(card["card.json"], bytes) else card["card.json"])
"""
    probabilities, card = run_without(("hscc", "torchvision"), program, exported.parent).split("\n", 1)
    with torch.no_grad():
        expected = torch.softmax(network.eval()(Preprocessing(SIDE).prepare(pictures[1])), 1)
    np.testing.assert_allclose(json.loads(probabilities), expected.repeat(3, 1), atol=1e-5)
    assert json.loads(card)["protocol"] == "grouped"


def test_weights_are_raw_bytes_and_no_file_of_this_machine_is_named(exported: Path, network: nn.Module) -> None:
    refuse_pickles(exported)
    with zipfile.ZipFile(exported) as archive:
        contents = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    assert network[0].weight.detach().numpy().tobytes() in contents.values()
    assert not any(b".py" in content for content in contents.values())
    assert not any(content.startswith(b"PK") or b"\x80\x02" in content[:2] for content in contents.values())


def test_an_archive_that_would_unpickle_is_refused(exported: Path, tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "sample_inputs.pt2")
    with pytest.raises(ExportError, match=r"holds a pickle \(.*sample_inputs"):
        refuse_pickles(tmp_path / "sample_inputs.pt2")
    flagged = tmp_path / "weights.pt2"
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(flagged, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry).replace(b'"use_pickle": false', b'"use_pickle": true'))
    with pytest.raises(ExportError, match=r"holds a pickle \(network\.0"):
        refuse_pickles(flagged)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO(b"not a zip")
    (tmp_path / "network.pt2").write_bytes(buffer.getvalue())
    with pytest.raises(ExportError, match="export it again"):
        refuse_pickles(tmp_path / "network.pt2")


def test_another_ending_is_refused_before_any_work(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"must end in \.pt2"):
        hscc.export_pt2(network, tmp_path / "network.pt")
