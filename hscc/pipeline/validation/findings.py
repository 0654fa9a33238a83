"""Findings: a title, what was found, and what the pipeline does about it, for each failed warning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import pandas as pd

from hscc.pipeline.data.report import Finding, NearCopyCounts
from hscc.pipeline.validation.near_copies import Evidence
from hscc.pipeline.validation.runner import Outcome
from hscc.pipeline.validation.suite import MIN_PER_STRATUM

SHOWN = 20  # images a finding names
SHOWN_GROUPS = 20  # groups of contradicting labels that are listed

# sha256 over the sorted sha256 of the 100 files of Testing/glioma_tumor in the set of Bhuvaji et al. (2020).
_KNOWN_TESTING_GLIOMA = "6928fae4fadf6602de5535dc81c448188aa7a1438c0c42e859d44d711063d1e0"

Text = tuple[str, str, str]  # title, finding, what we do


def find(outcomes: Sequence[Outcome], evidence: Evidence) -> list[Finding]:
    """Describe every failed warning, and add what is known of the data set from elsewhere.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of checks without a failed error.
    evidence : Evidence
        The data they are about.

    Returns
    -------
    list of Finding
        In the order of the outcomes, notes last.
    """
    findings = []
    for outcome in outcomes:
        if not outcome.passed:
            title, finding, what_we_do = DESCRIBE[outcome.check.id](outcome.paths, evidence)
            findings.append(
                Finding(
                    id=outcome.check.id,
                    severity="warning",
                    title=title,
                    finding=finding,
                    what_we_do=what_we_do,
                    images=outcome.paths[:SHOWN],
                    count=len(outcome.paths),
                )
            )
    return findings + _notes(evidence.frame)


def digest_of_testing_glioma(frame: pd.DataFrame) -> str:
    """Identify the content of Testing/glioma_tumor, whatever its files are called: a SHA-256 over their SHA-256."""
    held = frame[(frame["official_split"] == "Testing") & (frame["label"] == "glioma_tumor")]
    return hashlib.sha256("".join(sorted(held["sha256"])).encode()).hexdigest()


def _notes(frame: pd.DataFrame) -> list[Finding]:
    """Report what others say of the public data set, where the frame holds the part it is about."""
    glioma = frame[(frame["official_split"] == "Testing") & (frame["label"] == "glioma_tumor")]
    if digest_of_testing_glioma(frame) != _KNOWN_TESTING_GLIOMA:
        return []
    return [
        Finding(
            id="testing_glioma",
            severity="note",
            title="Testing/glioma_tumor is said to be miscategorised",
            finding=f"The {len(glioma)} images of Testing/glioma_tumor are widely reported to be partly no gliomas: "
            "networks trained on Training reach about 45 % on the Testing folder, and a successor data set replaced "
            "the class. This is the data set's reputation; it was not measured here.",
            what_we_do="The images are kept; read figures of the official protocol on glioma with that in mind.",
            images=tuple(glioma["path"].head(SHOWN)),
            count=len(glioma),
        )
    ]


def _copies(paths: Sequence[str], evidence: Evidence) -> Text:
    frame = evidence.frame
    folders = frame.groupby("sha256")["official_split"].agg(["size", "nunique"])
    repeated = int((folders["size"] > 1).sum())
    across = int((folders["nunique"] > 1).sum())
    return (
        "Files are exact copies of others",
        f"The {len(frame):,} files hold only {len(folders):,} different ones: {repeated} pictures occur more than "
        f"once, byte for byte, so that {len(paths)} files add nothing. {across} of these pictures occur both in "
        "Training and in Testing.",
        "No two copies are on different sides of the grouped or official split.",
    )


def _copied_from_training(paths: Sequence[str], evidence: Evidence) -> Text:
    testing = _testing(evidence.frame)
    return (
        "The Testing folder repeats files of the Training folder",
        f"{len(paths)} of the {len(testing)} Testing images are byte for byte also in Training "
        f"({_shares(testing, paths)}). A network has seen them in training, together with the answer.",
        "Here the Testing side gives way: these Testing files are left out of the official split.",
    )


def _near_copies(paths: Sequence[str], evidence: Evidence) -> Text:
    stricter = "".join(
        f" Above {row.threshold:g} it is {row.images:,} images in {_number(row.groups, 'group')}."
        for row in evidence.stricter
        if row.threshold is not None
    )
    return (
        "Many images show the same slice",
        f"{len(paths):,} images fall into {_number(evidence.chosen.groups, 'group')} that show the same "
        "picture, perhaps in another size, brightness or compression (byte-identical copies, or 16x16 thumbnails that "
        f"correlate above {evidence.near_duplicate:g}). The largest group holds "
        f"{evidence.chosen.largest} images.{stricter}",
        "No group is on two sides of the grouped or official split.",
    )


def _near_copy_in_training(paths: Sequence[str], evidence: Evidence) -> Text:
    frame = evidence.frame
    testing = _testing(frame)
    left = testing[testing["split_official"] == "test"]
    kept = int(left["path"].isin(paths).sum())
    gave_way = int(frame.loc[frame["official_split"] == "Training", "group"].isin(left["group"]).sum())
    stricter = ", ".join(f"{row.leaked_testing} {_how(row)}" for row in evidence.stricter)
    return (
        "The Testing folder shows slices of the Training folder",
        f"{len(paths)} of the {len(testing)} Testing images have a near-copy in Training "
        f"({_shares(testing, paths)}); {stricter}. What a network trained on the whole Training folder scores on the "
        "whole Testing folder is partly memory.",
        f"Those that are byte-identical to a Training file, or in a group with contradicting labels, are left out of "
        f"the official split ({len(paths) - kept}). The others stay in its test split ({kept}), and the Training side "
        f"gives way: every Training image of their groups is left out ({gave_way}). That leaves "
        f"{_number(len(left), 'image')} to test on ({_counts(left, testing)}).",
    )


def _contradicting_labels(paths: Sequence[str], evidence: Evidence) -> Text:
    held = evidence.frame[evidence.frame["conflict"]]
    groups = [group for _, group in held.groupby("group")]
    listed = [
        " but ".join(f"{', '.join(part['path'])} as {_plain(str(label))}" for label, part in group.groupby("label"))
        for group in groups[:SHOWN_GROUPS]
    ]
    return (
        "The same picture carries different diagnoses",
        f"{len(paths)} images in {_number(len(groups), 'group')} of near-copies contradict each other in "
        f"{_number(evidence.chosen.contradicting_pairs, 'pair')}: {'; '.join(listed)}. "
        "At least one diagnosis of each pair must be wrong.",
        "All of them are left out of the grouped and official splits until a radiologist settles which is right.",
    )


def _imbalance(paths: Sequence[str], evidence: Evidence) -> Text:
    counts = evidence.frame["label"].value_counts()
    small = ", ".join(f"{_plain(path)} ({counts.get(path, 0)})" for path in paths)
    return (
        "The classes differ much in size",
        f"The largest class, {_plain(str(counts.index[0]))}, has {counts.iloc[0]} images; much smaller: {small}. "
        "The share of right answers over all images says little about a small class.",
        "The grouped and pooled splits keep the classes' shares; the official test split has those of the Testing "
        "folder, less what is left out. Read the figures per class.",
    )


def _pooled_leak(paths: Sequence[str], evidence: Evidence) -> Text:
    test = int((evidence.frame["split_pooled"] == "test").sum())
    stricter = ", ".join(f"{row.leaked_pooled_test / test:.0%} {_how(row)}" for row in evidence.stricter)
    return (
        "A random split tests partly on what was trained on",
        f"{len(paths)} of the {test} test images of the pooled split ({len(paths) / test:.0%}) have a near-copy in "
        f"its train split ({stricter}). Papers often divide images at random, so their figures, and ours under the "
        "pooled protocol, look better than they would on new patients.",
        "The pooled split is kept as it is, for comparison with papers; the grouped one is the default.",
    )


def _thin_splits(paths: Sequence[str], evidence: Evidence) -> Text:
    thin: dict[str, list[str]] = {}
    for path in paths:
        protocol, split, label = path.split("/")
        held = (evidence.frame[f"split_{protocol}"] == split) & (evidence.frame["label"] == label)
        thin.setdefault(f"{protocol} {split}", []).append(f"{int(held.sum())} {_plain(label)}")
    counts = "; ".join(f"{place}: {', '.join(classes)}" for place, classes in thin.items())
    return (
        "Too few images of a class to judge it by",
        f"Fewer than {MIN_PER_STRATUM} images of a class in a split ({counts}). With so few, the share of them that a "
        "network gets right is uncertain by 10 points and more; without any it cannot be known.",
        "The split is kept as it is; do not compare networks on these classes under that protocol.",
    )


DESCRIBE: dict[str, Callable[[Sequence[str], Evidence], Text]] = {
    "copies": _copies,
    "copied_from_training": _copied_from_training,
    "near_copies": _near_copies,
    "near_copy_in_training": _near_copy_in_training,
    "contradicting_labels": _contradicting_labels,
    "imbalance": _imbalance,
    "pooled_leak": _pooled_leak,
    "thin_splits": _thin_splits,
}


def _testing(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["official_split"] == "Testing"]


def _how(row: NearCopyCounts) -> str:
    return "byte for byte" if row.threshold is None else f"above a correlation of {row.threshold:g}"


def _shares(frame: pd.DataFrame, paths: Sequence[str]) -> str:
    """Count each class among the paths, leaving out classes without any."""
    chosen = frame["path"].isin(paths)
    return ", ".join(
        f"{int(part.sum())} of {len(part)} {_plain(str(label))}"
        for label, part in chosen.groupby(frame["label"])
        if part.any()
    )


def _counts(frame: pd.DataFrame, classes: pd.DataFrame) -> str:
    """Count each class of the second frame in the first, zeros included."""
    labels = sorted(set(classes["label"]))
    return ", ".join(f"{int((frame['label'] == label).sum())} {_plain(label)}" for label in labels)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _plain(label: str) -> str:
    """Name of a class in running text: no_tumor is "no tumour", glioma_tumor "glioma"."""
    return "no tumour" if label == "no_tumor" else label.removesuffix("_tumor")
