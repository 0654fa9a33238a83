from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.errors import DataError
from hscc.pipeline.data.near_duplicates import conflicting
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.data.splits import assign_splits, grouped_split, official_split
from hscc.pipeline.data_spec import SPLITS, DataSpec, OfficialSplit
from tests.pipeline.specs import BRAIN, changed

OFFICIAL = OfficialSplit(train="Training", val=None, test="Testing")
ACTIVE = ("train", "val", "test")


def spec(train: float, val: float, seed: int) -> DataSpec:
    return changed(train_fraction=train, val_fraction=val, seed=seed)


def images(seed: int, per_class: int = 40, largest: int = 6) -> pd.DataFrame:
    """Draw groups of one label with copies, then break some: two labels, unreadable files, an unknown class."""
    rng = np.random.default_rng(seed)
    labels = [label for label in (*CLASSES, "cyst") for _ in range(per_class)]
    groups = [
        1000 * position + int(number)
        for position in range(len(CLASSES) + 1)
        for number in np.sort(rng.integers(0, 2 * per_class // largest, per_class))
    ]
    frame = pd.DataFrame({"label": labels, "group": groups})
    frame["official_split"] = rng.choice(["Training", "Training", "Training", "Testing"], len(frame))
    frame["decodable"] = rng.random(len(frame)) > 0.02
    stray = rng.integers(0, len(frame), 3)
    frame.loc[stray, "group"] = frame["group"].to_numpy()[rng.integers(0, len(frame), 3)]
    frame["conflict"] = conflicting(frame["group"].to_numpy(), frame["label"].tolist())
    frame["sha256"] = frame["group"].astype(str) + "/" + pd.Series(rng.integers(0, 3, len(frame))).astype(str)
    return frame


quick = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**31 - 1)
fractions = st.sampled_from([(0.7, 0.15), (0.6, 0.2), (0.5, 0.25), (0.8, 0.1)])


@quick
@given(data=seeds, seed=seeds, shares=fractions)
def test_no_group_is_on_two_sides(data: int, seed: int, shares: tuple[float, float]):
    frame = assign_splits(images(data), spec(*shares, seed))
    for protocol in ("grouped", "official"):
        used = frame[frame[f"split_{protocol}"].isin(ACTIVE)]
        assert used.groupby("group")[f"split_{protocol}"].nunique().max() == 1


@quick
@given(data=seeds, seed=seeds, shares=fractions)
def test_every_image_is_where_it_belongs(data: int, seed: int, shares: tuple[float, float]):
    frame = assign_splits(images(data), spec(*shares, seed))
    usable = frame["decodable"] & (frame["label"] != "cyst")
    agreed = usable & ~frame["conflict"]
    for protocol in ("grouped", "pooled", "official"):
        assert frame[f"split_{protocol}"].isin(SPLITS).all()
    assert ((frame["split_grouped"] != "excluded") == agreed).all()
    assert ((frame["split_pooled"] != "excluded") == usable).all()
    training, testing = (frame["official_split"] == folder for folder in ("Training", "Testing"))
    bytes_of_training = set(frame["sha256"][training])
    tested = agreed & testing & frame["sha256"].map(lambda digest: digest not in bytes_of_training)
    groups_of_test = set(frame["group"][tested])
    trained = agreed & training & frame["group"].map(lambda group: group not in groups_of_test)
    assert ((frame["split_official"] == "test") == tested).all()
    assert (frame["split_official"].isin(["train", "val"]) == trained).all()


@quick
@given(data=seeds, seed=seeds, shares=fractions)
def test_near_copies_in_training_cost_the_official_test_split_no_image(
    data: int, seed: int, shares: tuple[float, float]
):
    frame = images(data)
    agreed = (frame["decodable"] & (frame["label"] != "cyst") & ~frame["conflict"]).to_numpy()
    whole = official_split(frame, agreed, *shares, seed, CLASSES, OFFICIAL)
    testing = (frame["official_split"] == "Testing").to_numpy()
    copied = frame["sha256"].isin(frame["sha256"][testing]).to_numpy()
    kept = testing | copied  # of Training, what is byte-identical to a Testing file
    alone = official_split(frame[kept].reset_index(drop=True), agreed[kept], *shares, seed, CLASSES, OFFICIAL)
    assert (alone == "test").any()
    assert ((whole == "test")[kept] == (alone == "test")).all()


def test_the_testing_side_gives_way_to_copies_and_the_training_side_to_near_copies():
    # folder, content, group
    rows = [
        ("Training", "a", 0),
        ("Testing", "a", 0),  # a copy: out, its original stays
        ("Training", "b", 1),  # a near-copy of the next: out
        ("Testing", "c", 1),
        ("Training", "d", 2),  # a near-copy of the last of its group: out
        ("Testing", "d", 2),  # a copy: out, though its original is out as well
        ("Testing", "e", 2),
        ("Testing", "f", 3),
        ("Training", "g", 4),
    ]
    frame = pd.DataFrame(rows, columns=["official_split", "sha256", "group"]).assign(label="no_tumor")
    split = official_split(frame, np.ones(len(frame), dtype=bool), 0.7, 0.15, 0, CLASSES, OFFICIAL)
    sides = np.where(np.isin(split, ["train", "val"]), "training", split).tolist()
    out = "excluded"
    assert sides == ["training", out, out, "test", out, out, "test", "test", "training"]


@quick
@given(data=seeds, seed=seeds, shares=fractions)
def test_every_class_gets_its_shares(data: int, seed: int, shares: tuple[float, float]):
    frame = assign_splits(images(data), spec(*shares, seed))
    train, val = shares
    both = train + val
    wanted = {
        "grouped": {"train": train, "val": val, "test": 1 - both},
        "official": {"train": train / both, "val": val / both},
    }
    for protocol, parts in wanted.items():
        split = frame[f"split_{protocol}"]
        for label in CLASSES:
            held = frame[split.isin(parts) & (frame["label"] == label)]
            largest = held["group"].value_counts().to_numpy().max(initial=0)
            for name, share in parts.items():
                # a split takes a group only while below its share; it lacks what the others went over theirs
                excess = int((split[held.index] == name).sum()) - share * len(held)
                assert -(len(parts) - 1) * largest <= excess <= largest


def test_with_single_images_at_the_end_the_shares_are_met_to_an_image():
    groups = np.repeat(np.arange(100), np.r_[np.full(10, 8), np.full(90, 1)])
    frame = pd.DataFrame(
        {"label": "no_tumor", "group": groups, "official_split": "Training", "decodable": True, "conflict": False}
    ).assign(sha256=np.arange(len(groups)).astype(str))
    others = [frame.assign(label=label, group=groups + 100 * (1 + i)) for i, label in enumerate(CLASSES) if i != 2]
    split = assign_splits(pd.concat([frame, *others], ignore_index=True), BRAIN)
    counts = split[split["label"] == "no_tumor"]["split_grouped"].value_counts()
    assert counts.to_dict() == pytest.approx({"train": 119, "val": 25.5, "test": 25.5}, abs=1)
    large = split[(split["label"] == "no_tumor") & (split["group"] < 10)]
    assert set(large["split_grouped"]) == set(ACTIVE)  # large groups are spread, not all in train


@quick
@given(data=seeds, seed=seeds)
def test_the_same_seed_gives_the_same_splits(data: int, seed: int):
    frame = images(data)
    pd.testing.assert_frame_equal(
        assign_splits(frame, spec(0.7, 0.15, seed)), assign_splits(frame, spec(0.7, 0.15, seed))
    )


@pytest.mark.parametrize("protocol", ["grouped", "pooled", "official"])
def test_another_seed_gives_other_splits(protocol: str):
    frame = images(0)
    first, other = (assign_splits(frame, spec(0.7, 0.15, seed))[f"split_{protocol}"] for seed in (0, 1))
    assert (first != other).any()


def singles(counts: dict[str, int]) -> pd.DataFrame:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return pd.DataFrame(
        {
            "label": labels,
            "group": np.arange(len(labels)),
            "official_split": "Training",
            "sha256": [str(number) for number in range(len(labels))],
            "decodable": True,
            "conflict": False,
        }
    )


def test_pooled_draws_490_test_images_of_3264_as_papers_do():
    real = dict(zip(CLASSES, (926, 937, 500, 901), strict=True))
    split = assign_splits(singles(real), BRAIN)
    assert split["split_pooled"].value_counts().to_dict() == {"train": 2284, "val": 490, "test": 490}
    for label, count in real.items():
        held = (split["split_pooled"] == "test") & (split["label"] == label)
        assert held.sum() == pytest.approx(0.15 * count, abs=1)


def test_the_last_bits_of_a_float_do_not_move_an_image():
    split = assign_splits(singles(dict.fromkeys(CLASSES, 25)), BRAIN)
    assert split["split_pooled"].value_counts().to_dict() == {"train": 70, "val": 15, "test": 15}


def test_too_few_images_for_a_stratified_draw_are_refused():
    with pytest.raises(DataError, match=r"smallest class: no_tumor with 1\).*data\.train_fraction"):
        assign_splits(singles({**dict.fromkeys(CLASSES, 25), "no_tumor": 1}), BRAIN)


def test_without_an_official_split_that_protocol_has_no_image():
    split = assign_splits(singles(dict.fromkeys(CLASSES, 25)), changed(official=None))
    assert set(split["split_official"]) == {"excluded"}
    assert set(split["split_grouped"]) == {"train", "val", "test"}


@quick
@given(data=seeds, seed=seeds, shares=fractions)
def test_a_group_of_several_classes_stays_whole(data: int, seed: int, shares: tuple[float, float]):
    frame = images(data)
    mask = (frame["decodable"] & (frame["label"] != "cyst")).to_numpy()  # groups of two classes among them
    split = pd.Series(grouped_split(frame, mask, *shares, seed, CLASSES))
    assert split[mask].groupby(frame["group"][mask]).nunique().max() == 1
    assert (split[~mask] == "excluded").all()


def test_official_validation_images_stay_and_what_belongs_with_them_leaves_training():
    rows = [("learn", "a", 0), ("check", "b", 0), ("learn", "c", 1), ("check", "d", 2), ("final", "e", 2)]
    frame = pd.DataFrame(rows, columns=["official_split", "sha256", "group"]).assign(label="no_tumor")
    official = OfficialSplit(train="learn", val="check", test="final")
    split = official_split(frame, np.ones(5, dtype=bool), 0.7, 0.15, 0, CLASSES, official)
    assert split.tolist() == ["excluded", "val", "train", "excluded", "test"]
