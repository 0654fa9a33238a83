"""What the bench found, as columns of the results table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hscc.errors import ArtifactError
from hscc.evaluation.fingerprint import file_sha256
from hscc.evaluation.networks import Network
from hscc.evaluation.runtimes import ONNXRUNTIME


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
