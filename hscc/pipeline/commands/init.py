"""Make a workspace for data of the user's own: `hscc init`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hscc.errors import DataError
from hscc.pipeline import layout
from hscc.pipeline.params import Params, read_params
from hscc.pipeline.workspace.create import bring_data, initialise_dvc, refuse_used, template, write_files
from hscc.pipeline.workspace.given_spec import check_given_spec
from hscc.pipeline.workspace.looking import propose
from hscc.pipeline.workspace.params_file import read_spec, with_choices, with_sections
from hscc.pipeline.workspace.proposal import Choice
from hscc.pipeline.workspace.starting_point import STARTING_POINT
from hscc.pipeline.workspace.survey import survey

Say = Callable[[str], object]


def run(folder: Path, data: Path, spec: Path | None = None, *, copy: bool = False, say: Say = print) -> None:
    """Look at the data, propose the spec and write the workspace; nothing is written if anything is wrong.

    Parameters
    ----------
    folder : Path
        The workspace to make.
    data : Path
        The user's data.
    spec : Path, optional
        YAML with the section ``data``, and others if wanted, instead of a proposal; see
        `hscc.pipeline.workspace.params_file.read_spec`.
    copy : bool
        Whether to copy the data into the workspace and DVC's cache; by default ``data`` is a link.
    say : callable
        Takes each line of what is proposed and why.

    Raises
    ------
    DataError
        If the folder is not empty, or the data is missing, of no known kind, or not what the spec says.
    ParamsError
        If the spec cannot be read or has a wrong value.
    """
    refuse_used(folder, data)
    root, text = _proposed(data, say) if spec is None else _given(data, spec)
    if folder.resolve().is_relative_to(root) and folder.resolve() != root:
        raise DataError(f"{folder} lies in the data folder {root}; name a folder outside it.")
    params = _checked(text, spec)
    if spec is not None:
        check_given_spec(root, params.data, spec)
        say(f"{spec}: fits the data in {root}")
    where = f"a copy of {root.name}" if copy else "a link to the images"
    write_files(folder, text, title=params.data.texts.title, data=where)
    initialise_dvc(folder)
    bring_data(folder, root, copy=copy)
    kept = "copied, and kept in DVC's cache" if copy else f"a link to {root}; DVC keeps its hash and no copy"
    say(f"{folder / layout.DATA}: {kept}")
    say(f"Made {folder}. Look at section data of {folder / layout.PARAMS}, then run `dvc repro` in {folder}.")


def _proposed(data: Path, say: Say) -> tuple[Path, str]:
    root, proposal = propose(data)
    say(f"{root}: {proposal.kind}")
    for line in proposal.lines():
        say(line)
    for warning in proposal.warnings:
        say(f"warning: {warning}.")
    return root, with_choices(template(layout.PARAMS.name), [*STARTING_POINT, *proposal.choices])


def _given(data: Path, spec: Path) -> tuple[Path, str]:
    root, sections, own = survey(data).root, read_spec(spec), template(layout.PARAMS.name)
    text = with_sections(with_choices(own, STARTING_POINT), sections)
    protocol = sections["data"].get("protocol")
    follows = {
        "train": [Choice("train.protocols", [protocol])],
        "promote": [Choice("promote.protocol", protocol)],
        "register": [Choice("register.name", f"hscc-{root.name.lower()}")],
    }
    return root, with_choices(text, [choice for name in follows if name not in sections for choice in follows[name]])


def _checked(text: str, spec: Path | None) -> Params:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / layout.PARAMS.name
        path.write_text(text, encoding="utf-8")
        return read_params(path)
