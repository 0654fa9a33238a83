from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd

from hscc.pipeline.data.near_duplicates import conflicting, near_duplicate_groups
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.data.report import Finding
from hscc.pipeline.data.splits import assign_splits
from hscc.pipeline.data_spec import DataSpec
from hscc.pipeline.params import ValidateParams
from hscc.pipeline.validation.findings import DESCRIBE, SHOWN, digest_of, find
from hscc.pipeline.validation.near_copies import Evidence, gather_evidence
from hscc.pipeline.validation.runner import Outcome
from hscc.pipeline.validation.suite import class_checks, image_checks, split_checks, stratum_checks
from tests.pipeline.specs import BRAIN, changed

GROUPED = changed(group="[0-9]+")
VOLUMES = changed(image_size=[16, 16, 16])
LIMITS = ValidateParams(min_side=64, max_side=4096, modes=("L", "RGB"), min_per_class=20, max_imbalance=3)
CHECKS = {
    check.id: check
    for check in (
        *image_checks(LIMITS, VOLUMES),
        *image_checks(LIMITS, GROUPED),
        *class_checks(LIMITS),
        *split_checks(GROUPED),
        *stratum_checks(),
    )
}


def faulty(altered: int = 0, spec: DataSpec = BRAIN) -> Evidence:
    """Give 4 classes of 50 (40 Training, 10 Testing), 25 Training gliomas copied to Testing, one as no_tumor.

    The last copies may be altered by one grey level in one pixel: near-copies of other bytes.
    """
    rows = [
        (f"{folder}/{label}/{number}.jpg", folder, label)
        for label in CLASSES
        for folder, count in (("Training", 40), ("Testing", 10))
        for number in range(count)
    ]
    thumbnails = np.random.default_rng(0).integers(0, 256, (len(rows), 256), dtype=np.uint8)
    copies = [(f"Testing/{'no' if n == 7 else 'glioma'}_tumor/copy{n}.jpg", n) for n in range(25)]
    frame = pd.DataFrame(
        rows + [(path, "Testing", path.split("/")[1]) for path, _ in copies],
        columns=["path", "official_split", "label"],
    )
    thumbnails = np.concatenate([thumbnails, thumbnails[[original for _, original in copies]]])
    thumbnails[len(thumbnails) - altered :, 0] ^= 1
    digests = [hashlib.sha256(thumbnail.tobytes()).hexdigest() for thumbnail in thumbnails]
    groups = near_duplicate_groups(thumbnails, digests, 0.99)
    frame = frame.assign(
        sha256=digests,
        decodable=True,
        near_copies=groups,
        group=groups,
        conflict=conflicting(groups, frame["label"].tolist()),
    )
    return gather_evidence(assign_splits(frame, spec), thumbnails, spec)


EVIDENCE = faulty()


def described(check: str, *paths: str, evidence: Evidence = EVIDENCE) -> Finding:
    (finding,) = find([Outcome(CHECKS[check], False, paths)], evidence)
    assert finding.id == check
    assert finding.severity == "warning"
    assert finding.title
    assert finding.what_we_do
    return finding


def copies() -> tuple[str, ...]:
    return tuple(path for path in EVIDENCE.frame["path"] if "copy" in path)


def test_every_warning_is_described():
    assert set(DESCRIBE) == {check.id for check in CHECKS.values() if check.severity == "warning"}


def test_what_passed_is_no_finding():
    assert find([Outcome(check, True, ()) for check in CHECKS.values()], EVIDENCE) == []


def test_mixed_depth():
    evidence = faulty(spec=VOLUMES)
    depth = [30, 40] + [32] * (len(evidence.frame) - 2)
    finding = DESCRIBE["mixed_depth"](["a", "b"], replace(evidence, frame=evidence.frame.assign(depth=depth)))[1]
    assert finding == f"{len(depth) - 2} volumes have 32 slices, 2 others 30 to 40."


def test_copies():
    finding = described("copies", *copies())
    assert "225 files hold only 200 different ones: 25 pictures occur more than once" in finding.finding
    assert "25 of these pictures occur both in Training and in Testing" in finding.finding


def test_a_finding_names_the_first_images_and_counts_all():
    finding = described("copies", *copies())
    assert finding.images == copies()[:SHOWN]
    assert finding.count == 25


def test_copies_of_training():
    finding = described("copied_from_training", *copies())
    assert "25 of the 65 Testing images" in finding.finding
    assert "24 of 34 glioma, 1 of 11 no tumour" in finding.finding


def test_near_copies():
    finding = described("near_copies", *(f"{n}.jpg" for n in range(50)))
    assert "50 images fall into 25 groups" in finding.finding
    assert "correlate above 0.99)" in finding.finding
    assert "Above 0.999 it is 50 images in 25 groups." in finding.finding


def test_near_copies_in_training():
    finding = described("near_copy_in_training", *copies())
    assert "25 above a correlation of 0.999, 25 byte for byte" in finding.finding
    assert "left out of the official split (25)" in finding.what_we_do
    assert "stay in its test split (0)" in finding.what_we_do
    assert "every Training image of their groups is left out (0)" in finding.what_we_do
    assert "40 images to test on (10 glioma, 10 meningioma, 10 no tumour, 10 pituitary)" in finding.what_we_do


def test_near_copies_in_training_that_are_no_copies_stay_and_training_gives_way():
    finding = described("near_copy_in_training", *copies(), evidence=faulty(altered=5))
    assert "25 above a correlation of 0.999, 20 byte for byte" in finding.finding
    assert "left out of the official split (20)" in finding.what_we_do
    assert "stay in its test split (5)" in finding.what_we_do
    assert "every Training image of their groups is left out (5)" in finding.what_we_do
    assert "45 images to test on (15 glioma, 10 meningioma, 10 no tumour, 10 pituitary)" in finding.what_we_do


def test_contradicting_labels_are_listed():
    finding = described("contradicting_labels", "Testing/no_tumor/copy7.jpg", "Training/glioma_tumor/7.jpg")
    assert "2 images in 1 group of near-copies contradict each other in 1 pair:" in finding.finding
    assert "Training/glioma_tumor/7.jpg as glioma but Testing/no_tumor/copy7.jpg as no tumour" in finding.finding


def test_imbalance():
    finding = described("imbalance", "pituitary_tumor")
    assert "glioma, has 74 images; much smaller: pituitary (50)" in finding.finding


def test_pooled_leak():
    frame = EVIDENCE.frame
    test = frame[frame["split_pooled"] == "test"]
    leaked = test[test["group"].isin(frame.loc[frame["split_pooled"] == "train", "group"])]["path"]
    assert 0 < len(leaked) < len(test) == 34
    finding = described("pooled_leak", *leaked)
    share = f"{len(leaked) / 34:.0%}"
    assert f"{len(leaked)} of the 34 test images of the pooled split ({share})" in finding.finding
    assert f"{share} byte for byte" in finding.finding


def test_thin_splits():
    finding = described("thin_splits", "official/val/no_tumor", "official/test/glioma_tumor", "official/test/no_tumor")
    assert "(official val: 7 no tumour; official test: 10 glioma, 10 no tumour)" in finding.finding


def test_a_remark_is_shown_only_where_the_data_holds_those_images():
    assert find([], EVIDENCE) == []
    (remark,) = BRAIN.remarks
    frame = EVIDENCE.frame
    held = frame[(frame["official_split"] == "Testing") & (frame["label"] == "glioma_tumor")]
    known = {**remark.model_dump(), "sha256": digest_of(held)}
    (note,) = find([], replace(EVIDENCE, spec=changed(remarks=[known])))
    assert (note.id, note.severity, note.count) == ("testing_glioma", "note", 34)
    assert note.finding == remark.finding
    renamed = held.assign(path=held["path"] + ".jpeg")
    assert digest_of(renamed) == digest_of(held)


def test_images_of_one_patient_on_both_sides():
    frame = EVIDENCE.frame
    finding = described("group_in_training", *frame["path"][:3])
    assert "3 of the 65 Testing images are of a patient that Training has images of too" in finding.finding
    pooled = described("pooled_groups", *frame["path"][:17])
    assert "17 of the 34 test images of the pooled split (50%) are of a patient" in pooled.finding


def test_a_data_set_without_official_split_is_told_nothing_of_one():
    evidence = faulty(spec=changed(official=None))
    for check in ("copies", "near_copies", "contradicting_labels", "imbalance"):
        finding = described(check, "Training/glioma_tumor/7.jpg", evidence=evidence)
        assert "official" not in finding.finding + finding.what_we_do
        assert "Testing and" not in finding.finding
