"""One setting of the trade-off: the network planned at fixed regions and clusters, scored and timed, not fine-tuned.

What is scored is the graph that is timed: the exported and simplified network in ONNX Runtime.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import Calibration
from hscc.errors import ArtifactError
from hscc.export.graph.simplify import simplify
from hscc.export.to_onnx import to_onnx
from hscc.methods import METHODS
from hscc.methods.base import Method
from hscc.methods.hscc import HSCC
from hscc.partitions.clusters import Correlation, Grouping, Groups, cluster_channels
from hscc.pipeline.data.images import to_input
from hscc.pipeline.statistics.predictions import CHUNK, as_input, run_session
from hscc.pipeline.statistics.results import pareto_front, replace_text
from hscc.pipeline.statistics.scores import Draws, Ints, kl_divergence, resampled_mean, standard_error
from hscc.search.candidates import FEWEST_CHANNELS
from hscc.search.space import SINGLE_CLUSTER
from hscc.timing.alternation import PairTiming, time_pair
from hscc.timing.pinning import pinned
from hscc.timing.sessions import bind_session, open_graph

Logits = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

FIXED = "fixed"  # the method of settings whose structure is given; others are names in METHODS
AUTO = "auto"
_REPEATS = 101  # pairs of calls at most; seconds end a measurement earlier
_CHECKED = 4  # images on which the graph is held against torch
_TOLERANCE = 1e-3  # of the largest logit


@dataclass(frozen=True)
class Setting:
    """A point of the trade-off.

    Attributes
    ----------
    method : str
        "fixed" for the same structure in every layer, or a method's name in `hscc.METHODS` that chooses a layer at a
        time.
    regions : int or "auto"
        Regions a side; "auto" where the method chooses.
    clusters : int or "auto"
        Clusters a region; "auto" where the method chooses.
    budget : float
        Times fewer MACs than the dense network.
    images : int
        Calibration images.
    """

    method: str
    regions: int | str
    clusters: int | str
    budget: float
    images: int

    @property
    def name(self) -> str:
        """Name of files and progress lines."""
        structure = f"{self.regions}x{self.clusters}" if self.method == FIXED else self.method
        return f"{structure}-{self.budget:g}-{self.images}"

    def make(self) -> Method:
        """Return the method that plans this setting."""
        if self.method != FIXED:
            return METHODS[self.method]
        return FixedStructure(regions=self.regions, clusters=self.clusters, projection=None)


@dataclass(frozen=True)
class WideEnough:
    """So many clusters of co-active channels where each gets enough of them, one elsewhere."""

    number: int
    seed: int

    def groups(self, here: Correlation, everywhere: object) -> Groups:
        """See `hscc.partitions.clusters.Grouping`."""
        if len(here) < self.number * FEWEST_CHANNELS:
            return [tuple(range(len(here)))]
        return cluster_channels(here, self.number, self.seed)


@dataclass(frozen=True)
class FixedStructure(HSCC):
    """HSCC with one structure for all layers, in which a layer too narrow for the clusters keeps its regions.

    `HSCC` itself gives up both there, so that more clusters would take the regions from a first layer of three
    channels, and the two axes of the trade-off would not be two.
    """

    def groupings(self, seed: int) -> tuple[Grouping, ...]:
        """See `HSCC`."""
        return (SINGLE_CLUSTER if self.clusters == 1 else WideEnough(int(self.clusters), seed),)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Clock:
    """How times are taken.

    Attributes
    ----------
    batches : tuple of int
        Images a call.
    threads : int
        Threads inside an operator.
    seconds : float
        Of a pair of networks at a batch size, about.
    """

    batches: tuple[int, ...]
    threads: int
    seconds: float


class Ground:
    """What every setting is held against: the dense network, deployed, on some images.

    Parameters
    ----------
    model : nn.Module
        The dense network.
    images : ndarray of uint8, shape (N, S, S)
        Grey images that are scored.
    clock : Clock
        How times are taken.
    """

    def __init__(self, model: nn.Module, images: Images, clock: Clock) -> None:
        self.model, self.images, self.clock = model, images, clock
        self.graph = deployed(model, images)
        self.logits = self.outputs(self.graph)
        with pinned(clock.threads):
            self._session = open_graph(self.graph, clock.threads)

    def outputs(self, graph: onnx.ModelProto) -> Logits:
        """Return a graph's logits on the images, shape (N, C)."""
        session = open_graph(graph, self.clock.threads)
        starts = range(0, len(self.images), CHUNK)
        chunks = [run_session(session, as_input(self.images[start : start + CHUNK])) for start in starts]
        return np.concatenate(chunks)

    def times(self, graph: onnx.ModelProto) -> dict[int, PairTiming]:
        """Time a graph in alternation with the dense network, by batch size."""
        side = self.images.shape[-1]
        with pinned(self.clock.threads):
            session = open_graph(graph, self.clock.threads)
            dense, other = (partial(bind_session, each, Path("network")) for each in (self._session, session))
            return {
                batch: time_pair(dense(batch, side), other(batch, side), _REPEATS, self.clock.seconds)
                for batch in self.clock.batches
            }


@dataclass(frozen=True)
class Trial:
    """What came out of a setting.

    Attributes
    ----------
    setting : Setting
        Which.
    facts : dict of str to float
        ``predicted_loss`` (squared logits), ``macs``, ``params``, ``macs_ratio``, ``params_ratio``, and by batch size B
        ``latency_ms_bB``, ``speedup_bB`` and its bootstrap standard error ``speedup_bB_se``.
    logits : ndarray of float32, shape (N, C)
        Of the network on the images of its `Ground`.
    """

    setting: Setting
    facts: dict[str, float]
    logits: Logits


def try_setting(setting: Setting, calibration: Calibration, ground: Ground, seed: int) -> Trial:
    """Plan a setting, export it, run it on the images and time it.

    Parameters
    ----------
    setting : Setting
        Which.
    calibration : Calibration
        Of ``setting.images`` images; it keeps the spectra for the next budget, see `forget_spectra`.
    ground : Ground
        What it is held against.
    seed : int
        Of the clustering.

    Returns
    -------
    Trial
        Within its budget.

    Raises
    ------
    BudgetError
        If the structure cannot reach the budget.
    ArtifactError
        If the deployed network computes something else than torch.
    """
    made = plan(ground.model, calibration, setting.make(), Budget(macs=setting.budget), seed)
    graph = deployed(apply(ground.model, made), ground.images)
    logits = ground.outputs(graph)
    facts: dict[str, float] = {
        "predicted_loss": made.loss,
        "macs": made.macs,
        "params": made.params,
        "macs_ratio": made.dense_macs / made.macs,
        "params_ratio": made.dense_params / made.params,
        **time_columns(ground.times(graph)),
    }
    return Trial(setting, facts, logits)


def time_columns(times: dict[int, PairTiming]) -> dict[str, float]:
    """Milliseconds of a network and how many times faster it is than the dense one, columns by batch size."""
    columns: dict[str, float] = {}
    for batch, timing in times.items():
        columns |= {
            f"latency_ms_b{batch}": timing.other_ms.median,
            f"speedup_b{batch}": timing.speedup.median,
            f"speedup_b{batch}_se": timing.speedup.se,
        }
    return columns


def deployed(model: nn.Module, images: Images) -> onnx.ModelProto:
    """Export and simplify a network, checked on some images.

    Raises
    ------
    ArtifactError
        If the graph's logits differ from torch's by more than a thousandth of the largest.
    """
    inputs = to_input(np.asarray(images[:_CHECKED]))
    graph = simplify(to_onnx(model.eval(), tuple(inputs.shape[1:])))
    with torch.no_grad():
        eager = model(inputs).numpy()
    found = run_session(open_graph(graph, 1), inputs.numpy())
    difference = float(np.abs(eager - found).max() / max(float(np.abs(eager).max()), 1e-12))
    if not difference <= _TOLERANCE:
        raise ArtifactError(
            f"the deployed network differs from torch by {difference:.1e} (allowed {_TOLERANCE:.0e}); report the "
            "network as a defect."
        )
    return graph


def forget_spectra(calibration: Calibration) -> None:
    """Let go of the spectra of all structures; those of one setting serve its other budgets and nothing else."""
    for key in [key for key in calibration.memo if isinstance(key, tuple)]:
        del calibration.memo[key]


_T = TypeVar("_T")
Structure = tuple[str, int | str, int | str]  # method, regions, clusters


def full_slice(
    regions: Sequence[int], clusters: Sequence[int], searched: Sequence[str], budgets: Sequence[float], images: int
) -> list[list[Setting]]:
    """List every combination of regions and clusters, then every method that chooses, each at every budget.

    Parameters
    ----------
    regions, clusters : sequence of int
        Regions a side and clusters a region.
    searched : sequence of str
        Names of methods in `hscc.METHODS`.
    budgets : sequence of float
        Times fewer MACs.
    images : int
        Size of the full calibration.

    Returns
    -------
    list of list of Setting
        A list a structure, so that its spectra are computed once.
    """
    structures: list[Structure] = [(FIXED, side, number) for side in sorted(regions) for number in sorted(clusters)]
    structures += [(method, AUTO, AUTO) for method in searched]
    return [[Setting(*structure, budget, images) for budget in sorted(budgets)] for structure in structures]


def small_slice(
    regions: Sequence[int], clusters: Sequence[int], budgets: Sequence[float], images: int
) -> list[list[Setting]]:
    """List the coarsest, the middle and the finest combination at the middle budget, for a smaller calibration.

    Returns
    -------
    list of list of Setting
        A list a structure, of one setting each; fewer than three where the grid is smaller.
    """
    sides, numbers, ratios = sorted(regions), sorted(clusters), sorted(budgets)
    structures = [(sides[0], numbers[0]), (_middle(sides), _middle(numbers)), (sides[-1], numbers[-1])]
    budget = _middle(ratios)
    return [[Setting(FIXED, side, number, budget, images)] for side, number in dict.fromkeys(structures)]


def _middle(values: Sequence[_T]) -> _T:
    return values[len(values) // 2]


Row = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """A setting's score on every validation image and in every resample of them.

    Attributes
    ----------
    trial : Trial
        What was measured.
    kl : float
        Mean divergence from the dense network, in nats.
    kl_draws : ndarray of float64, shape (B,)
        The same in every resample.
    accuracy : float
        Share of the images that are right.
    accuracy_draws : ndarray of float64, shape (B,)
        The same in every resample.
    """

    trial: Trial
    kl: float
    kl_draws: Draws
    accuracy: float
    accuracy_draws: Draws

    @property
    def setting(self) -> Setting:
        """Which setting."""
        return self.trial.setting


def score_trial(trial: Trial, reference: Logits, labels: Ints, weights: Draws) -> Scored:
    """Score a setting against the dense network.

    Parameters
    ----------
    trial : Trial
        Of N images.
    reference : ndarray of float32, shape (N, C)
        Logits of the dense network.
    labels : ndarray of int64, shape (N,)
        True class indices.
    weights : ndarray of float64, shape (B, N)
        From `hscc.pipeline.statistics.scores.resample`; the same for all settings, so that they are paired.
    """
    divergence = kl_divergence(reference, trial.logits)
    correct = (trial.logits.argmax(axis=1) == labels).astype(np.float64)
    return Scored(
        trial,
        float(divergence.mean()),
        resampled_mean(divergence, weights),
        float(correct.mean()),
        resampled_mean(correct, weights),
    )


def tabulate(scored: Sequence[Scored], images: int, batches: Sequence[int]) -> list[Row]:
    """Make a row a setting, and mark the Pareto fronts of divergence against MACs and against each speed-up.

    Parameters
    ----------
    scored : sequence of Scored
        At least one.
    images : int
        Size of the full calibration; rows of smaller ones are on no front.
    batches : sequence of int
        Batch sizes that were timed.

    Returns
    -------
    list of dict
        The setting's ``name`` and fields, ``val_kl``, ``val_accuracy``, each with ``_se``, the trial's facts, and
        ``on_front`` (of MACs) and ``on_front_bB`` (of the speed-up at batch size B).
    """
    rows = [_row(each) for each in scored]
    entered = [row for row in rows if row["images"] == images]
    gains = {"on_front": "macs_ratio", **{f"on_front_b{batch}": f"speedup_b{batch}" for batch in batches}}
    for mark, gain in gains.items():
        for row in rows:
            row[mark] = False
        # To three digits: plans of one budget differ in the fourth by where their last rank fell.
        front = pareto_front([float(f"{row[gain]:.3g}") for row in entered], [-row["val_kl"] for row in entered])
        for row, best in zip(entered, front, strict=True):
            row[mark] = bool(best)
    return rows


def _row(scored: Scored) -> Row:
    setting = scored.setting
    return {
        "name": setting.name,
        "method": setting.method,
        "regions": setting.regions,
        "clusters": setting.clusters,
        "budget": setting.budget,
        "images": setting.images,
        "val_kl": scored.kl,
        "val_kl_se": standard_error(scored.kl_draws),
        "val_accuracy": scored.accuracy,
        "val_accuracy_se": standard_error(scored.accuracy_draws),
        **scored.trial.facts,
    }


def keep_trial(trial: Trial, folder: Path) -> None:
    """Write a trial into a folder under its setting's name, whole or not at all."""
    content = {"facts": trial.facts, "logits": trial.logits.tolist()}
    replace_text(folder / f"{trial.setting.name}.json", json.dumps(content) + "\n")


def kept_trial(setting: Setting, folder: Path) -> Trial | None:
    """Read what `keep_trial` wrote for a setting; None where there is nothing."""
    path = folder / f"{setting.name}.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return Trial(setting, content["facts"], np.asarray(content["logits"], dtype=np.float32))
