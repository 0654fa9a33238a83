"""The champion behind `mlflow models serve`, asked over HTTP as docs/registry.md says."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hscc.export.card import NOTICE
from hscc.pipeline.commands import predict
from hscc.pipeline.commands.promote import promote
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.registry.audit_log import CHAMPION
from hscc.pipeline.tracking import tracking_uri
from tests.pipeline.pictures import dicom, encoded, uniform
from tests.pipeline.registered import NAME, head, params

START_SECONDS = 900  # two busy cores import PyTorch and MLflow


@pytest.fixture(scope="module")
def workspace(three_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a champion."""
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copy(three_versions / "mlflow.db", workspace)
    promote(params(), workspace, "2")
    return workspace


@pytest.fixture(scope="module")
def address(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the champion is served, from an empty folder and without an hscc of its own.

    The only `hscc` that the server could import, were it not for the one kept with the version, raises.
    """
    folder, decoy = tmp_path_factory.mktemp("elsewhere"), tmp_path_factory.mktemp("decoy")
    (decoy / "hscc").mkdir()
    (decoy / "hscc" / "__init__.py").write_text("raise ImportError('the served model took the hscc of the machine')\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = f"http://127.0.0.1:{port}"
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(decoy), os.environ["PYTHONPATH"]]),
        "MLFLOW_TRACKING_URI": tracking_uri(workspace),
    }
    log = folder.with_suffix(".log")
    with log.open("wb") as said:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("mlflow"), "models", "serve", "-m", f"models:/{NAME}@{CHAMPION}",
             "--env-manager", "local", "--port", str(port)],
            cwd=folder, env=env, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(f"{found}/ping", server, log)
        yield found
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the server does not answer:\n{log.read_text()[-3000:]}")


def ask(address: str, *records: dict[str, Any]) -> tuple[int, Any]:
    """Post records and give the status and the document."""
    body = json.dumps({"dataframe_records": records}).encode()
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=900) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


FILES = {
    "slice.png": encoded(Image.fromarray(head())),
    "slice.jpg": encoded(Image.fromarray(head()), "JPEG"),
    "slice.dcm": dicom(head()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_answered_as_predict_answers_it(name: str, address: str, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    _, (expected,) = predict.run(params(), [tmp_path / name], workspace, which=CHAMPION)
    status, document = ask(address, {"image": in_base64(FILES[name])})
    assert status == 200
    (found,) = document["predictions"]
    assert {one: found[one] for one in CLASSES} == pytest.approx(dict(expected.probabilities), abs=1e-6)
    assert (found["class"], found["notice"]) == (expected.label, NOTICE)


def test_raw_pixels_are_answered_as_their_png_file(address: str) -> None:
    _, by_file = ask(address, {"image": in_base64(FILES["slice.png"])})
    status, by_pixels = ask(address, {"pixels": head().tolist()})
    assert (status, by_pixels) == (200, by_file)


def test_each_record_has_its_own_answer(address: str) -> None:
    status, document = ask(address, *({"image": in_base64(content)} for content in FILES.values()))
    assert status == 200
    assert len(document["predictions"]) == len(FILES)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"image": in_base64(uniform())}, "row 0 does not look like a brain MRI slice: it is nearly uniform"),
        ({"image": in_base64(b"hello")}, "row 0 is not a JPEG, PNG or DICOM picture"),
        ({"pixels": [[0, 300]]}, "row 0 holds pixels outside of 0 to 255"),
        ({"picture": "?"}, "the request has neither image nor pixels"),
    ],
)
def test_what_is_no_slice_is_refused_in_one_sentence(record: dict[str, Any], words: str, address: str) -> None:
    status, document = ask(address, record)
    assert status == 400
    assert document["message"].startswith(words)
    assert "\n" not in document["message"]
    assert "stack_trace" not in document


def test_one_bad_record_is_named_among_good_ones(address: str) -> None:
    status, document = ask(address, {"image": in_base64(FILES["slice.png"])}, {"image": in_base64(uniform())})
    assert status == 400
    assert document["message"].startswith("row 1 does not look like")
