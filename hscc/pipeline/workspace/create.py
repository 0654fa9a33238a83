"""Write a workspace: graph, parameters, pinned data, a DVC repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import yaml

from hscc.errors import DataError, HSCCError, first_few
from hscc.files import replace_text
from hscc.pipeline import layout
from hscc.pipeline.data.listing import list_files
from hscc.pipeline.data.sources.pin import PIN, directory_hash, hash_files
from hscc.pipeline.provenance import git

GRAPH = "dvc.yaml"
_BESIDE_CODE = "    deps:\n      - hscc\n"  # of the stage code, in a checkout
_INSTALLED = "    always_changed: true  # hscc is installed and not beside this file; to look takes a second\n"
_FOLDERS = ("artifacts/baseline", "artifacts/cells", "reports/protocols")  # which stages depend on
_CONFIG = "[core]\n    analytics = false\n    autostage = false\n    check_update = false\n"
_ALLOWED = (".git", ".venv", "venv")  # what a folder may hold before


def template(name: str) -> str:
    """Read a file that workspaces are made of; ``dvc.yaml``, ``params.yaml`` and ``sweeps.yaml`` are the repository's.

    Parameters
    ----------
    name : str
        Below ``templates/``.
    """
    return resources.files("hscc.pipeline.workspace").joinpath("templates", name).read_text(encoding="utf-8")


def graph() -> str:
    """Text of ``dvc.yaml`` for a workspace without the package's source in it."""
    text = template(GRAPH)
    if _BESIDE_CODE not in text:
        raise HSCCError(f"{GRAPH} of the package has no stage that depends on hscc alone; report this as a bug.")
    return text.replace(_BESIDE_CODE, _INSTALLED, 1)


def refuse_used(folder: Path, data: Path) -> None:
    """Check that a folder can become a workspace.

    Raises
    ------
    DataError
        If it is a file, or holds anything but a git repository, an environment, or the data as ``data``.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder to make.")
    own = folder / layout.DATA
    inside = [entry.name for entry in sorted(folder.iterdir())] if folder.is_dir() else []
    others = [name for name in inside if name not in _ALLOWED and not (name == own.name and _same(own, data))]
    if others:
        raise DataError(f"{folder} is not empty ({first_few(others)}); name a new folder.")


def write_files(folder: Path, params: str, *, title: str = "Workspace", data: str = "the images") -> None:
    """Write the files of a workspace, or bring them up to date; data, outputs and ``.dvc`` stay.

    Parameters
    ----------
    folder : Path
        Made if absent.
    params : str
        Text of its ``params.yaml``.
    title, data : str
        For its README: what it is about, and where the data is.
    """
    replace_text(folder / GRAPH, graph())
    replace_text(folder / layout.PARAMS, params)
    replace_text(folder / ".dvcignore", template("dvcignore"))
    for name, text in (
        ("sweeps.yaml", template("sweeps.yaml")),
        (".gitignore", template("gitignore")),
        ("README.md", template("readme.md").format(title=title, data=data)),
    ):
        if not (folder / name).exists():
            replace_text(folder / name, text)
    for inner in _FOLDERS:
        (folder / inner).mkdir(parents=True, exist_ok=True)
    (folder / layout.PROTOCOLS / ".gitkeep").touch()  # git keeps no empty folder, and a stage depends on this one


def initialise_dvc(folder: Path, *, scm: bool | None = None) -> None:
    """Make a folder a DVC repository, within its git repository where it has one; nothing if it is one already.

    Parameters
    ----------
    folder : Path
        The workspace.
    scm : bool, optional
        Whether to use git; by default where the folder is in a git repository that does not ignore it.

    Raises
    ------
    HSCCError
        If DVC fails.
    """
    if (folder / ".dvc").is_dir():
        return
    top = _git_top(folder) if scm is not False else None
    options = ["--no-scm"] if top is None else [] if top == folder.resolve() else ["--subdir"]
    run_dvc(folder, "init", "--quiet", *options)
    config = folder / ".dvc" / "config"
    replace_text(config, config.read_text(encoding="utf-8").replace("[core]\n", _CONFIG, 1) or _CONFIG)


def bring_data(folder: Path, data: Path, *, copy: bool) -> None:
    """Make ``data`` a link to the user's folder, or a copy of it, and pin its content in ``data.dvc``.

    DVC keeps no copy of linked data: the pin has ``cache: false``, and the hash alone is compared. A copy goes into
    DVC's cache as any data that `dvc add` is given, so that `dvc push` can share it.

    Parameters
    ----------
    folder : Path
        The workspace.
    data : Path
        The user's data folder, absolute; may be ``data`` in the workspace itself, which stays as it is.
    copy : bool
        Whether to copy it.
    """
    own = folder / layout.DATA
    if not _same(own, data):
        if copy:
            shutil.copytree(data, own)
        else:
            own.symlink_to(data, target_is_directory=True)
    if copy:
        run_dvc(folder, "add", "--quiet", str(layout.DATA))
        return
    list_files(data)  # refuses what the pin would not see
    files = hash_files(data)
    size = sum((data / path).stat().st_size for path in files)
    out = {
        "md5": directory_hash(files),
        "size": size,
        "nfiles": len(files),
        "hash": "md5",
        "path": str(layout.DATA),
        "cache": False,
    }
    replace_text(folder / PIN, yaml.safe_dump({"outs": [out]}, sort_keys=False))


def run_dvc(folder: Path, *arguments: str) -> None:
    """Run DVC in a workspace.

    Raises
    ------
    HSCCError
        If it fails, with the last line that it says.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it says nothing"]
        raise HSCCError(
            f"'dvc {' '.join(arguments)}' in {folder} fails ({said[-1].removeprefix('ERROR: ')}); run it there."
        )


def _git_top(folder: Path) -> Path | None:
    """Top of the git repository that a folder belongs to; None where git would not see the folder."""
    top = git(folder, "rev-parse", "--show-toplevel")
    ignored = git(folder, "check-ignore", str(folder.resolve()))
    return Path(top).resolve() if top and not ignored else None


def _same(one: Path, other: Path) -> bool:
    return one.exists() and one.resolve() == other.resolve()
