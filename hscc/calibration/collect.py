"""Calibration: one streaming pass over images; memory does not grow with their number."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from hscc.calibration.cache import PlanningCache
from hscc.calibration.layers import Layer, find_layers
from hscc.calibration.moments import LayerMoments, LayerSums
from hscc.errors import CompressionError
from hscc.networks.folding import fold_batch_norms
from hscc.networks.inspection import evaluating
from hscc.terminal import track

_IMAGES_AT_ONCE = 16
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
    input_shape : tuple of int
        Of one image: channels, then positions along each axis.
    network : str
        Digest of the network's weights; see `fingerprint`.
    cache : PlanningCache
        What planning has computed from the moments already; never written to disk.
    """

    layers: list[Layer]
    left_dense: dict[str, str]
    moments: dict[str, LayerMoments]
    cells: int
    images: int
    input_shape: tuple[int, ...]
    network: str
    cache: PlanningCache = field(default_factory=PlanningCache, repr=False, compare=False)


def calibrate(model: nn.Module, images: Iterable[torch.Tensor], cells: int = 4) -> Calibration:
    """Collect the moments of every layer that can be factored.

    Parameters
    ----------
    model : nn.Module
        Network with logits as output; left as it was.
    images : iterable of Tensor, shape (N, C, H, W)
        Batches of network inputs; labels are not needed. Large batches are taken in parts.
    cells : int
        Cells per side of the fine grid that regions are made of. Layers whose moments would need more than 512 MB get
        fewer.

    Returns
    -------
    Calibration
        On the CPU.

    Raises
    ------
    CompressionError
        If there is no image, all images are constant, a batch is not a float tensor of shape (N, C, H, W), holds NaN,
        or changes size, or the network has nothing to compress.

    Warns
    -----
    UserWarning
        If there are too few images for the smallest regions; the message says how many are needed.
    """
    if cells < 1:
        raise CompressionError(f"cells={cells} is out of range; give the cells per side, such as 4.")
    collector: _Collector | None = None
    varied = False
    # The caller may be inside no_grad or inference_mode; gradients are needed here all the same.
    with torch.inference_mode(False), torch.enable_grad(), evaluating(folded := fold_batch_norms(model)):
        for batch in track(images, "calibrating"):
            check_batch(batch)
            varied = varied or bool((batch.flatten(1).amax(1) > batch.flatten(1).amin(1)).any())
            if collector is None:
                collector = _Collector(folded, tuple(batch.shape[1:]), cells)
            for part in batch.split(collector.at_once):
                collector.add(part)
    if collector is None:
        raise CompressionError("no calibration image was given; pass an iterable of (N, C, H, W) batches.")
    if not varied:
        raise CompressionError("every calibration image is constant; pass images like those the network will see.")
    calibration = collector.result()
    _warn_if_few(calibration)
    return calibration


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


def check_batch(batch: torch.Tensor) -> None:
    """Raise a `CompressionError` for what are no network inputs."""
    if not isinstance(batch, torch.Tensor) or batch.ndim < 2 or not batch.is_floating_point():
        raise CompressionError(
            "calibration images must be float tensors of shape (N, C, H, W), or with another number of axes behind the "
            "channels; pass the network's inputs without labels."
        )
    if not torch.isfinite(batch).all():
        raise CompressionError("calibration images hold NaN or infinity; remove or fix them.")


class _Collector:
    """Running sums and the hooks that feed them."""

    def __init__(self, model: nn.Module, input_shape: tuple[int, ...], cells: int) -> None:
        self.model, self.input_shape, self.cells, self.images = model, input_shape, cells, 0
        self.layers, self.left_dense = find_layers(model, input_shape)
        size = sum(layer.outputs * layer.positions for layer in self.layers) * 4
        self.at_once = max(1, min(_IMAGES_AT_ONCE, _MOST_BYTES // size))
        self.sums = {layer.name: LayerSums(layer, cells, next(model.parameters())) for layer in self.layers}

    def add(self, batch: torch.Tensor) -> None:
        if tuple(batch.shape[1:]) != self.input_shape:
            raise CompressionError(
                f"calibration images changed shape from {self.input_shape} to {tuple(batch.shape[1:])}; "
                "calibrate at one input size."
            )
        like = next(self.model.parameters())
        outputs = self._forward(batch.to(like.device, like.dtype))
        logits = outputs.pop("logits")
        centred = logits - logits.mean(1, keepdim=True)
        if not self.images:
            self._leave_unreached(centred, outputs)
        names = [layer.name for layer in self.layers]
        for index in range(logits.shape[1]):
            gradients = torch.autograd.grad(
                centred[:, index].sum(), [outputs[name] for name in names], retain_graph=True
            )
            for name, gradient in zip(names, gradients, strict=True):
                self.sums[name].add_gradient(gradient.detach())
        self.images += len(batch)

    def _leave_unreached(self, centred: torch.Tensor, outputs: dict[str, torch.Tensor]) -> None:
        """Leave layers dense that no gradient of the logits reaches: those behind a detach, or without effect."""
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
            self.left_dense[layer.name] = "no gradient of the logits reaches it"
            self.layers.remove(layer)
            del self.sums[layer.name]
        if not self.layers:
            raise CompressionError(
                "no gradient of the logits reaches any layer; take torch.no_grad() or detach() out of the forward pass."
            )

    def _forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs: dict[str, torch.Tensor] = {}

        def watch(name: str):  # type: ignore[no-untyped-def]
            def hook(
                module: nn.Module,
                inputs: tuple[torch.Tensor, ...],
                named: dict[str, torch.Tensor],
                output: torch.Tensor,
            ) -> torch.Tensor:
                self.sums[name].add_input((inputs[0] if inputs else named["input"]).detach())
                outputs[name] = output
                return output.clone()  # an in-place ReLU then overwrites the copy, not what gradients refer to

            return hook

        handles = [
            self.model.get_submodule(layer.name).register_forward_hook(watch(layer.name), with_kwargs=True)
            for layer in self.layers
        ]
        try:
            # A graph is needed from the first layer on even where parameters are frozen; a clone is no leaf, which a
            # network may overwrite, and is the caller's no more.
            logits = self.model(batch.detach().clone().requires_grad_(True).clone())
        finally:
            for handle in handles:
                handle.remove()
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
            found = (
                f"has shape {tuple(logits.shape)}"
                if isinstance(logits, torch.Tensor)
                else f"is a {type(logits).__name__}"
            )
            raise CompressionError(f"the network's output {found}; calibration needs logits (N, classes >= 2).")
        return {**outputs, "logits": logits}

    def result(self) -> Calibration:
        moments = {name: sums.result() for name, sums in self.sums.items()}
        network = fingerprint(self.model)
        return Calibration(self.layers, self.left_dense, moments, self.cells, self.images, self.input_shape, network)
