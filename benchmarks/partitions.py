"""How many clusters and regions a similarity threshold gives, a layer at a time, on the calibration of the pipeline.

python -m benchmarks.partitions
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from hscc.calibration.storage import load_calibration
from hscc.factorisation.region_context import whole_layer
from hscc.partitions.clusters import SimilarChannels, channel_correlation
from hscc.partitions.regions import Merged
from hscc.pipeline import layout

_CLUSTERS = (0.05, 0.1, 0.2, 0.3, 0.5)
_REGIONS = (0.7, 0.8, 0.9)


def main(
    moments: Annotated[Path, typer.Option(help="Calibration to read.")] = Path(layout.MOMENTS),
) -> None:
    """Print the table."""
    calibration = load_calibration(moments)
    table = Table(title="clusters of the whole layer, and merged regions, by similarity threshold")
    for heading in ("layer", "channels", "mean |correlation|", *(f"clusters at {t:g}" for t in _CLUSTERS)):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for threshold in _REGIONS:
        table.add_column(f"regions at {threshold:g}", justify="right")
    for layer in calibration.layers:
        moments_here = calibration.moments[layer.name]
        covariance = whole_layer(moments_here, calibration.images).covariance
        if covariance is None:
            continue
        correlation = channel_correlation(covariance, layer.inputs)
        counts = [len(SimilarChannels(t).groups(correlation, lambda: correlation)) for t in _CLUSTERS]  # noqa: B023
        regions = [Merged(threshold).tiles(layer, moments_here) for threshold in _REGIONS]
        apart = correlation[~np.eye(len(correlation), dtype=bool)]
        table.add_row(
            layer.name,
            str(layer.inputs),
            f"{np.abs(apart).mean():.3f}",
            *map(str, counts),
            *("" if tiles is None else str(len(tiles)) for tiles in regions),
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
