from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.artifacts import Network
from hscc.pipeline.benchmark.measurement import Bench
from hscc.pipeline.statistics.comparisons import Evidence, gather, holm
from hscc.pipeline.statistics.metrics import METRICS, SCORES
from hscc.pipeline.statistics.results import flatten
from hscc.pipeline.statistics.rows import build_rows
from hscc.pipeline.statistics.schema import NetworkRow, Results

Table = dict[str, NetworkRow]


@pytest.fixture
def table(results: Results) -> Table:
    return {row.name: row for row in results.rows}


def build(evidence: dict[Network, Evidence], bench: Bench, **changes: Any) -> Table:
    settings = {"timed": [network for network in evidence if network.protocol == "grouped"], **changes}
    return {row.name: row for row in build_rows(evidence, bench, "grouped", **settings)}


def changed(network: Network, **changes: Any) -> Network:
    seed = changes.get("seed", network.seed)
    return replace(network, spec=network.spec and replace(network.spec, **changes), seed=seed)


def test_every_score_has_an_error_and_an_interval_around_it(table: Table) -> None:
    row = table["global_svd-macs6-seed0"]
    scores = [*(row.scores[name] for name in SCORES), row.kl, row.agreement]
    for score in [*scores, row.classes[0].recall, row.classes[2].precision, row.classes[2].f1]:
        assert 0 < score.se < 0.2
        assert score.low < score.value < score.high


def test_ratios_and_efficiency_follow_from_the_counts(table: Table) -> None:
    row = table["hscc-macs6-seed0"]
    assert row.macs_ratio == pytest.approx(6.0)
    assert row.params_ratio == 1.0
    assert (row.timing(16).speedup, row.timing(1).ms) == (2.0, 6.0)
    assert row.timing(16).efficiency == pytest.approx(2.0 / 6.0)


def test_the_baseline_is_its_own_reference(table: Table) -> None:
    row = table["dense-grouped"]
    assert row.timing(1).speedup == row.macs_ratio == row.timing(1).efficiency == 1.0
    assert row.kl.value == 0.0 and row.against_dense is None
    assert table["dense-pooled"].agreement.value == row.agreement.value == row.agreement.low == 1.0
    assert table["hscc-macs6-seed0"].agreement.value < 1.0


def test_roles(evidence: dict[Network, Evidence], bench: Bench) -> None:
    renamed = {
        changed(network, method="hscc_direct") if network.method == "tucker" else network: found
        for network, found in evidence.items()
    }
    table = build(renamed, bench, timed=())
    assert {name: row.role for name, row in table.items() if "6" in name or "dense" in name} == {
        "dense-grouped": "baseline",
        "dense-pooled": "baseline",
        "dense-grouped-int8": "baseline",
        "global_svd-macs6-seed0": "compared",
        "hscc_direct-macs6-seed0": "control",
        "hscc-macs6-seed0": "compared",
        "hscc-macs6-seed0-int8": "compared",
    }


def test_holm_is_over_the_compressed_networks_and_no_other(table: Table) -> None:
    family = [row.against_dense for name, row in table.items() if "dense" not in name and "int8" not in name]
    assert [found.mcnemar_p_holm for found in family] == holm([found.mcnemar_p for found in family])
    assert table["hscc-macs6-seed0-int8"].against_dense.mcnemar_p_holm is None
    assert table["dense-grouped-int8"].against_dense.mcnemar_p_holm is None


def test_networks_are_compared_with_global_svd_of_their_budget(table: Table) -> None:
    row, other = table["hscc-macs3-seed0"], table["global_svd-macs3-seed0"]
    found = row.against_global_svd
    assert found.against == "global_svd"
    assert found.primary.value == pytest.approx(row.primary.value - other.primary.value)
    assert found.kl.value == pytest.approx(row.kl.value - other.kl.value)
    assert found.scores["macro_f1"].value == pytest.approx(
        row.scores["macro_f1"].value - other.scores["macro_f1"].value
    )
    assert found.kl.low < found.kl.value < found.kl.high
    family = [
        table[f"{method}-macs{macs}-seed0"].against_global_svd for macs in (3, 6) for method in ("tucker", "hscc")
    ]
    assert [each.mcnemar_p_holm for each in family] == holm([each.mcnemar_p for each in family])
    for name in ("global_svd-macs3-seed0", "dense-grouped", "hscc-macs6-seed0-int8"):
        assert table[name].against_global_svd is None


def test_the_adaptive_form_stands_in_where_the_plain_one_was_not_run(
    evidence: dict[Network, Evidence], bench: Bench
) -> None:
    adaptive = {
        changed(network, method="global_svd_adaptive") if network.method == "global_svd" else network: found
        for network, found in evidence.items()
    }
    assert build(adaptive, bench, timed=())["hscc-macs6-seed0"].against_global_svd.against == "global_svd_adaptive"


def test_a_budget_of_time_is_not_one_of_macs(evidence: dict[Network, Evidence], bench: Bench) -> None:
    timed = {
        changed(network, budget=replace(network.spec.budget, macs=None, latency=6.0))
        if network.spec and network.method == "hscc"
        else network: found
        for network, found in evidence.items()
        if network.precision == "fp32" and (not network.spec or network.spec.budget.macs == 6.0)
    }
    table = build(timed, bench, timed=())
    assert table["hscc-latency6-seed0"].against_global_svd is None
    assert table["tucker-macs6-seed0"].against_global_svd is not None


def test_seeds_beyond_the_first_have_no_times_and_the_first_must(
    evidence: dict[Network, Evidence], bench: Bench
) -> None:
    second = {changed(network, seed=1): found for network, found in evidence.items() if network.method == "hscc"}
    table = build(
        evidence | {network: found for network, found in second.items() if network.precision == "fp32"},
        bench,
        timed=[network for network in evidence if network.protocol == "grouped"],
    )
    assert table["hscc-macs6-seed1"].timings == ()
    assert table["hscc-macs6-seed1"].against_global_svd is None  # no Global SVD of that seed
    rows = tuple(row for row in bench.rows if row.network != "hscc-macs6-seed0")
    with pytest.raises(ArtifactError, match="no times of hscc-macs6-seed0"):
        build(evidence, bench.model_copy(update={"rows": rows}))


def test_a_further_metric_is_resampled_like_any_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "errors", lambda labels, probabilities, weights: 1 - METRICS["accuracy"](
        labels, probabilities, weights
    ))  # fmt: skip
    labels, logits = np.arange(8) % 2, np.eye(2)[[0, 1, 0, 1, 1, 1, 0, 1]]
    weights = np.concatenate([np.ones((1, 8)), np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), 50)])
    found = gather(labels, logits, logits, weights, ("a", "b"), (*SCORES, "errors")).scores["errors"].estimate()
    assert found.value == pytest.approx(1 / 8)
    assert found.se > 0


def test_the_runtime_that_serves_is_the_one_spoken_of(evidence: dict[Network, Evidence], bench: Bench) -> None:
    faster = [
        row.model_copy(update={"runtime": "engine", "speedup": 3 * row.speedup})
        for row in bench.rows
        if row.runtime == "onnxruntime"
    ]
    both = bench.model_copy(update={"rows": (*bench.rows, *faster)})
    name = "hscc-macs6-seed0"
    portable = build(evidence, both)[name]
    served = build(evidence, both, runtime="engine")[name]
    assert served.timing(16).speedup == pytest.approx(3 * portable.timing(16).speedup)
    assert served.timing(16, "onnxruntime") == portable.timing(16)
    assert served.lowest_speedup == pytest.approx(3 * portable.lowest_speedup)
    own, other = flatten(served), flatten(portable)
    assert own["speedup_b16"] == other["engine_speedup_b16"] and own["onnxruntime_speedup_b16"] == other["speedup_b16"]
