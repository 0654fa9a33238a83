from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.artifacts import Network
from hscc.pipeline.statistics.comparisons import Evidence, holm, score_columns
from hscc.pipeline.statistics.results import row_name
from hscc.pipeline.statistics.rows import build_rows

Table = dict[str, dict[str, Any]]
SCORES = [
    "accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "ece", "brier", "kl_to_baseline", "agreement",
    "precision_no_tumor", "recall_glioma_tumor", "f1_no_tumor",
]  # fmt: skip


@pytest.fixture
def table(document: dict[str, Any]) -> Table:
    return {row_name(row): row for row in document["rows"]}


def build(evidence: dict[Network, Evidence], bench: dict[str, Any], **changes: Any) -> Table:
    timed = [network for network in evidence if network.protocol == "grouped"]
    settings = {"timed": timed, "controls": (), "provenance": {}, **changes}
    return {row_name(row): row for row in build_rows(evidence, bench, "grouped", **settings)}


def test_every_score_has_an_error_and_an_interval_around_it(table: Table) -> None:
    for name in SCORES:
        row = table["global_svd-6-0"]
        assert 0 < row[f"{name}_se"] < 0.2
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"], name
    assert set(SCORES) <= set(table["hscc-6-0"])


def test_the_baseline_agrees_with_itself_and_int8_of_it_need_not(table: Table) -> None:
    assert table["dense-grouped"]["agreement"] == table["dense-pooled"]["agreement"] == 1.0
    assert table["dense-grouped"]["agreement_low"] == 1.0
    assert table["hscc-6-0"]["agreement"] < 1.0


def test_all_rows_have_the_same_columns(table: Table) -> None:
    assert len({tuple(row) for row in table.values()}) == 1


def test_roles(evidence: dict[Network, Evidence], bench: dict[str, Any]) -> None:
    table = build(evidence, bench, controls=("tucker",))
    assert {name: row["role"] for name, row in table.items() if "6" in name or "dense" in name} == {
        "dense-grouped": "baseline",
        "dense-pooled": "baseline",
        "dense-grouped-int8": "baseline",
        "global_svd-6-0": "compared",
        "tucker-6-0": "control",
        "hscc-6-0": "compared",
        "hscc-6-0-int8": "compared",
    }


def test_holm_is_over_the_compressed_networks_and_no_other(table: Table) -> None:
    compressed = [row for name, row in table.items() if "dense" not in name and "int8" not in name]
    assert [row["mcnemar_p_holm"] for row in compressed] == holm([row["mcnemar_p"] for row in compressed])
    assert {table[name]["mcnemar_p_holm"] for name in ("dense-grouped", "hscc-6-0-int8", "dense-pooled")} == {None}


def test_networks_are_held_against_global_svd_of_their_budget(table: Table, evidence: dict[Network, Evidence]) -> None:
    row = table["hscc-3-0"]
    assert row["global_svd_partner"] == "global_svd"
    assert row["global_svd_accuracy_difference"] == pytest.approx(row["accuracy"] - table["global_svd-3-0"]["accuracy"])
    assert row["global_svd_kl_difference"] == pytest.approx(
        row["kl_to_baseline"] - table["global_svd-3-0"]["kl_to_baseline"]
    )
    assert row["global_svd_kl_difference_low"] < row["global_svd_kl_difference"] < row["global_svd_kl_difference_high"]
    tested = [table[f"{method}-{budget}-0"] for budget in (3, 6) for method in ("tucker", "hscc")]
    assert [row["global_svd_mcnemar_p_holm"] for row in tested] == holm([row["global_svd_mcnemar_p"] for row in tested])
    assert table["global_svd-3-0"]["global_svd_partner"] is None
    assert table["dense-grouped"]["global_svd_accuracy_difference"] is None
    assert table["hscc-6-0-int8"]["global_svd_mcnemar_p"] is None


def test_the_adaptive_form_stands_in_where_the_plain_one_was_not_run(
    evidence: dict[Network, Evidence], bench: dict[str, Any]
) -> None:
    renamed = {"global_svd": "global_svd_adaptive_timed", "hscc": "hscc_timed"}
    timed = {
        replace(network, method=renamed.get(network.method, network.method)): found
        for network, found in evidence.items()
    }
    table = build(timed, bench, timed=())
    assert table["hscc_timed-6-0"]["global_svd_partner"] == "global_svd_adaptive_timed"
    assert table["tucker-6-0"]["global_svd_partner"] is None  # its budget is of another kind


def test_seeds_beyond_the_first_have_no_times_and_the_first_must(
    evidence: dict[Network, Evidence], bench: dict[str, Any]
) -> None:
    second = {replace(network, seed=1): found for network, found in evidence.items() if network.method == "hscc"}
    everything = evidence | {network: found for network, found in second.items() if network.precision == "fp32"}
    first = list(evidence)
    table = build(everything, bench, timed=[network for network in first if network.protocol == "grouped"])
    assert table["hscc-6-1"]["speedup_b1"] is table["hscc-6-1"]["efficiency_b16"] is None
    assert table["hscc-6-0"]["speedup_b1"] == 2.0
    assert table["hscc-6-1"]["global_svd_partner"] is None  # no Global SVD of that seed
    lacking = {**bench, "rows": [row for row in bench["rows"] if row["network"] != "hscc-6-0"]}
    with pytest.raises(ArtifactError, match="no times of hscc-6-0"):
        build(evidence, lacking)


def test_what_was_before_fine_tuning_is_told(evidence: dict[Network, Evidence], bench: dict[str, Any]) -> None:
    before = {
        replace(network, val_kl_before=0.4, val_accuracy_before=0.7) if network.method == "hscc" else network: found
        for network, found in evidence.items()
    }
    table = build(before, bench)
    assert (table["hscc-6-0"]["val_kl_before"], table["hscc-6-0"]["val_accuracy_before"]) == (0.4, 0.7)
    assert table["dense-grouped"]["val_kl_before"] is None


def test_undefined_figures_are_null(evidence: dict[Network, Evidence]) -> None:
    found = next(iter(evidence.values()))
    empty = {name: draws * float("nan") for name, draws in found.draws.items()}
    columns = score_columns(replace(found, draws=empty))
    assert str(columns["accuracy_low"]) == str(columns["accuracy_se"]) == "nan"
