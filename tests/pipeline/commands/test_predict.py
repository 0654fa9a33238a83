"""`hscc predict` with a deployed file: the engine answers as the portable file does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import hscc
from hscc.errors import ArtifactError, ParamsError
from hscc.files import file_sha256
from hscc.networks.backbones import build
from hscc.pipeline.cli.main import app
from hscc.pipeline.commands.export import run_folder
from hscc.pipeline.commands.predict import Answer, as_table, run_file
from hscc.pipeline.serving.network import Network
from hscc.pipeline.serving.served_model import ServedNetwork
from hscc.storage import Origin, save
from hscc.timing.runtimes import RUNTIMES, EngineRuntime
from tests.pipeline.registered import head

SIDE, NAMES = 32, ("a", "b", "c", "d")
needs_engine = pytest.mark.skipif(not RUNTIMES["engine"].available, reason=RUNTIMES["engine"].missing())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compressed network in both deployed forms, and two pictures of different sizes."""
    folder = tmp_path_factory.mktemp("deployed")
    torch.manual_seed(0)
    dense = build("smallcnn", len(NAMES)).eval()
    small = hscc.compress(
        dense, [torch.randn(24, 3, SIDE, SIDE)], hscc.GlobalSVD(), hscc.Budget(macs=2), cells=1, refit=False
    )
    save(small, folder / "saved", Origin("smallcnn", len(NAMES)))
    for form in ("small.onnx", "small.hscc"):
        run_folder(folder / "saved", SIDE, NAMES, folder / form)
    for number, side in enumerate((96, 150)):
        Image.fromarray(head(number, side)).save(folder / f"{number}.png")
    return folder


@needs_engine
def test_the_engine_answers_as_the_portable_file_does(folder: Path) -> None:
    pictures = [folder / "0.png", folder / "1.png"]
    ours, theirs = (run_file(folder / form, pictures) for form in ("small.hscc", "small.onnx"))
    for found, expected in zip(ours, theirs, strict=True):
        assert tuple(found.probabilities) == NAMES
        assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-4)


@needs_engine
def test_the_command_takes_a_file_and_needs_no_workspace(folder: Path) -> None:
    said = CliRunner().invoke(app, ["predict", str(folder / "small.hscc"), str(folder / "0.png"), "--json"])
    assert said.exit_code == 0, said.output
    document = json.loads(said.output)
    assert document["model"] == str(folder / "small.hscc") and document["answers"][0]["label"] in NAMES
    assert CliRunner().invoke(app, ["predict", str(folder / "small.hscc")]).exit_code == 2


def test_a_runtime_that_does_not_read_the_file_is_refused(folder: Path) -> None:
    for form, runtime in (("small.hscc", "onnxruntime"), ("small.onnx", "engine")):
        with pytest.raises(ParamsError, match=f"does not run in {runtime}"):
            run_file(folder / form, [folder / "0.png"], runtime=runtime)


@needs_engine
def test_an_engine_file_that_says_nothing_of_pictures_is_refused(folder: Path, tmp_path: Path) -> None:
    from hscc.engine.export import export_engine

    export_engine(hscc.load(folder / "saved"), tmp_path / "bare.hscc", input_shape=(3, SIDE, SIDE))
    with pytest.raises(ArtifactError, match=r"bare\.hscc does not say how pictures become its input"):
        Network(tmp_path / "bare.hscc", NAMES)


@pytest.mark.parametrize(
    ("runtime", "available", "form"),
    [
        ("auto", True, "small.hscc"),
        ("auto", False, "small.onnx"),
        ("onnxruntime", True, "small.onnx"),
        ("engine", True, "small.hscc"),
    ],
)
def test_the_served_model_runs_in_the_engine_where_it_can(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, available: bool, form: str
) -> None:
    opened: list[Path] = []

    class Opened:
        def __init__(self, path: Path, classes: Any, sha256: str, runtime: str) -> None:
            assert file_sha256(path) == sha256
            opened.append(path)

    monkeypatch.setattr("hscc.pipeline.serving.served_model.Network", Opened)
    monkeypatch.setattr(EngineRuntime, "missing", lambda self: "" if available else "no library")
    files = {"model": folder / "small.onnx", "engine": folder / "small.hscc"}
    hashes = {"deployed_sha256": file_sha256(files["model"]), "engine_sha256": file_sha256(files["engine"])}
    config = {"classes": list(NAMES), "runtime": runtime, **hashes}
    context = SimpleNamespace(artifacts={key: str(path) for key, path in files.items()}, model_config=config)
    ServedNetwork().load_context(context)
    assert [path.name for path in opened] == [form]


def test_a_version_without_a_file_for_the_engine_is_served_by_onnx_runtime(folder: Path) -> None:
    path = folder / "small.onnx"
    config = {"classes": list(NAMES), "deployed_sha256": file_sha256(path)}
    served = ServedNetwork()
    served.load_context(SimpleNamespace(artifacts={"model": str(path)}, model_config=config))
    assert np.allclose(served._network.probabilities([head()]).sum(), 1.0)


@pytest.mark.parametrize("classes", [4, 7])
def test_the_table_names_file_class_and_probabilities_of_few_and_many_classes(classes: int) -> None:
    labels = [f"kind_{number}" for number in range(classes)]
    shares = {label: (number + 1) / sum(range(classes + 1)) for number, label in enumerate(labels)}
    names = {label: label.replace("_", " ") for label in labels}
    shown = as_table([Answer("a.png", labels[-1], shares, names)], Path("small.onnx"))
    text = io.StringIO()
    Console(file=text, width=100).print(shown)
    for word in ("a.png", f"kind {classes - 1}", f"{100 * shares[labels[-1]]:.1f}", f"{100 * shares[labels[-2]]:.1f}"):
        assert word in text.getvalue()
