"""Images in one folder per class, below those of an official split if there is one."""

from __future__ import annotations

from collections.abc import Sequence

from hscc.errors import first_few
from hscc.pipeline.workspace.classification import Labelled, propose_classification
from hscc.pipeline.workspace.groups import Grouping, find_grouping
from hscc.pipeline.workspace.pictures import picture_appearance
from hscc.pipeline.workspace.proposal import Choice, Proposal, UnsuitableDataError
from hscc.pipeline.workspace.split_names import find_official, official_choice
from hscc.pipeline.workspace.survey import Survey


def propose_folders(found: Survey) -> Proposal | None:
    """Read classes and official split off the folders; None where images lie in no folder.

    Raises
    ------
    UnsuitableDataError
        If the folders are deeper than split and class, there is one class, or no image can be opened.
    """
    images = by_folders(found, found.images, "one folder per class")
    if images is None:
        return None
    return propose_classification(found, images, picture_appearance(found.root, images.paths))


def by_folders(found: Survey, images: Sequence[str], kind: str, volumes: bool = False) -> Labelled | None:
    """Read classes and official split off the folders of some images; None where they lie in none.

    Parameters
    ----------
    found : Survey
        The data.
    images : sequence of str
        Files, or folders of DICOM slices, relative to the root.
    kind : str
        Of data, in words.
    volumes : bool
        Whether the images are volumes.

    Raises
    ------
    UnsuitableDataError
        If the folders are deeper than split and class.
    """
    inside = [path for path in images if "/" in path]
    if not inside:
        return None
    official = find_official({path.split("/")[0] for path in inside})
    depth = 1 if official else 0
    folders = [path.split("/")[:-1] for path in inside]
    if official and all(len(parts) == 1 for parts in folders):
        return None  # images lie in the folders of the split, without classes
    deep = next((path for path, parts in zip(inside, folders, strict=True) if len(parts) > depth + 1), None)
    if deep is not None:
        raise UnsuitableDataError(
            f"{found.root / deep} lies deeper than {'split/' if official else ''}class/image; put a CSV file with "
            "the columns path, label and patient into the data folder."
        )
    kept = [(path, parts) for path, parts in zip(inside, folders, strict=True) if len(parts) == depth + 1]
    paths = tuple(path for path, _ in kept)
    stray = sorted(path for path in found.files if not {path, path.rpartition("/")[0]} & set(paths))
    lie = "lies" if len(stray) == 1 else "lie"
    warnings = (f"{first_few(stray)} {lie} in no class folder or are no images; move them away",)
    grouping = find_grouping(paths)
    above = f" below {' and '.join(sorted({parts[0] for _, parts in kept}))}" if official else ""
    layout = (
        Choice(
            "data.layout",
            "folders",
            f"{len(paths)} {'volumes' if volumes else 'images'} lie in one folder per class{above}",
        ),
        Choice("data.table", None),
        official_choice(official, "the top folders are named as a split", "no folders are named as training and test"),
        _group(grouping),
    )
    return Labelled(
        kind=kind,
        paths=paths,
        labels=tuple(parts[depth] for _, parts in kept),
        splits=tuple(parts[0] if official else "" for _, parts in kept),
        layout=layout,
        official=official,
        subject=grouping.word if grouping else "",
        warnings=warnings if stray else (),
    )


def _group(grouping: Grouping | None) -> Choice:
    """Set the pattern where the names say whose number it is, else put it into the comment."""
    if grouping is None:
        why = "no number in the file names is shared by several images"
        return Choice("data.group", None, why, "does anything else say which images are of one person")
    counted = f"it finds {grouping.groups} groups in {grouping.files} file names"
    if grouping.word:
        check = f"is the number behind {grouping.word!r} that of a person"
        return Choice("data.group", grouping.pattern, counted, check)
    comment = f"regular expression on file names; {grouping.pattern} would make {grouping.groups} groups"
    return Choice(
        "data.group",
        None,
        f"{grouping.pattern} may be a person's number, {counted}",
        "if so, set it; if not, leave null",
        comment,
    )
