"""What the bench found, as columns of the results table."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from hscc.errors import ArtifactError
from hscc.files import file_sha256
from hscc.pipeline.artifacts import DENSE, Network
from hscc.pipeline.benchmark.runtimes import ONNXRUNTIME
from hscc.pipeline.statistics.between_methods import COLUMNS, compare_global_svd
from hscc.pipeline.statistics.comparisons import Evidence, comparison_columns, holm, score_columns
from hscc.pipeline.statistics.results import Row, compressed_rows


def speed_columns(
    bench: Mapping[str, Any], network: Network, dense: Network, *, timed: bool
) -> dict[str, float | None]:
    """Time, speed-up, efficiency and peak memory of one network, by runtime and batch size.

    Parameters
    ----------
    bench : mapping
        Content of ``bench.json``.
    network, dense : Network
        The network and the baseline it is held against.
    timed : bool
        Whether the bench should have it. Networks of other protocols and of seeds beyond the first are not timed: the
        clock has no need of them.

    Returns
    -------
    dict of str to float or None
        For each batch size B ``latency_ms_bB``, ``speedup_bB``, each with ``_iqr``, ``speedup_bB_se``,
        ``efficiency_bB`` (speed-up over the ratio of MACs) and ``peak_mb_bB``; those of other runtimes than ONNX
        Runtime begin with the runtime's name. None where the bench has no row: a network that is not timed, int8 in
        torch.

    Raises
    ------
    ArtifactError
        If the bench measured another file than the network's, or lacks a network that it should have.
    """
    found = {(row["runtime"], row["batch"]): row for row in bench["rows"] if row["network"] == network.name}
    if timed and not found:
        raise ArtifactError(f"the bench has no times of {network.name}; run `hscc bench`, or `dvc repro`.")
    if any(row["model_sha256"] != file_sha256(network.model) for row in list(found.values())[:1]):
        raise ArtifactError(f"{network.model} is not the file that was timed; run `hscc bench`, or `dvc repro`.")
    columns: dict[str, float | None] = {}
    for runtime in bench["runtimes"]:
        prefix = "" if runtime == ONNXRUNTIME else f"{runtime}_"
        for batch in bench["batches"]:
            figures = _figures(found.get((runtime, batch), {}), dense.macs / network.macs, network.is_dense)
            columns |= {f"{prefix}{name.format(f'b{batch}')}": value for name, value in figures.items()}
    return columns


def _figures(row: Mapping[str, Any], macs_ratio: float, is_dense: bool) -> dict[str, float | None]:
    # A baseline's speed-up is 1 by definition; what the clock makes of it is the noise, reported apart.
    known = {"speedup": 1.0, "speedup_iqr": 0.0, "speedup_se": 0.0} if is_dense and row else row
    speedup = known.get("speedup")
    return {
        "latency_ms_{}": row.get("ms"),
        "latency_ms_{}_iqr": row.get("ms_iqr"),
        "speedup_{}": speedup,
        "speedup_{}_iqr": known.get("speedup_iqr"),
        "speedup_{}_se": known.get("speedup_se"),
        "efficiency_{}": None if speedup is None else speedup / macs_ratio,
        "peak_mb_{}": row.get("peak_mb"),
    }


BASELINE, COMPARED, CONTROL = "baseline", "compared", "control"


def build_rows(
    evidence: Mapping[Network, Evidence],
    bench: Mapping[str, Any],
    protocol: str,
    *,
    timed: Collection[Network],
    controls: Collection[str],
    provenance: Mapping[str, str],
) -> list[Row]:
    """Tabulate all networks.

    Parameters
    ----------
    evidence : mapping of Network to Evidence
        What the test split of its protocol says about each; a baseline of every protocol among them.
    bench : mapping
        Content of ``bench.json``.
    protocol : str
        Of the compressed networks.
    timed : collection of Network
        Those that the bench must have.
    controls : collection of str
        Methods that are there to be held against, not to be deployed.
    provenance : mapping of str to str
        Last columns: data hash, commit.

    Returns
    -------
    list of dict
        In the order of `evidence`; plain values, None where a figure is undefined.

    Raises
    ------
    ArtifactError
        If the bench lacks a network of `timed` or measured another file.
    """
    dense = {network.protocol: network for network in evidence if network.is_dense}
    own = {network: found for network, found in evidence.items() if network.protocol == protocol}
    beside = compare_global_svd(own)
    rows = []
    for network, found in evidence.items():
        reference = dense[network.protocol]
        row: Row = {
            **_identity(network, controls),
            **_costs(network, reference, len(found.correct)),
            **score_columns(found),
            **comparison_columns(found, evidence[reference]),
            "mcnemar_p_holm": None,
            **(beside.get(network) or dict.fromkeys(COLUMNS)),
            **_on_validation(network),
            **speed_columns(bench, network, reference, timed=network in timed),
            **provenance,
        }
        rows.append({name: _plain(value) for name, value in row.items()})
    _correct(compressed_rows(rows, protocol))
    return rows


def _identity(network: Network, controls: Collection[str]) -> Row:
    role = BASELINE if network.method == DENSE else CONTROL if network.method in controls else COMPARED
    return {
        "method": network.method,
        "budget": network.budget,
        "seed": network.seed,
        "protocol": network.protocol,
        "precision": network.precision,
        "role": role,
    }


def _costs(network: Network, dense: Network, images: int) -> Row:
    return {
        "n_test": images,
        "macs": network.macs,
        "params": network.params,
        "macs_ratio": dense.macs / network.macs,
        "params_ratio": dense.params / network.params,
        "size_bytes": network.model.stat().st_size,
        "model_sha256": file_sha256(network.model),
    }


def _on_validation(network: Network) -> Row:
    return {
        "val_accuracy": network.val_accuracy,
        "val_kl": network.val_kl,
        "val_accuracy_before": network.val_accuracy_before,
        "val_kl_before": network.val_kl_before,
        "predicted_loss": network.predicted_loss,
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _correct(rows: list[Row]) -> None:
    for row, value in zip(rows, holm([row["mcnemar_p"] for row in rows]), strict=True):
        row["mcnemar_p_holm"] = value
