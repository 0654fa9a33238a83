"""Findings: a title, what was found, and what the pipeline does about it, for each failed warning."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import pandas as pd

from hscc.pipeline.data.manifest import DEPTH
from hscc.pipeline.data.report import Finding, NearCopyCounts
from hscc.pipeline.data.targets import has_label, strata_of
from hscc.pipeline.data_spec import DataSpec
from hscc.pipeline.validation.near_copies import Evidence
from hscc.pipeline.validation.runner import Outcome
from hscc.pipeline.validation.suite import MIN_PER_STRATUM

SHOWN = 20  # images a finding names
SHOWN_GROUPS = 20  # groups of contradicting labels that are listed

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
    return findings + _notes(evidence)


def digest_of(frame: pd.DataFrame) -> str:
    """Identify images by content, whatever their files are called: a SHA-256 over their SHA-256."""
    return hashlib.sha256("".join(sorted(frame["sha256"])).encode()).hexdigest()


def _notes(evidence: Evidence) -> list[Finding]:
    """Report what others say of the data set, where the frame holds the images that it is about."""
    notes, frame = [], evidence.frame
    for remark in evidence.spec.remarks:
        held = frame[frame["label"] == remark.label]
        if remark.split is not None:
            held = held[held["official_split"] == remark.split]
        if digest_of(held) == remark.sha256:
            notes.append(
                Finding(
                    id=remark.id,
                    severity="note",
                    title=remark.title,
                    finding=remark.finding,
                    what_we_do=remark.what_we_do,
                    images=tuple(held["path"].head(SHOWN)),
                    count=len(held),
                )
            )
    return notes


def _copies(paths: Sequence[str], evidence: Evidence) -> Text:
    frame = evidence.frame
    folders = frame.groupby("sha256")["official_split"].agg(["size", "nunique"])
    repeated = int((folders["size"] > 1).sum())
    across = int((folders["nunique"] > 1).sum())
    official = evidence.spec.official
    where = f" {across} of these pictures occur both in {official.train} and in {official.test}." if official else ""
    return (
        "Files are exact copies of others",
        f"The {len(frame):,} files hold only {len(folders):,} different ones: {repeated} pictures occur more than "
        f"once, byte for byte, so that {len(paths)} files add nothing.{where}",
        f"No two copies are on different sides of the {_apart(evidence.spec)} split.",
    )


def _copied_from_training(paths: Sequence[str], evidence: Evidence) -> Text:
    testing, spec = _testing(evidence), evidence.spec
    train, test = _parts(spec)
    return (
        f"The {test} {spec.place} repeats files of the {train} {spec.place}",
        f"{len(paths)} of the {len(testing)} {test} images are byte for byte also in {train} "
        f"({_shares(evidence, paths)}). A network has seen them in training, together with the answer.",
        f"Here the {test} side gives way: these {test} files are left out of the official split.",
    )


def _near_copies(paths: Sequence[str], evidence: Evidence) -> Text:
    stricter = "".join(
        f" Above {row.threshold:g} it is {row.images:,} images in {_number(row.groups, 'group')}."
        for row in evidence.stricter
        if row.threshold is not None
    )
    return (
        f"Many images show the same {evidence.spec.texts.image}",
        f"{len(paths):,} images fall into {_number(evidence.chosen.groups, 'group')} that show the same "
        "picture, perhaps in another size, brightness or compression (byte-identical copies, or 16x16 thumbnails that "
        f"correlate above {evidence.near_duplicate:g}). The largest group holds "
        f"{evidence.chosen.largest} images.{stricter}",
        f"No group is on two sides of the {_apart(evidence.spec)} split.",
    )


def _near_copy_in_training(paths: Sequence[str], evidence: Evidence) -> Text:
    frame, spec = evidence.frame, evidence.spec
    testing = _testing(evidence)
    train, test = _parts(spec)
    left = testing[testing["split_official"] == "test"]
    kept = int(left["path"].isin(paths).sum())
    gave_way = int(frame.loc[frame["official_split"] == train, "group"].isin(left["group"]).sum())
    stricter = ", ".join(f"{row.leaked_testing} {_how(row)}" for row in evidence.stricter)
    return (
        f"The {test} {spec.place} shows {spec.texts.image}s of the {train} {spec.place}",
        f"{len(paths)} of the {len(testing)} {test} images have a near-copy in {train} "
        f"({_shares(evidence, paths)}); {stricter}. What a network trained on the whole {train} {spec.place} scores on "
        f"the whole {test} {spec.place} is partly memory.",
        f"Those that are byte-identical to a {train} file, or in a group with contradicting labels, are left out of "
        f"the official split ({len(paths) - kept}). The others stay in its test split ({kept}), and the {train} side "
        f"gives way: every {train} image of their groups is left out ({gave_way}). That leaves "
        f"{_number(len(left), 'image')} to test on ({_counts(evidence, left)}).",
    )


def _contradicting_labels(paths: Sequence[str], evidence: Evidence) -> Text:
    held, name = evidence.frame[evidence.frame["conflict"]], evidence.spec.texts.name
    groups = [group for _, group in held.groupby("near_copies")]
    listed = [
        " but ".join(f"{', '.join(part['path'])} as {name(str(label))}" for label, part in group.groupby("label"))
        for group in groups[:SHOWN_GROUPS]
    ]
    return (
        "The same picture carries different diagnoses",
        f"{len(paths)} images in {_number(len(groups), 'group')} of near-copies contradict each other in "
        f"{_number(evidence.chosen.contradicting_pairs, 'pair')}: {'; '.join(listed)}. "
        "At least one diagnosis of each pair must be wrong.",
        f"All of them are left out of the {' and '.join(_separating(evidence.spec))} "
        f"split{'s' if evidence.spec.official else ''} until a {evidence.spec.texts.expert} settles which is right.",
    )


def _imbalance(paths: Sequence[str], evidence: Evidence) -> Text:
    spec = evidence.spec
    name = spec.texts.name
    held = {label: int(has_label(evidence.frame, label, spec).sum()) for label in spec.counted}
    counts = pd.Series(held).sort_values(ascending=False, kind="stable")
    official = (
        f"; the official test split has those of the {_parts(spec)[1]} {spec.place}, less what is left out"
        if spec.official
        else ""
    )
    small = ", ".join(f"{name(path)} ({counts.get(path, 0)})" for path in paths)
    return (
        "The classes differ much in size",
        f"The largest class, {name(str(counts.index[0]))}, has {counts.iloc[0]} images; much smaller: {small}. "
        "The share of right answers over all images says little about a small class.",
        f"The grouped and pooled splits keep the classes' shares{official}. Read the figures per class.",
    )


def _group_in_training(paths: Sequence[str], evidence: Evidence) -> Text:
    train, test = _parts(evidence.spec)
    group = evidence.spec.texts.group
    frame = evidence.frame
    tested = frame.loc[frame["split_official"] == "test", "group"]
    gave_way = int(frame.loc[frame["official_split"] == train, "group"].isin(tested).sum())
    return (
        f"{test} and {train} have images of the same {group}",
        f"{len(paths)} of the {len(_testing(evidence))} {test} images are of a {group} that {train} has images of too.",
        f"They stay in the official test split, and the {train} side gives way: its images that belong together with a "
        f"test image, by {group} or as near-copies, are left out ({gave_way}).",
    )


def _pooled_groups(paths: Sequence[str], evidence: Evidence) -> Text:
    test = int((evidence.frame["split_pooled"] == "test").sum())
    group = evidence.spec.texts.group
    return (
        f"A random split has images of one {group} on both sides",
        f"{len(paths)} of the {test} test images of the pooled split ({len(paths) / test:.0%}) are of a {group} "
        "that its train split has images of.",
        f"The pooled split is kept as it is, for comparison with papers; in the {_apart(evidence.spec)} split they are "
        "on one side.",
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
    name = evidence.spec.texts.name
    for path in paths:
        protocol, split, label = path.split("/", 2)
        held = (evidence.frame[f"split_{protocol}"] == split) & has_label(evidence.frame, label, evidence.spec)
        thin.setdefault(f"{protocol} {split}", []).append(f"{int(held.sum())} {name(label)}")
    counts = "; ".join(f"{place}: {', '.join(classes)}" for place, classes in thin.items())
    kind = "label" if evidence.spec.task == "multilabel" else "class"
    return (
        f"Too few images of a {kind} to judge it by",
        f"Fewer than {MIN_PER_STRATUM} images of a {kind} in a split ({counts}). With so few, the share of them that a "
        "network gets right is uncertain by 10 points and more; without any it cannot be known.",
        "The split is kept as it is; do not compare networks on these classes under that protocol.",
    )


def _mixed_depth(paths: Sequence[str], evidence: Evidence) -> Text:
    depth = evidence.frame[DEPTH]
    usual = int(depth.mode().iloc[0])
    return (
        "The volumes differ in depth",
        f"{len(evidence.frame) - len(paths):,} volumes have {usual} slices, {len(paths):,} others {depth.min()} to "
        f"{depth.max()}.",
        f"All are resized to {evidence.spec.sides[0]} slices, whatever their distance.",
    )


DESCRIBE: dict[str, Callable[[Sequence[str], Evidence], Text]] = {
    "copies": _copies,
    "copied_from_training": _copied_from_training,
    "near_copies": _near_copies,
    "near_copy_in_training": _near_copy_in_training,
    "group_in_training": _group_in_training,
    "contradicting_labels": _contradicting_labels,
    "imbalance": _imbalance,
    "mixed_depth": _mixed_depth,
    "pooled_leak": _pooled_leak,
    "pooled_groups": _pooled_groups,
    "thin_splits": _thin_splits,
}


def _testing(evidence: Evidence) -> pd.DataFrame:
    return evidence.frame[evidence.frame["official_split"] == _parts(evidence.spec)[1]]


def _parts(spec: DataSpec) -> tuple[str, str]:
    """Names of the official training and test images; only for checks of data sets that have them."""
    assert spec.official is not None
    return spec.official.train, spec.official.test


def _separating(spec: DataSpec) -> list[str]:
    """Protocols that keep groups apart."""
    return [protocol for protocol in spec.protocols if protocol != "pooled"]


def _apart(spec: DataSpec) -> str:
    return " or ".join(_separating(spec))


def _how(row: NearCopyCounts) -> str:
    return "byte for byte" if row.threshold is None else f"above a correlation of {row.threshold:g}"


def _shares(evidence: Evidence, paths: Sequence[str]) -> str:
    """Count each class of the official test images among the paths, leaving out classes without any."""
    frame = _testing(evidence)
    chosen = frame["path"].isin(paths)
    return ", ".join(
        f"{int(part.sum())} of {len(part)} {evidence.spec.texts.name(str(label))}"
        for label, part in chosen.groupby(strata_of(frame, evidence.spec))
        if part.any()
    )


def _counts(evidence: Evidence, frame: pd.DataFrame) -> str:
    """Count each class of the official test images in the frame, zeros included."""
    spec = evidence.spec
    labels = sorted(label for label in spec.strata if has_label(_testing(evidence), label, spec).any())
    return ", ".join(f"{int(has_label(frame, label, spec).sum())} {spec.texts.name(label)}" for label in labels)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
