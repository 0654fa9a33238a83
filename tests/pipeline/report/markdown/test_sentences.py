from __future__ import annotations

from hscc.pipeline.report.markdown.sentences import findings, headline

from .tabled import make_document, make_pair, make_row


def about(sentences: list[str], begin: str) -> str:
    (found,) = [sentence for sentence in sentences if sentence.startswith(f"**{begin}")]
    return found


def test_the_fastest_is_the_fastest_of_those_that_lose_nothing_beyond_noise() -> None:
    fast = make_row("tucker", 12.0, gain=-0.1)
    twin = make_row("hscc", 6.0, precision="int8", size_bytes=1_300_000)
    said = about(findings(make_document(make_row("hscc", 6.0), fast, twin)), "Fastest")
    assert "HSCC, 6× has 6.0× fewer MACs and 12× fewer parameters and runs 3.0× faster at batch 1 and 2.0×" in said
    assert "by 0.0 (−2.0 to +2.0) points" in said
    assert "int8 twin is a file of 1.3 MB" in said
    assert "5.3× fewer FLOPs into 1.38×" in said
    assert not [one for one in findings(make_document(fast)) if one.startswith("**Fastest")]


def test_rivals_are_sorted_by_what_can_be_said() -> None:
    pairs = [
        make_pair("global_svd", 6.0, 0.05),
        make_pair("tucker", 6.0, 0.0),
        make_pair("tucker_adaptive", 6.0, -0.05),
    ]
    said = about(findings(make_document(make_row("hscc", 6.0), comparisons=pairs)), "HSCC at 6×")
    assert "is above Global SVD (+5.0, +3.0 to +7.0)" in said
    assert "It is below Tucker-2, adaptive (−5.0" in said
    assert "It cannot be told from Tucker-2 (0.0, −2.0 to +2.0)" in said


def test_seeds_that_disagree_about_a_rival_are_counted() -> None:
    pairs = [
        make_pair("global_svd", 6.0, 0.05),
        {**make_pair("global_svd", 6.0, 0.0), "seed": 1},
        make_pair("tucker", 6.0, 0.05),
        {**make_pair("tucker", 6.0, 0.04), "seed": 1},
    ]
    said = about(findings(make_document(make_row("hscc", 6.0), comparisons=pairs)), "HSCC at 6×")
    assert "over 2 seeds, is above Tucker-2 (+4.0 to +5.0)" in said
    assert said.endswith("not the same in every seed against Global SVD (0.0 to +5.0; above in 1, below in 0).")


def test_the_headline_is_of_the_fastest_faithful_and_counts_where_hscc_stands() -> None:
    pairs = [make_pair("global_svd", 6.0, 0.05), make_pair("tucker_adaptive", 6.0, -0.05)]
    said = headline(make_document(make_row("hscc", 6.0), make_row("tucker", 12.0, gain=-0.1), comparisons=pairs))
    assert said.startswith("**In short:** HSCC, 6× runs 3.0× faster than its dense network, with 6× fewer MACs")
    assert "Of 1 comparisons each" in said
    assert "than Global SVD in 1; Tucker-2, adaptive in 0 (below in 1)." in said
    assert "no compressed network keeps" in headline(make_document(make_row("tucker", 12.0, gain=-0.1)))


def test_losses_are_counted_and_corrected() -> None:
    lost = make_row("tucker", 6.0, gain=-0.05, mcnemar_p_holm=0.01)
    again = make_row("tucker", 6.0, gain=-0.04, seed=1)
    other = make_row("global_svd", 6.0, gain=-0.03)
    said = about(findings(make_document(lost, again, other, make_row("hscc", 6.0))), "Beyond the paired interval")
    assert "3 of 4 networks lose accuracy, in points, seed by seed: Tucker-2, 6× (−5.0, −4.0); Global SVD" in said
    assert said.endswith("By McNemar's test with Holm's correction: Tucker-2, 6× (p 0.010).")
    assert about(findings(make_document(make_row("hscc", 6.0))), "No network")


def test_the_spread_over_seeds_stands_beside_the_error_of_the_test_set() -> None:
    averages = [
        {"seeds": 3, "accuracy_sd": 0.004, "accuracy_bootstrap_se": 0.024},
        {"seeds": 3, "accuracy_sd": 0.03, "accuracy_bootstrap_se": 0.02},
    ]
    said = about(findings(make_document(make_row("hscc", 6.0), seeds=averages)), "Another seed")
    assert "over 3 seeds the standard deviation of a network's accuracy is 0.4 to 3.0 points" in said
    assert said.endswith("below the standard error of the test set (2.0 to 2.4) for 1 of 2 networks.")
    assert not any("Another seed" in sentence for sentence in findings(make_document(make_row("hscc", 6.0))))


def test_a_budget_of_time_is_told_by_its_worst_batch() -> None:
    timed = make_row("hscc_timed", 5.0, speedup_b1=6.0, speedup_b16=4.9)
    assert "HSCC, timed 4.9× where 5× was asked" in about(findings(make_document(timed)), "A budget of time")


def test_what_one_image_is_worth_is_said() -> None:
    said = findings(make_document(make_row("hscc", 6.0)))
    assert about(said, "One image is 0.20 points").endswith("the paper's gain of 2.04 points is 10 images of 490.")
    assert "90.0 ± 1.0 % under pooled" in about(said, "The dense network")
