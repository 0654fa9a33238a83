"""The rows of the results: one per network, from its scores, its costs and its times."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hscc.errors import ArtifactError
from hscc.files import file_sha256
from hscc.pipeline.artifacts import Network
from hscc.pipeline.benchmark.measurement import Bench, BenchRow
from hscc.pipeline.statistics.between_methods import against_global_svd
from hscc.pipeline.statistics.comparisons import Evidence, compare, with_holm
from hscc.pipeline.statistics.schema import (
    DENSE,
    ONNXRUNTIME,
    AskedBudget,
    ClassScores,
    Comparison,
    NetworkRow,
    Role,
    Timing,
    asked,
)

_OF_CLASSES = ("precision", "recall", "f1")
_OF_DENSE = ("kl", "agreement")  # scores with the dense network as the truth


def build_rows(
    evidence: Mapping[Network, Evidence],
    bench: Bench,
    protocol: str,
    runtime: str = ONNXRUNTIME,
    *,
    timed: Collection[Network],
) -> list[NetworkRow]:
    """Tabulate all networks.

    Parameters
    ----------
    evidence : mapping of Network to Evidence
        What the test split of its protocol says about each; a baseline of every protocol among them.
    bench : Bench
        Times and memory.
    protocol : str
        Of the compressed networks.
    runtime : str
        In which networks are served.
    timed : collection of Network
        Those that the bench must have.

    Returns
    -------
    list of NetworkRow
        In the order of `evidence`. Holm's correction of the comparisons with the dense network is over the compressed
        networks in floating point.

    Raises
    ------
    ArtifactError
        If the bench lacks a network of `timed` or measured another file.
    """
    dense = {network.protocol: network for network in evidence if network.is_dense}
    differences = _against_dense(evidence, dense)
    own = {network: found for network, found in evidence.items() if network.protocol == protocol}
    global_svd = against_global_svd(own)
    return [
        NetworkRow(
            method=network.method,
            budget=asked(network.spec.budget) if network.spec else AskedBudget(),
            seed=network.seed,
            protocol=network.protocol,
            precision=network.precision,
            role=_role(network),
            n_test=found.images,
            macs=network.macs,
            params=network.params,
            macs_ratio=dense[network.protocol].macs / network.macs,
            params_ratio=dense[network.protocol].params / network.params,
            size_bytes=network.model.stat().st_size,
            model_sha256=file_sha256(network.model),
            score=found.primary,
            scores={name: each.estimate() for name, each in found.scores.items() if name not in _OF_DENSE},
            **{name: found.scores[name].estimate() for name in _OF_DENSE},
            classes=_classes(found),
            against_dense=differences.get(network),
            against_global_svd=global_svd.get(network),
            validation=network.validation,
            timings=_timings(bench, network, dense[network.protocol], required=network in timed),
            runtime=runtime,
        )
        for network, found in evidence.items()
    ]


def _classes(evidence: Evidence) -> tuple[ClassScores, ...]:
    scores = evidence.by_class
    names = next(iter(scores.values()))
    return tuple(
        ClassScores(
            name=name,
            **{score: scores[score][name].estimate() for score in _OF_CLASSES if score in scores},
            scores={score: each[name].estimate() for score, each in scores.items() if score not in _OF_CLASSES},
        )
        for name in names
    )


def _against_dense(evidence: Mapping[Network, Evidence], dense: Mapping[str, Network]) -> dict[Network, Comparison]:
    found = {
        network: compare(own, evidence[dense[network.protocol]], DENSE)
        for network, own in evidence.items()
        if not network.is_dense
    }
    family = [network for network in found if network.is_compressed]
    return found | dict(zip(family, with_holm([found[network] for network in family]), strict=True))


def _role(network: Network) -> Role:
    if network.spec is None:
        return "baseline"
    return "control" if network.is_control else "compared"


def _timings(bench: Bench, network: Network, dense: Network, *, required: bool) -> tuple[Timing, ...]:
    """Times of one network; none for networks of other protocols and of further seeds, which are not timed."""
    found = [row for row in bench.rows if row.network == network.name]
    if required and not found:
        raise ArtifactError(f"the bench has no times of {network.name}; run `hscc bench`, or `dvc repro`.")
    if found and found[0].model_sha256 != file_sha256(network.model):
        raise ArtifactError(f"{network.model} is not the file that was timed; run `hscc bench`, or `dvc repro`.")
    return tuple(_timing(row, dense.macs / network.macs, network.is_dense) for row in found)


def _timing(row: BenchRow, macs_ratio: float, is_dense: bool) -> Timing:
    # A baseline's speed-up is 1 by definition; what the bench measures of it is the noise, reported apart.
    speedup, iqr, se = (1.0, 0.0, 0.0) if is_dense else (row.speedup, row.speedup_iqr, row.speedup_se)
    return Timing(
        runtime=row.runtime,
        batch=row.batch,
        ms=row.ms,
        ms_iqr=row.ms_iqr,
        speedup=speedup,
        speedup_iqr=iqr,
        speedup_se=se,
        efficiency=speedup / macs_ratio,
        peak_mb=row.peak_mb,
    )
