"""The rows and claims of the structure grid: one schema that the stage tradeoff writes and the report reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from hscc.pipeline.statistics.schema import Estimate, Machine, Record, read_record, renamed

FIXED = "fixed"  # the method of settings whose structure is given; others are names in METHODS
AUTO: Literal["auto"] = "auto"
_EARLIER = {"val_accuracy": "val_score"}  # names of fields in tables of earlier versions

Choice = int | Literal["auto"]
Axis = Literal["clusters", "regions"]
Verdict = Literal["supported", "refuted", "undecided"]
Structure = tuple[int, int]
"""Regions per side and clusters per region."""


class Setting(Record):
    """A point of the grid.

    Attributes
    ----------
    method : str
        "fixed" for the same structure in every layer, or a method's name in `hscc.METHODS` that chooses layer by
        layer.
    regions, clusters : int or "auto"
        Regions per side and clusters per region; "auto" where the method chooses.
    budget_macs : float
        Times fewer MACs than the dense network.
    images : int
        Calibration images.
    """

    method: str
    regions: Choice
    clusters: Choice
    budget_macs: float
    images: int

    @property
    def name(self) -> str:
        """Name in files, progress lines and tables."""
        structure = f"{self.regions}x{self.clusters}" if self.method == FIXED else self.method
        return f"{structure}-{self.budget_macs:g}-{self.images}"


class StructureTiming(Record):
    """Time of one call at a batch size in ONNX Runtime, dense and compressed in alternation.

    Attributes
    ----------
    ms : float
        Median milliseconds per call.
    speedup, speedup_se : float
        Of the pairs, with its bootstrap standard error.
    on_front : bool
        Whether no other structure is both faster and nearer to the dense network.
    """

    batch: int
    ms: float
    speedup: float
    speedup_se: float
    on_front: bool = False


class StructureCosts(Record):
    """What a planned network costs; `predicted_loss` in squared logits."""

    predicted_loss: float
    macs: int
    params: int
    macs_ratio: float
    params_ratio: float
    timings: tuple[StructureTiming, ...]

    def timing(self, batch: int) -> StructureTiming:
        """Timing at a batch size that was measured."""
        return next(timing for timing in self.timings if timing.batch == batch)


class StructureRow(StructureCosts, Setting):
    """One setting, planned without fine-tuning.

    Attributes
    ----------
    val_kl, val_score : Estimate
        On the validation split: divergence from the dense network in nats, and the primary score.
    on_front : bool
        Whether no other structure has both fewer MACs and a smaller divergence.
    """

    val_kl: Estimate
    val_score: Estimate
    on_front: bool = False

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        return renamed(given, _EARLIER)


class Unreachable(Setting):
    """A setting whose structure cannot reach the budget, and why."""

    reason: str


class AxisPoint(Record):
    """Divergence at one number of clusters or regions."""

    number: int
    val_kl: float


class AxisTest(Record):
    """Whether the ends of an axis lose against its best inner point, the other axis held where the grid is best.

    Attributes
    ----------
    held : int
        Number on the other axis.
    best, best_kl, interior
        The best point of the axis, and whether it is no end.
    fewest, middle, most : int
        The ends and the best inner point.
    fewest_minus_middle, most_minus_middle : Estimate
        Paired differences of divergence.
    """

    budget_macs: float
    axis: Axis
    held: int
    line: tuple[AxisPoint, ...]
    best: int
    best_kl: float
    interior: bool
    fewest: int
    middle: int
    most: int
    fewest_minus_middle: Estimate
    most_minus_middle: Estimate
    fewest_loses: Verdict
    most_loses: Verdict


class CalibrationTest(Record):
    """Coarsest and finest structure against the middle one, with so many calibration images."""

    images: int
    budget_macs: float
    coarsest: Structure
    middle: Structure
    finest: Structure
    coarsest_kl: float
    middle_kl: float
    finest_kl: float
    fewest_minus_middle: Estimate
    most_minus_middle: Estimate
    fewest_loses: Verdict
    most_loses: Verdict


class SpeedTest(Record):
    """Speed of the coarsest structure against that of the best by divergence, at the same MACs."""

    budget_macs: float
    coarsest: Structure
    best: Structure
    coarsest_speedup: float
    best_speedup: float
    difference: Estimate
    verdict: Verdict


class LossTest(Record):
    """Rank correlation of predicted loss and divergence over the structures of a budget."""

    budget_macs: float
    settings: int
    spearman: Estimate


class Claim(Record):
    """A claim in words, a verdict, and the tests that it rests on.

    Attributes
    ----------
    answer : str
        A sentence with numbers.
    figures : tuple
        One per test.
    """

    claim: str
    verdict: Verdict
    answer: str
    figures: tuple[AxisTest, ...] | tuple[CalibrationTest, ...] | tuple[SpeedTest, ...] | tuple[LossTest, ...]


class SpeedNoise(Record):
    """Speed-up of the dense network over itself."""

    median: float
    iqr: float
    se: float


class DenseCosts(Record):
    """The dense network; its milliseconds per call by batch size, as in ``b16``."""

    macs: int
    params: int
    val_score: Estimate
    latency_ms: dict[str, float]

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        return renamed(given, _EARLIER)


class StructureGrid(Record):
    """Content of ``reports/tradeoff.json``; without rows where the stage is switched off.

    Attributes
    ----------
    images, calibration : int
        Validation images that were scored, and calibration images of the full calibration.
    score : str
        Name of the primary score.
    """

    protocol: str
    score: str = "accuracy"
    data_hash: str
    git_commit: str
    enabled: bool
    command: str
    seed: int
    resamples: int
    images: int
    calibration: int
    batches: tuple[int, ...]
    threads: int
    machine: Machine
    versions: dict[str, str]
    clock: dict[str, SpeedNoise]
    dense: DenseCosts | None
    rows: tuple[StructureRow, ...]
    unreachable: tuple[Unreachable, ...]
    claims: tuple[Claim, ...]


def read_structure_grid(path: Path) -> StructureGrid:
    """Read ``tradeoff.json``.

    Raises
    ------
    ArtifactError
        If it is missing or is not of this version.
    """
    return read_record(StructureGrid, path, "hscc tradeoff")
