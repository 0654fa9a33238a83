"""The remote sources of the data set: a DVC remote, GitHub, Kaggle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from hscc.errors import DataError
from hscc.pipeline import layout
from hscc.pipeline.data.sources.containers import SourceFile, read_container
from hscc.pipeline.data.sources.download import DownloadError, download

DOWNLOADS = layout.SCRATCH / "downloads"
GITHUB_COMMIT = "3ea9f4eae54c67e5bddbf6f7a73582967a5f5f79"
GITHUB_ARCHIVE = f"https://codeload.github.com/SartajBhuvaji/Brain-Tumor-Classification-DataSet/tar.gz/{GITHUB_COMMIT}"
KAGGLE_DATASET = "sartajbhuvaji/brain-tumor-classification-mri"


class Unavailable(Exception):  # noqa: N818 - a state of a source, not a fault
    """A source cannot serve here and now; the message is the short reason."""


def pull_from_dvc(workspace: Path) -> None:
    """Have DVC pull the pinned images from its remote into ``data/`` of a workspace.

    Raises
    ------
    Unavailable
        If no remote is configured, or DVC cannot pull.
    """
    inside = any((folder / ".dvc").is_dir() for folder in (workspace.absolute(), *workspace.absolute().parents))
    if not inside or not _dvc(workspace, "remote", "list").stdout.strip():
        raise Unavailable("none is configured")
    with Console(stderr=True).status("Pulling from the DVC remote"):
        pulled = _dvc(workspace, "pull", "data.dvc")
    if pulled.returncode != 0:
        errors = [line.removeprefix("ERROR: ") for line in pulled.stderr.splitlines() if line.startswith("ERROR: ")]
        raise Unavailable(errors[-1].rstrip(":. ") if errors else f"dvc pull ends with status {pulled.returncode}")


def _dvc(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)


def read_github(workspace: Path) -> Iterator[SourceFile]:
    """Stream the images of the public repository at the pinned commit.

    The download is kept in ``.hscc/downloads`` of the workspace, so that a killed one resumes.

    Raises
    ------
    Unavailable
        If GitHub cannot be reached, or the download is damaged.
    """
    archive = workspace / DOWNLOADS / f"{GITHUB_COMMIT}.tar.gz"
    try:
        if not archive.is_file():
            download(GITHUB_ARCHIVE, archive)
        for file in read_container(archive):
            yield SourceFile(file.path, partial(bytes, file.read()))  # read here, where damage is handled
    except DownloadError as error:
        raise Unavailable(str(error)) from error
    except DataError as error:
        archive.unlink(missing_ok=True)  # so that the next call downloads it again
        raise Unavailable(f"the download is damaged ({error})") from error


def read_kaggle() -> Iterator[SourceFile]:
    """Stream the images of the Kaggle data set from kagglehub's own cache.

    Raises
    ------
    Unavailable
        If kagglehub is not installed, or Kaggle cannot be reached or refuses.
    """
    try:
        import kagglehub
        from kagglehub import exceptions
    except ImportError as error:
        raise Unavailable("kagglehub is not installed (pip install kagglehub)") from error
    try:
        folder = kagglehub.dataset_download(KAGGLE_DATASET)
        yield from read_container(Path(folder))
    except (
        OSError,
        ValueError,
        exceptions.BackendError,
        exceptions.CredentialError,
        exceptions.DataCorruptionError,
        exceptions.KaggleEnvironmentError,
        exceptions.NotFoundError,
        exceptions.UnauthenticatedError,
        exceptions.UserCancelledError,
    ) as error:
        if "resolve" in str(error) or "Max retries" in str(error):
            raise Unavailable("api.kaggle.com cannot be reached") from error
        raise Unavailable(f"kagglehub refuses ({' '.join(str(error).split())[:160]})") from error
    except DataError as error:
        raise Unavailable(str(error).rstrip(".")) from error
