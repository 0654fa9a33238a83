"""Look at data of any kind that is known here and propose a spec for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from hscc.pipeline.workspace.arrays import propose_arrays
from hscc.pipeline.workspace.folders import propose_folders
from hscc.pipeline.workspace.masks import propose_masks
from hscc.pipeline.workspace.proposal import Proposal, UnsuitableDataError
from hscc.pipeline.workspace.survey import Survey, survey
from hscc.pipeline.workspace.tables import propose_table
from hscc.pipeline.workspace.volumes import propose_volumes

Proposer = Callable[[Survey], Proposal | None]

KINDS: tuple[Proposer, ...] = (propose_table, propose_arrays, propose_masks, propose_volumes, propose_folders)
"""One function per kind of data, tried in order; the first that does not return None says what is proposed."""


def propose(folder: Path) -> tuple[Path, Proposal]:
    """Look at a folder of data.

    Returns
    -------
    Path
        The data folder itself: `folder`, or the only folder in it.
    Proposal
        What to write into ``params.yaml``.

    Raises
    ------
    DataError
        If the folder is missing or empty, or holds nothing of a kind that is known here.
    """
    found = survey(folder)
    for proposer in KINDS:
        proposal = proposer(found)
        if proposal is not None:
            return found.root, proposal
    if found.images:
        raise UnsuitableDataError(
            f"{found.root} holds {len(found.images)} images without labels; put them into one folder per class, or add "
            "a CSV file with the columns path and label."
        )
    endings = Counter(PurePosixPath(path).suffix.lower() or "no ending" for path in found.files)
    most = ", ".join(f"{count} with {ending}" for ending, count in endings.most_common(3))
    raise UnsuitableDataError(
        f"{found.root} holds no images (of {len(found.files)} files, {most}); write a spec as in docs/data.md and pass "
        "it with --spec, or convert them to PNG."
    )
