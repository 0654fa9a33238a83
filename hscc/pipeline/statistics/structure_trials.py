"""Try one setting of the structure grid: plan and export the network, run it on images and time it, not fine-tuned.

What is scored is the graph that is timed: the exported and simplified network in ONNX Runtime.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
from hscc.files import replace_text
from hscc.methods import METHODS
from hscc.methods.base import Method
from hscc.methods.hscc import HSCC
from hscc.networks.normalisation import IMAGENET, Normalisation
from hscc.partitions.clusters import Correlation, Grouping, Groups, cluster_channels
from hscc.pipeline.statistics.predictions import run_images, run_session
from hscc.pipeline.statistics.structure_grid import Logits, Trial
from hscc.pipeline.statistics.structure_schema import FIXED, Setting, StructureCosts, StructureTiming
from hscc.search.candidates import FEWEST_CHANNELS
from hscc.search.space import SINGLE_CLUSTER
from hscc.timing.alternation import PairTiming, time_pair
from hscc.timing.pinning import pinned
from hscc.timing.sessions import bind_session, open_graph
from hscc.training.images import to_input

Images = npt.NDArray[np.uint8]

_REPEATS = 101  # pairs of calls at most; seconds end a measurement earlier
_CHECKED = 4  # images on which the graph is compared with torch
_TOLERANCE = 1e-3  # of the largest logit


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


class DenseReference:
    """The deployed dense network on the validation images, with which every setting is compared.

    Parameters
    ----------
    model : nn.Module
        The dense network.
    images : ndarray of uint8, shape (N, S, S) or (N, S, S, 3)
        That are scored.
    clock : Clock
        How times are taken.
    normalisation : Normalisation
        Of the network's inputs.
    """

    def __init__(self, model: nn.Module, images: Images, clock: Clock, normalisation: Normalisation = IMAGENET) -> None:
        self.model, self.images, self.clock, self.normalisation = model, images, clock, normalisation
        self.graph = deployed(model, images, normalisation)
        self.logits = self.outputs(self.graph)
        with pinned(clock.threads):
            self._session = open_graph(self.graph, clock.threads)

    def outputs(self, graph: onnx.ModelProto) -> Logits:
        """Return a graph's logits on the images, shape (N, C)."""
        session = open_graph(graph, self.clock.threads)
        return run_images(session, self.images, np.arange(len(self.images)), self.normalisation)

    def times(self, graph: onnx.ModelProto) -> dict[int, PairTiming]:
        """Time a graph in alternation with the dense network, by batch size."""
        side = self.images.shape[2]  # stands for none: the graph's own sides are fixed
        with pinned(self.clock.threads):
            session = open_graph(graph, self.clock.threads)
            dense, other = (partial(bind_session, each, Path("network")) for each in (self._session, session))
            return {
                batch: time_pair(dense(batch, side), other(batch, side), _REPEATS, self.clock.seconds)
                for batch in self.clock.batches
            }


def try_setting(setting: Setting, calibration: Calibration, dense: DenseReference, seed: int) -> Trial:
    """Plan a setting, export it, run it on the images and time it.

    Parameters
    ----------
    setting : Setting
        Which.
    calibration : Calibration
        Of ``setting.images`` images; it keeps the spectra for the next budget, see `Calibration.cache`.
    dense : DenseReference
        With which it is compared.
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
    # Only: what a structure costs besides MACs is what the grid shows.
    budget = Budget(macs=setting.budget_macs, only=True)
    made = plan(dense.model, calibration, method_of(setting), budget, seed)
    graph = deployed(apply(dense.model, made), dense.images, dense.normalisation)
    logits = dense.outputs(graph)
    costs = StructureCosts(
        predicted_loss=made.loss,
        macs=made.macs,
        params=made.params,
        macs_ratio=made.dense_macs / made.macs,
        params_ratio=made.dense_params / made.params,
        timings=tuple(
            StructureTiming(
                batch=batch, ms=timing.other_ms.median, speedup=timing.speedup.median, speedup_se=timing.speedup.se
            )
            for batch, timing in dense.times(graph).items()
        ),
    )
    return Trial(setting, costs, logits)


def method_of(setting: Setting) -> Method:
    """Method that plans a setting."""
    if setting.method != FIXED:
        return METHODS[setting.method]
    return FixedStructure(regions=setting.regions, clusters=setting.clusters, projection=None)


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


def deployed(model: nn.Module, images: Images, normalisation: Normalisation = IMAGENET) -> onnx.ModelProto:
    """Export and simplify a network, checked on some images.

    Raises
    ------
    ArtifactError
        If the graph's logits differ from torch's by more than a thousandth of the largest.
    """
    inputs = to_input(np.asarray(images[:_CHECKED]), normalisation)
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


def save_trial(trial: Trial, folder: Path) -> None:
    """Write a trial into a folder under its setting's name, whole or not at all."""
    content = {"costs": trial.costs.model_dump(), "logits": trial.logits.tolist()}
    replace_text(folder / f"{trial.setting.name}.json", json.dumps(content) + "\n")


def load_trial(setting: Setting, folder: Path) -> Trial | None:
    """Read what `save_trial` wrote for a setting; None where there is nothing."""
    path = folder / f"{setting.name}.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    logits = np.asarray(content["logits"], dtype=np.float32)
    return Trial(setting, StructureCosts.model_validate(content["costs"]), logits)
