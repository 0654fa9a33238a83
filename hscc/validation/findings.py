"""What the failed checks mean, in sentences a doctor understands."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hscc.validation.evidence import Evidence
from hscc.validation.runner import Outcome
from hscc.validation.wording import DESCRIBE

SHOWN = 20  # images a finding names

# sha256 over the sorted sha256 of the 100 files of Testing/glioma_tumor in the set of Bhuvaji et al. (2020).
_KNOWN_TESTING_GLIOMA = "6928fae4fadf6602de5535dc81c448188aa7a1438c0c42e859d44d711063d1e0"


@dataclass(frozen=True)
class Finding:
    """One thing to know about the data set.

    Parameters
    ----------
    id : str
        The check's id, or the note's.
    severity : str
        ``warning`` for what was measured, ``note`` for what is only reported by others.
    title, finding, what_we_do : str
        A heading, plain sentences with the numbers, and what the pipeline does about it.
    images : tuple of str
        The first paths (at most 20).
    count : int
        How many there are in all.
    """

    id: str
    severity: str
    title: str
    finding: str
    what_we_do: str
    images: tuple[str, ...]
    count: int


def find(outcomes: Sequence[Outcome], evidence: Evidence) -> list[Finding]:
    """Put every failed warning into words, and add what is known of the data set from elsewhere.

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
                    outcome.check.id,
                    outcome.check.severity,
                    title,
                    finding,
                    what_we_do,
                    outcome.paths[:SHOWN],
                    len(outcome.paths),
                )
            )
    return findings + _notes(evidence.frame)


def _notes(frame: pd.DataFrame) -> list[Finding]:
    """Tell what others report of the public data set, where the frame holds the part it is about."""
    glioma = frame[(frame["official_split"] == "Testing") & (frame["label"] == "glioma_tumor")]
    if digest_of_testing_glioma(frame) != _KNOWN_TESTING_GLIOMA:
        return []
    return [
        Finding(
            "testing_glioma",
            "note",
            "Testing/glioma_tumor is said to be miscategorised",
            f"The {len(glioma)} images of Testing/glioma_tumor are widely reported to be partly no gliomas: networks "
            "trained on Training reach about 45 % on the Testing folder, and a successor data set replaced the "
            "class. This is the data set's reputation; it was not measured here.",
            "The images are kept; read figures of the official protocol on glioma with that in mind.",
            tuple(glioma["path"].head(SHOWN)),
            len(glioma),
        )
    ]


def digest_of_testing_glioma(frame: pd.DataFrame) -> str:
    """Identify the content of Testing/glioma_tumor, whatever its files are called.

    Parameters
    ----------
    frame : pandas.DataFrame
        A manifest: official_split, label, sha256.

    Returns
    -------
    str
        sha256 over the sorted sha256 of its files.
    """
    held = frame[(frame["official_split"] == "Testing") & (frame["label"] == "glioma_tumor")]
    return hashlib.sha256("".join(sorted(held["sha256"])).encode()).hexdigest()
