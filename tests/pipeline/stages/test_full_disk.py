"""A disk that is really full: a small tmpfs, where this machine lets a test mount one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from hscc.pipeline import layout
from hscc.pipeline.cli.main import app
from hscc.pipeline.stages import register
from hscc.pipeline.tracking import tracking_uri
from tests.pipeline.registered import NAME, params, write_results


def mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return bool(shutil.which("mount")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder that holds 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not mount(folder, "size=2m"):
        pytest.skip("this machine lets nobody mount a tmpfs here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_stage_says_so_and_the_same_command_finishes_later(small: Path) -> None:
    assert mount(small, "remount,size=128k")
    command = ["phantom", str(small / "data"), "--train-per-class", "9", "--test-per-class", "3"]
    full = CliRunner().invoke(app, [*command, "--duplicates", "0", "--size", "128"])
    assert full.exit_code == 1
    assert "error: the disk is full" in full.output
    assert "run the same command again" in full.output
    assert mount(small, "remount,size=64m")
    done = CliRunner().invoke(app, [*command, "--duplicates", "0", "--size", "128"])
    assert done.exit_code == 0, done.output
    assert len(list((small / "data").rglob("*.jpg"))) == 4 * 12


def test_nothing_is_half_registered_and_the_next_time_it_is(small: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, small)
    write_results(small)
    client = MlflowClient(tracking_uri(small))
    with pytest.raises(OSError, match="No space left"):
        register.run(params(), small)
    assert client.search_model_versions(f"name = '{NAME}'") == []
    assert mount(small, "remount,size=256m")
    register.run(params(), small)
    (version,) = client.search_model_versions(f"name = '{NAME}'")
    assert client.get_model_version_by_alias(NAME, "challenger").version == version.version
    assert (small / layout.REGISTRATION).is_file()
