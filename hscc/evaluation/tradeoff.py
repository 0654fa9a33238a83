"""One setting of the trade-off: the network planned at fixed regions and clusters, scored and timed, not fine-tuned.

What is scored is the graph that is timed: the exported and simplified network in ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.compression.api import apply, plan
from hscc.compression.budget import Budget
from hscc.compression.clusters import Correlation, Grouping, Groups, cluster_channels
from hscc.compression.methods import METHODS
from hscc.compression.methods.base import Method
from hscc.compression.methods.hscc import HSCC
from hscc.compression.space import TOGETHER
from hscc.data.images import to_input
from hscc.errors import ArtifactError
from hscc.evaluation.predictions import CHUNK, as_input, run_session
from hscc.graph.simplify import simplify
from hscc.measuring.latency import PairTiming, time_pair
from hscc.measuring.pinning import pinned
from hscc.measuring.sessions import bind_session, open_graph
from hscc.models.onnx_export import to_onnx

Logits = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

FIXED = "fixed"  # the method of settings whose structure is given; others are names in METHODS
AUTO = "auto"
_REPEATS = 101  # pairs of calls at most; seconds end a measurement earlier
_FEWEST_CHANNELS = 8  # in a cluster, as in hscc.compression.search
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
        """See `hscc.compression.clusters.Grouping`."""
        if len(here) < self.number * _FEWEST_CHANNELS:
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
        return (TOGETHER if self.clusters == 1 else WideEnough(int(self.clusters), seed),)  # type: ignore[arg-type]


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
