"""The rows of the results table: all that is known about each network."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from hscc.evaluation.fingerprint import file_sha256
from hscc.evaluation.global_svd import COLUMNS, compare_global_svd
from hscc.evaluation.holm import holm
from hscc.evaluation.networks import DENSE, Network
from hscc.evaluation.results import Row, compressed_rows
from hscc.evaluation.scoring import Evidence, comparison_columns, score_columns
from hscc.evaluation.speed import speed_columns

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
