"""Calibration: one streaming pass over images; memory does not grow with their number."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from hscc.calibration.cache import PlanningCache
from hscc.calibration.layers import Layer, channels_first, find_layers, is_channels_last
from hscc.calibration.moments import LayerMoments, LayerSums
from hscc.errors import CompressionError
from hscc.networks.folding import fold_batch_norms
from hscc.networks.inputs import (
    Batch,
    InputShape,
    as_input,
    check_batch,
    convert,
    count,
    input_shape_of,
    parts,
    run,
    varies,
)
from hscc.networks.inspection import evaluating
from hscc.outputs import Outputs
from hscc.terminal import track

_IMAGES_AT_ONCE = 16
PROBES = 8
_MOST_BYTES = 256 * 2**20  # of layer outputs at once; a pass holds each several times


@dataclass(frozen=True)
class Calibration:
    """Moments of every layer of one network at one input size.

    Attributes
    ----------
    layers : list of Layer
        Geometry, in the order of execution.
    left_dense : dict
        Name to the reason, for layers that cannot be factored.
    moments : dict of LayerMoments
        By layer name.
    cells : int
        Cells per side of the fine grid.
    images : int
        Number of calibration images.
    input_shape : tuple of int, or a tuple or dict of these
        Channels, then positions along each axis, of one image; of a network with several inputs those of each, by
        position or keyword.
    network : str
        Digest of the network's weights; see `fingerprint`.
    outputs : Outputs
        What counts of the network's answer.
    cache : PlanningCache
        What planning has computed from the moments already; never written to disk.
    """

    layers: list[Layer]
    left_dense: dict[str, str]
    moments: dict[str, LayerMoments]
    cells: int
    images: int
    input_shape: InputShape
    network: str
    outputs: Outputs = field(default_factory=Outputs)
    cache: PlanningCache = field(default_factory=PlanningCache, repr=False, compare=False)


def calibrate(
    model: nn.Module,
    images: Iterable[Batch],
    cells: int = 4,
    output: Outputs | None = None,
    probes: int = PROBES,
    seed: int = 0,
) -> Calibration:
    r"""Collect the moments of every layer that can be factored.

    How much each direction of a layer's output y counts is the second moment of the gradients of the network's centred
    outputs z (`Outputs.centred`), with K outputs at each of S positions,

    .. math::
        G = \frac{1}{S} \sum_{k, s} g_{ks} \, g_{ks}^T, \qquad g_{ks} = \partial z_{ks} / \partial y,

    summed over images and averaged over the layer's positions, so that a change d of y costs d^T G d squared outputs
    per position of the answer, whatever the size of the map. With K S <= `probes` these gradients are computed one by
    one. With more, directions v with independent random signs take their place, others for every image: as
    E[v v^T] = I,

    .. math::
        E[g_v g_v^T] = G, \qquad g_v = S^{-1/2} \sum_{k, s} v_{ks} \, g_{ks},

    so the mean over `probes` of them is unbiased, costs as many backward passes per batch whatever K and S are, and its
    error falls with the square root of images times probes. A last layer whose output is the answer has a G that is
    known and needs none.

    Parameters
    ----------
    model : nn.Module
        Any network; left as it was.
    images : iterable of Tensor, shape (N, C, H, W), or of tuples or dicts of Tensor
        Batches of network inputs; labels are not needed. A tuple or list is given to the network by position, a dict by
        keyword. Large batches are taken in parts. They are read once, and once more before for "values"; an iterator is
        then listed.
    cells : int
        Cells per side of the fine grid that regions are made of. Halved for layers whose moments would need more than
        512 MB or whose cells would be less than two positions wide.
    output : Outputs, optional
        What counts of the network's answer. By default classes or independent decisions, by the answer's shape; see
        `Outputs.infer`. Regressions pass ``Outputs("values")``.
    probes : int
        Backward passes per batch, at most.
    seed : int
        Of the random directions. They depend on the number of an image, not on its batch.

    Returns
    -------
    Calibration
        On the CPU.

    Raises
    ------
    CompressionError
        If there is no image, all images are constant, a batch is no float tensor (or tuple or dict of them), holds NaN,
        or changes size, the network's answer is not clear or not finite, or there is nothing to compress.

    Warns
    -----
    UserWarning
        If there are too few images for the smallest regions; the message says how many are needed.
    """
    if cells < 1:
        raise CompressionError(f"cells={cells} is out of range; give the cells per side, such as 4.")
    if isinstance(images, torch.Tensor):
        raise CompressionError("images is one tensor; pass an iterable of (N, C, H, W) batches, such as [images].")
    if probes < 1:
        raise CompressionError(f"probes={probes} is out of range; give backward passes per batch, such as {PROBES}.")
    if output is not None and not isinstance(output, Outputs):
        raise CompressionError(f'output={output!r} is not an hscc.Outputs; pass one, such as hscc.Outputs("values").')
    collector: _Collector | None = None
    varied = False
    # The caller may be inside no_grad or inference_mode; gradients are needed here all the same.
    with (
        _differentiable(model),
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(folded := fold_batch_norms(model)),
    ):
        if output is not None and output.kind == "values" and not output.scale:
            images = list(images) if isinstance(images, Iterator) else images
            output = _measured(folded, images, output)
        for batch in map(check_batch, track(images, "calibrating")):
            varied = varied or varies(batch)
            if collector is None:
                collector = _Collector(folded, input_shape_of(batch), cells, output, probes, seed)
                _check_folding(model, folded, next(parts(batch, 1)))
            for part in parts(batch, collector.at_once):
                collector.add(part)
    if collector is None:
        raise CompressionError("no calibration image was given; pass an iterable of (N, C, H, W) batches.")
    if not varied:
        raise CompressionError("every calibration image is constant; pass images like those the network will see.")
    calibration = collector.result()
    _warn_if_few(calibration)
    return calibration


@contextlib.contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """Let recurrent layers on CUDA have gradients in evaluation mode: cuDNN's have them in training mode only."""
    recurrent = torch.cuda.is_available() and any(isinstance(module, nn.RNNBase) for module in model.modules())
    with torch.backends.cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext():
        yield


def _check_folding(model: nn.Module, folded: nn.Module, image: Batch) -> None:
    """Refuse a network in which other inputs than the ones without a default lead past what was folded."""
    if folded is model:
        return
    with torch.no_grad(), evaluating(model):
        wanted, found = (_tensors(run(network, as_input(network, image))) for network in (model, folded))
    for own, other in zip(wanted, found, strict=True):
        near = torch.finfo(own.dtype).eps ** 0.5 * float(own.abs().max())
        if own.numel() and float((other - own).abs().max()) > near:
            raise CompressionError(
                "with these inputs the network takes another path than without its optional ones, and its BatchNorms "
                "cannot be folded; give the inputs no default in forward."
            )


def _tensors(answer: Any) -> list[torch.Tensor]:
    """Tensors of floats inside an answer."""
    leaves = tree_leaves(answer)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


def fingerprint(model: nn.Module) -> str:
    """Digest of a network's weights and their names, 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _warn_if_few(calibration: Calibration) -> None:
    """Warn where a region of one cell has fewer samples than its patches have entries."""
    needed = 0
    for layer in calibration.layers:
        moments = calibration.moments[layer.name]
        if moments.second is not None:
            positions = max(int(moments.count[moments.count > 0].min()) // calibration.images, 1)
            needed = max(needed, -(-layer.features // positions))
    if calibration.images < needed:
        warnings.warn(
            f"{calibration.images} calibration images are few for {calibration.cells} cells per side: "
            f"the smallest regions need {needed}; pass more, or fewer cells.",
            stacklevel=3,
        )


def _measured(model: nn.Module, images: Iterable[Batch], output: Outputs) -> Outputs:
    """Measure the deviation of each value over images and positions."""
    number, mean, squares = 0, torch.zeros(()), torch.zeros(())
    with torch.no_grad():
        for batch in images:
            for part in parts(check_batch(batch), _IMAGES_AT_ONCE):
                answer = output.select(run(model, as_input(model, part))).cpu().double()
                rows = answer.movedim(1, -1).flatten(0, -2)
                both, shift = number + len(rows), rows.mean(0) - mean
                squares = squares + (rows - rows.mean(0)).square().sum(0) + shift.square() * number * len(rows) / both
                mean, number = mean + shift * len(rows) / both, both
    return output.measured((squares / max(number, 1)).sqrt()) if number else output


class _Collector:
    """Running sums and the hooks that feed them."""

    def __init__(
        self, model: nn.Module, input_shape: InputShape, cells: int, outputs: Outputs | None, probes: int, seed: int
    ) -> None:
        self.model, self.input_shape, self.cells, self.images = model, input_shape, cells, 0
        self.outputs, self.probes, self.seed = outputs, probes, seed
        self.heads: set[str] = set()
        self.layers, self.left_dense = find_layers(model, input_shape)
        size = sum(layer.outputs * layer.positions for layer in self.layers) * 4
        self.at_once = max(1, min(_IMAGES_AT_ONCE, _MOST_BYTES // size))
        self.sums = {layer.name: LayerSums(layer, cells, next(model.parameters())) for layer in self.layers}

    def add(self, batch: Batch) -> None:
        if input_shape_of(batch) != self.input_shape:
            raise CompressionError(
                f"calibration images changed shape from {self.input_shape} to {input_shape_of(batch)}; "
                "calibrate at one input size."
            )
        answer, outputs = self._forward(batch)
        assert self.outputs is not None
        centred = self.outputs.centred(answer)
        if not self.images:
            self._leave_unreached(centred, outputs)
        if not self.images and centred[0].numel() > self.probes:
            self.heads = self._find_heads(answer, centred, outputs)
        names = [layer.name for layer in self.layers if layer.name not in self.heads]
        for scalar in self._directions(centred) if names else ():
            gradients = torch.autograd.grad(scalar, [outputs[name] for name in names], retain_graph=True)
            for name, gradient in zip(names, gradients, strict=True):
                self.sums[name].add_gradient(self._channels_first(name, gradient.detach()))
        for name in self.heads:
            self.sums[name].add_sensitivity(self.outputs.metric(answer.shape[1]), count(batch))
        self.images += count(batch)

    def _find_heads(
        self, answer: torch.Tensor, centred: torch.Tensor, outputs: dict[str, torch.Tensor]
    ) -> set[str]:  # fmt: skip
        """Layers whose output is the answer itself: their sensitivity is known, and needs no directions.

        There the gradient of every direction is that by the answer; one direction of the answer tells.
        """
        names = [
            layer.name for layer in self.layers if not is_channels_last(self.model.get_submodule(layer.name), layer)
        ]
        scalar = next(self._directions(centred))
        *gradients, own = torch.autograd.grad(scalar, [*(outputs[name] for name in names), answer], retain_graph=True)
        return {
            name for name, gradient in zip(names, gradients, strict=True) if torch.equal(gradient, own.to(gradient))
        }

    def _directions(self, centred: torch.Tensor) -> Iterator[torch.Tensor]:
        """Scalars of which the gradients' second moments add up to the sensitivity; see `calibrate`."""
        flat = centred.flatten(1)
        width, positions = flat.shape[1], flat.shape[1] // centred.shape[1]
        if width <= self.probes:
            for index in range(width):
                yield flat[:, index].sum() / positions**0.5
            return
        drawn = [np.random.default_rng((self.seed, self.images + index)) for index in range(len(flat))]
        for _ in range(self.probes):
            bits = np.stack([generator.integers(0, 2, width, np.int8) for generator in drawn])
            signs = torch.from_numpy(2 * bits - 1).to(flat.device, flat.dtype)
            yield (flat * signs).sum() / (positions * self.probes) ** 0.5

    def _channels_first(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        return channels_first(tensor, self.model.get_submodule(name), self.sums[name].layer)

    def _leave_unreached(self, centred: torch.Tensor, outputs: dict[str, torch.Tensor]) -> None:
        """Leave layers dense that no gradient of the outputs reaches: those behind a detach, or without effect."""
        linked = [layer for layer in self.layers if outputs[layer.name].requires_grad]
        gradients: tuple[torch.Tensor | None, ...] = ()
        if linked and centred.requires_grad:
            gradients = torch.autograd.grad(
                centred.square().sum(),
                [outputs[layer.name] for layer in linked],
                retain_graph=True,
                allow_unused=True,
            )
        reached = {layer.name for layer, gradient in zip(linked, gradients, strict=False) if gradient is not None}
        for layer in [layer for layer in self.layers if layer.name not in reached]:
            self.left_dense[layer.name] = "no gradient of the outputs reaches it"
            self.layers.remove(layer)
            del self.sums[layer.name]
        if not self.layers:
            raise CompressionError(
                "no gradient of the outputs reaches any layer; take no_grad() or detach() out of the forward pass."
            )

    def _forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return what counts of the answer, and each layer's output."""
        outputs: dict[str, torch.Tensor] = {}

        def watch(name: str):  # type: ignore[no-untyped-def]
            def hook(
                module: nn.Module,
                inputs: tuple[torch.Tensor, ...],
                named: dict[str, torch.Tensor],
                output: torch.Tensor,
            ) -> torch.Tensor:
                received = (inputs[0] if inputs else named["input"]).detach()
                self.sums[name].add_input(self._channels_first(name, received))
                outputs[name] = output
                return output.clone()  # an in-place ReLU then overwrites the copy, not what gradients refer to

            return hook

        handles = [
            self.model.get_submodule(layer.name).register_forward_hook(watch(layer.name), with_kwargs=True)
            for layer in self.layers
        ]
        # A graph is needed from the first layer on even where parameters are frozen; a clone is no leaf, which a
        # network may overwrite, and is the caller's no more.
        given = convert(as_input(self.model, batch), lambda tensor: tensor.detach().requires_grad_(True).clone())
        try:
            raw = run(self.model, given)
        finally:
            for handle in handles:
                handle.remove()
        if self.outputs is None:
            self.outputs = Outputs.infer(raw)
        answer = self.outputs.select(raw)
        if len(answer) != count(batch):
            raise CompressionError(
                f"the network answers {count(batch)} images with shape {tuple(answer.shape)}; let its first dimension "
                "be the images', as in answer.transpose(0, 1)."
            )
        if not torch.isfinite(answer).all():
            raise CompressionError("the network's output holds NaN or infinity on the calibration images; check both.")
        return answer, outputs

    def result(self) -> Calibration:
        assert self.outputs is not None
        return Calibration(
            self.layers,
            self.left_dense,
            {name: sums.result() for name, sums in self.sums.items()},
            self.cells,
            self.images,
            self.input_shape,
            fingerprint(self.model),
            self.outputs,
        )
