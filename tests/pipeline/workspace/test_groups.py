import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hscc.pipeline.workspace.groups import find_grouping


def found(pattern: str, path: str) -> str:
    match = re.search(pattern, PurePosixPath(path).name)
    return match.group() if match else ""


@given(
    people=st.integers(8, 40),
    each=st.integers(2, 4),
    word=st.sampled_from(["person", "patient_", "Subject-", "lesion"]),
    before=st.sampled_from(["", "2019_", "scan7 "]),
)
def test_images_of_one_person_match_the_same_text(people: int, each: int, word: str, before: str) -> None:
    paths = [f"a/{before}{word}{p}_{p * each + i}.jpeg" for p in range(people) for i in range(each)]
    grouping = find_grouping(paths)
    assert grouping is not None and grouping.word == word.strip("_-").lower()
    assert (grouping.groups, grouping.files) == (people, people * each)
    texts = {(p, found(grouping.pattern, paths[p * each + i])) for p in range(people) for i in range(each)}
    assert len(texts) == people


def test_several_forms_of_names_share_one_pattern() -> None:
    people = [f"person{p}_{cause}_{9 * p + i}.jpeg" for p in range(20) for i, cause in enumerate(("virus", "bacteria"))]
    scans = [f"NORMAL2-IM-{p:04}-{i:04}.jpeg" for p in range(20) for i in range(2)]
    grouping = find_grouping(people + scans)
    assert grouping is not None
    assert found(grouping.pattern, "person7_virus_3.jpeg") == found(grouping.pattern, "person7_bacteria_4.jpeg")
    assert found(grouping.pattern, scans[0]) == found(grouping.pattern, scans[1]) == "NORMAL2-IM-0000"
    assert grouping.groups == 40


@pytest.mark.parametrize(
    "paths",
    [
        [f"image({index}).jpg" for index in range(30)],
        [f"m{index % 2} ({index}).jpg" for index in range(60)],  # two numbers, but the first counts no people
        [f"patient{index}.png" for index in range(30)],  # one image of each
        ["a.png", "b.png"],
    ],
)
def test_counters_of_images_are_no_groups(paths: list[str]) -> None:
    assert find_grouping(paths) is None
