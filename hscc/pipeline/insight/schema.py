"""What the stage insight writes into ``reports/insight.json``, and the report reads.

Pictures are named by their file in ``artifacts/insight/``. Shares and similarities are fractions, importances are
logits.
"""

from __future__ import annotations

from pathlib import Path

from hscc.pipeline.statistics.schema import Record, read_record


class NetworkInWords(Record):
    """A network that was looked into, and what its plan made of the layers."""

    network: str
    words: str


class ClusterCount(Record):
    """A cell of the sweep in which layers have several clusters.

    Attributes
    ----------
    layers, clusters, kept : int
        Such layers, their clusters, and how many of those kept a rank.
    """

    network: str
    layers: int
    clusters: int
    kept: int


class ImageCounts(Record):
    """Training images under the maps, validation images for the importances, test images for the rest."""

    mean: int
    importance: int
    test: int


class LayerMap(Record):
    """Where one layer kept its rank.

    Attributes
    ----------
    kind : str
        Of the layer's structure.
    regions, clusters, kept : int
        Clusters, and those that kept a rank, of all regions together.
    positions : int
        Of the layer's outputs.
    grid : tuple of int
        Rows and columns of the feature map.
    rank_map : tuple of tuple of float, or None
        Rank / full rank over the cells of the feature map, row by row, of a volume in its middle slice; None where the
        layer has no such rank.
    picture : str or None
        None where there is nothing to draw.
    """

    layer: str
    kind: str
    regions: int
    clusters: int
    kept: int
    positions: int
    grid: tuple[int, ...]
    full_rank: int
    rank_map: tuple[tuple[float, ...], ...] | None
    words: str
    picture: str | None


class ClusterImportance(Record):
    """How much each class loses without one cluster.

    Attributes
    ----------
    tiles : tuple of tuple of int
        First row, end row, first column and end column (of volumes the slices before them) of each rectangle of the
        region, in a grid of `cells` per side.
    per_class, per_class_se : tuple of float or None
        Fall of the class's centred logit without the cluster, with its standard error, in the order of the classes;
        None for a class without images.
    """

    layer: str
    region: int
    cluster: int
    tiles: tuple[tuple[int, ...], ...]
    cells: int
    channels: int
    rank: int
    per_class: tuple[float | None, ...]
    per_class_se: tuple[float | None, ...]


class ImportancePicture(Record):
    """Importance of the regions of a layer to one class, over the class's mean image."""

    layer: str
    label: str
    picture: str


class MapSimilarity(Record):
    """Mean similarity of two networks' class-activation maps over the images of one class.

    Attributes
    ----------
    n : int
        Images that have a map.
    mean, spearman, iou : float
        Pearson's correlation, rank correlation, and overlap of the top quarters, each with its standard error.
    chance : float or None
        Mean correlation of the dense network's map of an image with the other network's map of another image of the
        class. What exceeds it is agreement about the image, not about where a head lies.
    """

    network: str
    label: str
    n: int
    mean: float
    se: float | None
    spearman: float
    spearman_se: float | None
    iou: float
    iou_se: float | None
    chance: float | None


class MapPicture(Record):
    """One image with the maps of the dense and of a compressed network; `example` says why it was picked."""

    network: str
    path: str
    label: str
    dense_predicted: str
    small_predicted: str
    similarity: float
    example: str
    picture: str


class ActivationMaps(Record):
    """Class-activation maps.

    Attributes
    ----------
    layer, at : str
        The last convolution, and the module whose outputs are mapped.
    method, library : str
        How the maps were computed.
    """

    layer: str
    at: str
    method: str
    library: str
    similarity: tuple[MapSimilarity, ...]
    pictures: tuple[MapPicture, ...]


class MapOverlay(Record):
    """One test image with the masks of the dense and of a compressed network over it.

    Attributes
    ----------
    dense, small : float
        Score of the image, as `Insight.score` names it.
    """

    network: str
    path: str
    dense: float
    small: float
    picture: str


class FlipCount(Record):
    """How many test images a network answers otherwise than the dense one, by kind of change."""

    network: str
    images: int
    flips: int
    lost: int
    gained: int
    other: int


class FlippedImage(Record):
    """One image whose answer compression changed, with the probabilities by both networks."""

    network: str
    path: str
    label: str
    dense: dict[str, float]
    small: dict[str, float]
    kind: str
    picture: str


class Insight(Record):
    """Content of ``reports/insight.json``.

    Attributes
    ----------
    classes : tuple of str
        Every ``per_class`` has their order.
    network : str
        Of `networks` the first in which a layer has several regions, else the first: what `layers` and `importance`
        show.
    rank_scale : float
        Share of the full rank that has the brightest colour in the pictures.
    score : str
        Name of the primary score.
    cams : ActivationMaps or None
        None, as `flip_counts` and `flips` are empty, where images have no class of their own.
    overlays : tuple of MapOverlay
        Where each pixel has a class.
    """

    protocol: str
    data_hash: str
    git_commit: str
    classes: tuple[str, ...]
    network: str
    networks: tuple[NetworkInWords, ...]
    sweep: tuple[ClusterCount, ...]
    images: ImageCounts
    rank_scale: float
    layers: tuple[LayerMap, ...]
    importance: tuple[ClusterImportance, ...]
    importance_pictures: tuple[ImportancePicture, ...]
    cams: ActivationMaps | None = None
    flip_counts: tuple[FlipCount, ...] = ()
    flips: tuple[FlippedImage, ...] = ()
    score: str = "accuracy"
    overlays: tuple[MapOverlay, ...] = ()


def read_insight(path: Path) -> Insight:
    """Read ``insight.json``.

    Raises
    ------
    ArtifactError
        If it is missing or is not of this version.
    """
    return read_record(Insight, path, "hscc insight")
