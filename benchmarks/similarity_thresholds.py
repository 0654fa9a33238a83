"""How many clusters and regions each layer has at a similarity threshold, on the calibration of the pipeline.

python -m benchmarks.similarity_thresholds
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.common import new_table
from hscc.calibration.storage import load_calibration
from hscc.factorisation.region_context import whole_layer
from hscc.partitions.clusters import SimilarChannels, channel_correlation
from hscc.partitions.regions import Merged
from hscc.pipeline import layout

_CLUSTERS = (0.05, 0.1, 0.2, 0.3, 0.5)
_REGIONS = (0.7, 0.8, 0.9)


def main(moments: Annotated[Path, typer.Option(help="Calibration.")] = Path(layout.MOMENTS)) -> None:
    """Print the table."""
    calibration = load_calibration(moments)
    counts = [f"clusters at {t:g}" for t in _CLUSTERS] + [f"regions at {t:g}" for t in _REGIONS]
    table = new_table(
        "Clusters of the whole layer, and merged regions, by similarity threshold",
        "layer",
        f"channels, mean |correlation|, {', '.join(counts)}",
    )
    for layer in calibration.layers:
        moments_of_layer = calibration.moments[layer.name]
        covariance = whole_layer(moments_of_layer, calibration.images).covariance
        if covariance is None:
            continue
        correlation = channel_correlation(covariance, layer.inputs)
        clusters = [len(SimilarChannels(t).groups(correlation, lambda: correlation)) for t in _CLUSTERS]  # noqa: B023
        regions = [Merged(threshold).tiles(layer, moments_of_layer) for threshold in _REGIONS]
        off_diagonal = correlation[~np.eye(len(correlation), dtype=bool)]
        table.add_row(
            layer.name,
            str(layer.inputs),
            f"{np.abs(off_diagonal).mean():.3f}",
            *map(str, clusters),
            *("" if tiles is None else str(len(tiles)) for tiles in regions),
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
