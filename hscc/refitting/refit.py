"""Refit: the factors of a compressed network by least squares, layer by layer, without labels or gradients.

Each layer is fitted on the inputs that it receives from the compressed layers before it, to what the dense network
computes there (asymmetric reconstruction; Zhang et al., 2016, Accelerating very deep convolutional networks), so that
it also makes up for their errors.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Conv, Layer, channels_first
from hscc.errors import CompressionError
from hscc.factorisation.chain import Chain
from hscc.factorisation.spectra import shrink_sensitivity
from hscc.networks.folding import fold_batch_norms
from hscc.networks.inputs import Batch, as_input, check_batch, convert, count, input_shape_of, parts
from hscc.networks.inspection import evaluating
from hscc.networks.memory_order import laid_out
from hscc.partitions.regions import region_cells
from hscc.plans import Plan
from hscc.refitting.moments import PairMoments, PairSums
from hscc.refitting.runs import AT_ONCE, answers, execution_order, layer_input, layer_output, mean_divergence
from hscc.refitting.steps import fit_all, fit_decoders
from hscc.structures.base import State, Structure
from hscc.structures.dense import DENSE
from hscc.terminal import track

_HELD_OUT = 4  # one image of so many
_SHRINKAGE = 0.3  # of a region's sensitivity towards its layer's, as the methods have it
_SWEEPS = 3  # of alternating least squares


Kept = Literal["nothing", "decoders", "all"]
_KEPT: tuple[Kept, ...] = ("nothing", "decoders", "all")


@dataclass(frozen=True)
class LayerRefit:
    """What the refit of one layer brought, on the held-out images.

    Attributes
    ----------
    layer : str
        Name.
    error_before, error_after : float
        Mean squared error of an output position in the norm of the sensitivity, in squared outputs: what decides.
    before, after : float
        Mean divergence of the network from the dense one (`hscc.Outputs.divergence`), in nats, with this layer's
        change.
    kept : str
        "decoders", "all" factors, or "nothing" where neither lowered the error.
    """

    layer: str
    error_before: float
    error_after: float
    before: float
    after: float
    kept: Kept


@dataclass(frozen=True)
class Refitted:
    """A refitted network.

    Attributes
    ----------
    network : nn.Module
        With the structures, costs and ``hscc_plan`` of the one that was given.
    layers : tuple of LayerRefit
        In the order in which they were fitted.
    before, after : float
        Mean divergence from the dense network (`hscc.Outputs.divergence`) on the held-out images, in nats.
    """

    network: nn.Module
    layers: tuple[LayerRefit, ...]
    before: float
    after: float


def refit(
    small: nn.Module,
    model: nn.Module,
    calibration: Calibration,
    images: Iterable[Batch],
    *,
    rounds: int = 1,
    ridge: float = 1e-2,
    validation: Iterable[Batch] | None = None,
) -> Refitted:
    """Refit a compressed network to its dense one; labels and gradients are not needed.

    In the order of execution each layer's decoders and biases are fitted by ridge regression, then its projection,
    encoders and decoders in turn, in the norm of the output sensitivity. Of a layer's old factors, new decoders and new
    factors those with the least error of its output on held-out images are kept; and of the layers in order so many
    that the divergence on these images is least, so it never rises. (It is not asked for at each layer alone: later
    layers make up for what an earlier change moves.) Memory does not grow with the number of images; the networks are
    run on them once per layer.

    Parameters
    ----------
    small : nn.Module
        From `apply`, `compress` or `hscc.load`; left as it was.
    model : nn.Module
        The dense network it was made from.
    calibration : Calibration
        Of the dense network, for the sensitivities and for what counts of the answers (`Calibration.outputs`).
    images : iterable of Tensor, shape (N, C, H, W), or of tuples or dicts of Tensor
        Batches of network inputs, as for `calibrate`, a few hundred images. They are read once per layer, in the same
        order each time; an iterator that can be read only once is listed.
    rounds : int
        Passes over the layers. 0 makes one pass that fits the decoders only.
    ridge : float
        Damping towards the dense weights, in units of the mean variance of a layer's inputs.
    validation : iterable of Tensor, optional
        Batches that decide what is kept. By default every fourth of the images, which are then not fitted to.

    Returns
    -------
    Refitted
        The network and what each layer brought.

    Raises
    ------
    CompressionError
        If the network was not compressed by this package or belongs to another calibration, a parameter is out of
        range, or the images are too few or do not fit.
    """
    plan = _checked(small, calibration, rounds, ridge)
    fitting, held_out = _split(images, validation)
    entries = {entry.layer.name: entry for entry in plan.layers if entry.structure != DENSE}
    records: list[LayerRefit] = []
    # The caller may be inside inference_mode, whose tensors nothing could train afterwards.
    with torch.inference_mode(False), torch.no_grad(), contextlib.ExitStack() as order:
        dense, refitted = fold_batch_norms(model), copy.deepcopy(small)
        image = _check_images(fitting, held_out, calibration)
        for network in (dense, refitted):
            order.enter_context(evaluating(network))
            order.enter_context(laid_out(network, image))  # there may be nothing to fold: dense is the caller's
        outputs = calibration.outputs
        targets = list(answers(dense, held_out, outputs))
        first = before = least = mean_divergence(refitted, held_out, targets, outputs)
        best = _states(refitted, entries)
        names = execution_order(refitted, list(entries), as_input(refitted, image))
        for name in track([name for _ in range(max(rounds, 1)) for name in names], "refitting"):
            step = _Layer(refitted, dense, entries[name].layer, entries[name].structure, calibration)
            if (chain := step.chain()) is None:
                continue
            moments = step.moments(chain, fitting, ridge)
            chains = [chain, fit_decoders(chain, moments)]
            if rounds:
                chains.append(fit_all(chains[1], moments, step.sensitivity(), _SWEEPS))
            errors = step.errors(chains, held_out)
            chosen = errors.index(min(errors))
            step.module.load_state_dict(step.structure.chain_state(step.layer, chains[chosen]))
            after = mean_divergence(refitted, held_out, targets, outputs) if chosen else before
            records.append(LayerRefit(name, errors[0], errors[chosen], before, after, _KEPT[chosen]))
            before = after
            if after < least:
                least, best = after, _states(refitted, entries)
        for name, state in best.items():
            refitted.get_submodule(name).load_state_dict(state)
    return Refitted(refitted, tuple(records), first, least)


def _states(model: nn.Module, names: Iterable[str]) -> dict[str, State]:
    return {
        name: {key: value.clone() for key, value in model.get_submodule(name).state_dict().items()} for name in names
    }


@dataclass(frozen=True)
class _Layer:
    """One layer of the two networks."""

    small: nn.Module
    dense: nn.Module
    layer: Layer
    structure: Structure
    calibration: Calibration

    @property
    def module(self) -> nn.Module:
        """The factored layer."""
        return self.small.get_submodule(self.layer.name)

    def chain(self) -> Chain | None:
        """Read its factors, on the CPU in at least single precision."""
        like = next(self.module.parameters())
        dtype = torch.promote_types(like.dtype, torch.float32)
        return self.structure.chain(self.layer, copy.deepcopy(self.module).to("cpu", dtype))

    def errors(self, chains: Sequence[Chain], images: Iterable[Batch]) -> list[float]:
        """Mean squared error of a position's output with each of some factors, in the norm of the sensitivity."""
        modules = []
        for chain in chains:
            modules.append(copy.deepcopy(self.module))
            modules[-1].load_state_dict(self.structure.chain_state(self.layer, chain))
        moments = self.calibration.moments[self.layer.name]
        norm = shrink_sensitivity(moments.sensitivity.sum(0), moments.sensitivity.sum(0), 0.0)
        norm = norm.to(next(self.module.parameters()).device) / int(moments.count.sum())
        totals, count = [0.0] * len(chains), 0
        for batch in images:
            for part in parts(batch, AT_ONCE):
                inputs = layer_input(self.small, self.layer.name, part)
                targets = layer_output(self.dense, self.layer.name, part)
                for index, module in enumerate(modules):
                    wrong = channels_first(module(inputs) - targets, self._dense_module, self.layer)
                    wrong = wrong.movedim(1, -1).reshape(-1, self.layer.outputs).to(norm.dtype)
                    totals[index] += float(((wrong @ norm) * wrong).sum(dtype=torch.float64))
                count += targets.numel() // self.layer.outputs
        return [total / count for total in totals]

    def moments(self, chain: Chain, images: Iterable[Batch], ridge: float) -> list[PairMoments]:
        """Moments of its inputs in the compressed network and of its outputs in the dense one."""
        name, cells_tiles = self.layer.name, self.structure.cell_tiles(self.layer)
        old = self._dense_module
        assert isinstance(old, Conv | nn.Linear)
        sums = PairSums(self.layer, *cells_tiles, old.weight)
        for batch in images:
            for part in parts(batch, AT_ONCE):
                pair = (layer_input(self.small, name, part), layer_output(self.dense, name, part))
                sums.add(*(channels_first(tensor, old, self.layer) for tensor in pair))
        return sums.result(old.weight.flatten(1), ridge, chain.biased)

    @property
    def _dense_module(self) -> nn.Module:
        return self.dense.get_submodule(self.layer.name)

    def sensitivity(self) -> list[torch.Tensor]:
        """Output sensitivity of each region."""
        moments = self.calibration.moments[self.layer.name]
        cells, regions = self.structure.cell_tiles(self.layer)
        whole = moments.sensitivity.sum(0) / moments.count.sum().clamp_min(1)
        if cells != moments.cells:  # the structure does not divide the layer
            return [shrink_sensitivity(whole, whole, 0.0)] * len(regions)
        shrunk = []
        for tiles in regions:
            own = region_cells(tiles, cells)
            mean = moments.sensitivity[own].sum(0) / moments.count[own].sum().clamp_min(1)
            shrunk.append(shrink_sensitivity(mean, whole, _SHRINKAGE))
        return shrunk


def _checked(small: nn.Module, calibration: Calibration, rounds: int, ridge: float) -> Plan:
    plan = getattr(small, "hscc_plan", None)
    if not isinstance(plan, Plan):
        raise CompressionError(
            f"{type(small).__name__} has no plan; pass a network from hscc.apply, hscc.compress or hscc.load to refit."
        )
    if plan.calibration != calibration.network:
        raise CompressionError("the network was compressed from another calibration; pass the one it was planned with.")
    if rounds < 0 or not ridge > 0:
        raise CompressionError(f"rounds={rounds} and ridge={ridge} are out of range; give rounds >= 0 and ridge > 0.")
    return plan


class _Images:
    """Batches without every fourth image, or only with these."""

    def __init__(self, batches: Iterable[Batch], held_out: bool) -> None:
        self.batches, self.held_out = batches, held_out

    def __iter__(self) -> Iterator[Batch]:
        seen = 0
        for batch in self.batches:
            batch = check_batch(batch)
            last = (torch.arange(seen, seen + count(batch)) % _HELD_OUT) == _HELD_OUT - 1
            seen += count(batch)
            chosen = last if self.held_out else ~last
            if chosen.any():
                yield convert(batch, lambda tensor, chosen=chosen: tensor[chosen])  # type: ignore[misc]


def _split(images: Iterable[Batch], validation: Iterable[Batch] | None) -> tuple[Iterable[Batch], Iterable[Batch]]:
    if isinstance(images, torch.Tensor):
        raise CompressionError("images is one tensor; pass an iterable of (N, C, H, W) batches, such as [images].")
    again = list(images) if isinstance(images, Iterator) else images
    if validation is None:
        return _Images(again, held_out=False), _Images(again, held_out=True)
    return again, list(validation) if isinstance(validation, Iterator) else validation


def _check_images(fitting: Iterable[Batch], held_out: Iterable[Batch], calibration: Calibration) -> Batch:
    """Return one image."""
    image = None
    for batches in (fitting, held_out):
        images = 0
        for batch in map(check_batch, batches):
            if input_shape_of(batch) != calibration.input_shape:
                raise CompressionError(
                    f"images of shape {input_shape_of(batch)} do not fit a calibration of {calibration.input_shape}; "
                    "refit at the same input size."
                )
            images, image = images + count(batch), next(parts(batch, 1))
        if not images:
            raise CompressionError(
                f"the images to refit on are too few; pass at least {_HELD_OUT}, or some and validation images."
            )
    assert image is not None
    return image
