"""A regular expression on file names that tells which images are of one person, where the names say so."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

SUBJECTS = (
    "patient",
    "person",
    "subject",
    "participant",
    "lesion",
    "case",
    "study",
    "pat",
    "subj",
    "sub",
)
"""Words for what images have in common, as file names and columns use them; the clearest first."""

_DIGITS = re.compile(r"\d+")
_WORD = re.compile(rf"(?<![a-z])({'|'.join(SUBJECTS)})[-_ ]?$", re.IGNORECASE)
_LARGEST = 0.05  # share of all files in one group, above which a number counts something else than people
_LEAST = 0.005  # share of all files that a form of name must have


@dataclass(frozen=True)
class Grouping:
    """A pattern, and what it finds.

    Attributes
    ----------
    pattern : str
        Regular expression, as ``data.group`` has it.
    groups, files : int
        Different texts that it matches, and file names that it matches in.
    word : str
        The word for a subject that stands before the number, in lower case; empty where there is none.
    """

    pattern: str
    groups: int
    files: int
    word: str


def find_grouping(paths: Sequence[str]) -> Grouping | None:
    """Propose what keeps images of one person together.

    File names are sorted by form: what is left when each number is replaced by a sign. Where a form holds several
    numbers that vary, the first of them may be the person's and the later ones those of the images; where a word such
    as "person" stands before a number, that number is the person's.

    Returns
    -------
    Grouping or None
        None where no number repeats in more than one file.
    """
    forms: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        stem = PurePosixPath(path).stem
        forms[_DIGITS.sub("#", stem)].append(stem)
    found = [_prefix(form, stems) for form, stems in forms.items() if len(stems) >= max(2, _LEAST * len(paths))]
    prefixes = [prefix for prefix in found if prefix is not None]
    if not prefixes:
        return None
    # The longest first: a later alternative may match inside an earlier one.
    pattern = "|".join(sorted({text for text, _ in prefixes}, key=lambda text: (-len(text), text)))
    words = Counter(word for _, word in prefixes if word)
    matched = [match for stem in _stems(paths) if (match := re.search(pattern, stem))]
    groups = Counter(match.group() for match in matched)
    if len(groups) == len(matched) or max(groups.values()) > max(4, _LARGEST * len(paths)):
        return None
    return Grouping(pattern, len(groups), len(matched), words.most_common(1)[0][0] if words else "")


def _prefix(form: str, stems: Sequence[str]) -> tuple[str, str] | None:
    """Pattern up to the number of the subject, with the word before it; None where the form has none."""
    numbers = [_DIGITS.findall(stem) for stem in stems]
    texts = form.split("#")
    varying = [place for place in range(len(texts) - 1) if len({row[place] for row in numbers}) > 1]
    named = next((place for place in varying if _WORD.search(texts[place])), None)
    if named is None and len(varying) < 2:
        return None  # one counter numbers the images
    place = varying[0] if named is None else named
    pieces = []
    for index in range(place + 1):
        number = r"\d+" if index in varying else numbers[0][index]
        pieces += [re.escape(texts[index]).replace(r"\-", "-").replace(r"\ ", " "), number]
    word = _WORD.search(texts[place])
    start = 0 if word is None or varying[0] == place else 2 * place  # numbers before the word are not the subject's
    return "".join(pieces[start:]), word.group(1).lower() if word else ""


def _stems(paths: Iterable[str]) -> list[str]:
    return [PurePosixPath(path).name for path in paths]
