"""One streaming pass over the calibration images; memory does not grow with their number."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from hscc.calibration.cells import area, cell_rectangles
from hscc.calibration.layers import Layer, Rectangle, find_layers, pad, unfold
from hscc.calibration.moments import LayerMoments
from hscc.errors import CompressionError
from hscc.models.folding import fold_batch_norms
from hscc.models.modes import evaluating

_SKETCH_ROWS = 1024
_IMAGES_AT_ONCE = 16  # keeps the activations and patches of a large network in memory
_MOST_BYTES = 512 * 2**20  # of one layer's second moments
_GRAM_BLOCK = 384


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
        Cells a side of the fine grid.
    images : int
        How many images were seen.
    input_shape : (int, int, int)
        Channels, rows, columns.
    network : str
        Digest of the network's weights; see `fingerprint`.
    memo : dict
        What planning has computed from the moments already; never written to disk.
    """

    layers: list[Layer]
    left_dense: dict[str, str]
    moments: dict[str, LayerMoments]
    cells: int
    images: int
    input_shape: tuple[int, int, int]
    network: str
    memo: dict[object, object] = field(default_factory=dict, repr=False, compare=False)


def calibrate(model: nn.Module, images: Iterable[torch.Tensor], cells: int = 4) -> Calibration:
    """Collect the moments of every layer that can be factored.

    Parameters
    ----------
    model : nn.Module
        Network with logits as output; left as it was.
    images : iterable of Tensor, shape (N, C, H, W)
        Batches of network inputs; labels are not needed. Large batches are taken in parts.
    cells : int
        Cells a side of the fine grid that regions are made of. Layers whose moments would need more than 512 MB get
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
        raise CompressionError(f"cells={cells} is out of range; give the cells a side, such as 4.")
    collector: _Collector | None = None
    varied = False
    folded = fold_batch_norms(model)
    with evaluating(folded):
        for batch in images:
            _check_batch(batch)
            varied = varied or bool((batch.amax((1, 2, 3)) > batch.amin((1, 2, 3))).any())
            if collector is None:
                collector = _Collector(folded, tuple(batch.shape[1:]), cells)  # type: ignore[arg-type]
            for part in batch.split(_IMAGES_AT_ONCE):
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
            f"{calibration.images} calibration images are few for {calibration.cells} x {calibration.cells} cells: "
            f"the smallest regions need {needed}; pass more, or fewer cells.",
            stacklevel=3,
        )


def _check_batch(batch: torch.Tensor) -> None:
    if not isinstance(batch, torch.Tensor) or batch.ndim != 4 or not batch.is_floating_point():
        raise CompressionError(
            "calibration images must be float tensors of shape (N, C, H, W); pass the network's inputs without labels."
        )
    if not torch.isfinite(batch).all():
        raise CompressionError("calibration images hold NaN or infinity; remove or mend them.")


class _Collector:
    """Running sums and the hooks that feed them."""

    def __init__(self, model: nn.Module, input_shape: tuple[int, int, int], cells: int) -> None:
        self.model, self.input_shape, self.cells, self.images = model, input_shape, cells, 0
        self.layers, self.left_dense = find_layers(model, input_shape)
        self.sums = {layer.name: _LayerSums(layer, cells, next(model.parameters())) for layer in self.layers}

    def add(self, batch: torch.Tensor) -> None:
        if tuple(batch.shape[1:]) != self.input_shape:
            raise CompressionError(
                f"calibration images changed shape from {self.input_shape} to {tuple(batch.shape[1:])}; "
                "calibrate at one input size."
            )
        device = next(self.model.parameters()).device
        outputs = self._forward(batch.to(device))
        logits, names = outputs.pop("logits"), [layer.name for layer in self.layers]
        centred = logits - logits.mean(1, keepdim=True)
        classes = logits.shape[1]
        for index in range(classes):
            gradients = torch.autograd.grad(
                centred[:, index].sum(), [outputs[name] for name in names], retain_graph=index + 1 < classes
            )
            for name, gradient in zip(names, gradients, strict=True):
                self.sums[name].add_gradient(gradient.detach())
        self.images += len(batch)

    def _forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs: dict[str, torch.Tensor] = {}

        def watch(name: str):  # type: ignore[no-untyped-def]
            def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
                self.sums[name].add_input(inputs[0].detach())
                outputs[name] = output
                return output.clone()  # an in-place ReLU then overwrites the copy, not what gradients refer to

            return hook

        handles = [
            self.model.get_submodule(layer.name).register_forward_hook(watch(layer.name)) for layer in self.layers
        ]
        try:
            with torch.enable_grad():
                # A graph is needed from the first layer on even where parameters are frozen.
                logits = self.model(batch.detach().requires_grad_(True))
        finally:
            for handle in handles:
                handle.remove()
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise CompressionError(
                f"the network's output has shape {tuple(logits.shape)}; calibration needs logits (N, classes >= 2)."
            )
        return {**outputs, "logits": logits}

    def result(self) -> Calibration:
        moments = {name: sums.result() for name, sums in self.sums.items()}
        network = fingerprint(self.model)
        return Calibration(self.layers, self.left_dense, moments, self.cells, self.images, self.input_shape, network)


class _LayerSums:
    """Running sums of one layer."""

    def __init__(self, layer: Layer, cells: int, like: torch.Tensor) -> None:
        self.layer = layer
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        own = _affordable_cells(layer, cells, dtype.itemsize)
        self.tiles: list[Rectangle] = cell_rectangles(layer.grid, own)
        n, d, c = len(self.tiles), layer.features, layer.outputs
        self.count = torch.zeros(n, dtype=torch.int64)
        self.total = torch.zeros(n, d, dtype=dtype)
        self.sensitivity = torch.zeros(n, c, c, dtype=dtype)
        self.sketched = layer.positions == 1
        self.second = None if self.sketched else torch.zeros(n, d, d, dtype=dtype)
        self.rows: list[torch.Tensor] = []

    def add_input(self, inputs: torch.Tensor) -> None:
        padded = pad(self.layer, inputs)
        for cell, tile in enumerate(self.tiles):
            if not area(tile):
                continue
            patches = unfold(self.layer, padded, tile).to("cpu", self.total.dtype).reshape(-1, self.layer.features)
            self.count[cell] += len(patches)
            self.total[cell] += patches.sum(0)
            if self.second is not None:
                _add_gram(self.second[cell], patches)
            else:
                self._sketch(patches)

    def add_gradient(self, gradient: torch.Tensor) -> None:
        for cell, tile in enumerate(self.tiles):
            if not area(tile):
                continue
            part = gradient if gradient.ndim == 2 else gradient[:, :, tile[0] : tile[1], tile[2] : tile[3]]
            flat = part.movedim(1, -1).reshape(-1, self.layer.outputs).to("cpu", self.sensitivity.dtype)
            self.sensitivity[cell].addmm_(flat.T, flat)

    def _sketch(self, patches: torch.Tensor) -> None:
        self.rows.append(torch.cat((patches, patches.new_ones(len(patches), 1)), dim=1))
        if sum(map(len, self.rows)) >= 2 * _SKETCH_ROWS:
            self.rows = [_shrink(torch.cat(self.rows))]

    def result(self) -> LayerMoments:
        sketch = _shrink(torch.cat(self.rows)) if self.sketched else None
        if self.second is not None:
            for second in self.second:
                _mirror(second)
        return LayerMoments(self.count, self.total, self.second, sketch, self.sensitivity)


def _affordable_cells(layer: Layer, cells: int, itemsize: int) -> int:
    if layer.positions == 1:
        return 1
    while cells > 1 and cells**2 * layer.features**2 * itemsize > _MOST_BYTES:
        cells //= 2
    return cells


def _add_gram(total: torch.Tensor, rows: torch.Tensor) -> None:
    """Add rows^T rows to the blocks on and above the diagonal: half the work for wide layers; see `_mirror`."""
    width = len(total)
    for first in range(0, width, _GRAM_BLOCK):
        last = min(first + _GRAM_BLOCK, width)
        total[first:last, first:].addmm_(rows[:, first:last].T, rows[:, first:])


def _mirror(total: torch.Tensor) -> None:
    for first in range(0, len(total), _GRAM_BLOCK):
        last = min(first + _GRAM_BLOCK, len(total))
        total[last:, first:last] = total[first:last, last:].T


def _shrink(rows: torch.Tensor) -> torch.Tensor:
    """Fewer rows with (nearly) the same R^T R: the leading right singular vectors, scaled."""
    if len(rows) <= _SKETCH_ROWS:
        return rows
    _, vectors = torch.linalg.eigh(rows @ rows.T)
    leading = vectors[:, -_SKETCH_ROWS:]
    kept: torch.Tensor = leading.T @ rows  # singular values are kept: leading^T rows = S V^T
    return kept
