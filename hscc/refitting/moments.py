"""Moments of what a compressed layer reads and of what the dense layer gives, by region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hscc.calibration.layers import Layer, box_size, output_window, pad, tile_box, unfold
from hscc.calibration.moments import SKETCH_ROWS, add_gram, mirror_gram, sampled_box, sampling_steps, shrink_rows
from hscc.factorisation.chain import project_rows
from hscc.structures.base import Tiles


@dataclass(frozen=True)
class PairMoments:
    """Second moments of inputs x and of outputs W x to be reached over one region.

    The least-squares problem of a weight M under G is tr G (M A M^T - 2 M C^T) with A = Cov(x) and C = W A.

    Attributes
    ----------
    share : float
        Of the layer's output positions, 0 to 1.
    input_mean : Tensor, shape (d,)
        Mean patch; zero for a layer without bias, whose moments are not centred.
    target_mean : Tensor, shape (C_out,)
        Mean target.
    covariance : Tensor, shape (d, d), or None
        A.
    root : Tensor, shape (n, d), or None
        In place of `covariance` for a wide layer with one position: R with A = R^T R.
    cross : Tensor, shape (C_out, d)
        C.
    """

    share: float
    input_mean: torch.Tensor
    target_mean: torch.Tensor
    covariance: torch.Tensor | None
    root: torch.Tensor | None
    cross: torch.Tensor

    def times(self, matrix: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        """Return matrix @ A, shape (n, d), for a matrix (n, d), or for one of only some columns of it."""
        if self.covariance is not None:
            return matrix @ (self.covariance if columns is None else self.covariance[columns])
        assert self.root is not None
        return (matrix @ (self.root if columns is None else self.root[:, columns]).T) @ self.root

    def times_projection(self, projection: torch.Tensor) -> torch.Tensor:
        """Return (P x I) @ A, shape (p s, d)."""
        if self.covariance is not None:
            return project_rows(projection, self.covariance)
        assert self.root is not None
        return project_rows(projection, self.root.T) @ self.root

    def behind(self, projection: torch.Tensor | None) -> PairMoments:
        """Moments of (P x I) x."""
        if projection is None:
            return self
        mean, cross = project_rows(projection, self.input_mean[:, None])[:, 0], project_rows(projection, self.cross.T).T
        if self.covariance is not None:
            covariance = project_rows(projection, project_rows(projection, self.covariance).T)
        else:
            assert self.root is not None
            codes = project_rows(projection, self.root.T)
            covariance = codes @ codes.T
        return PairMoments(self.share, mean, self.target_mean, covariance, None, cross)


class PairSums:
    """Running sums of one layer's inputs and targets, one entry per region.

    Positions are sampled where `hscc.calibration.moments.LayerSums` samples them.

    Parameters
    ----------
    layer : Layer
        Geometry of the dense layer.
    cells : int
        Cells per side that tiles are counted in.
    regions : sequence of Tiles
        Tiles of each region.
    like : Tensor
        Of the device of the sums, and of their precision; at least float32.
    """

    def __init__(self, layer: Layer, cells: int, regions: Sequence[Tiles], like: torch.Tensor) -> None:
        self.layer = layer
        self.tiles = [[tile_box(tile, layer.grid, cells) for tile in tiles] for tiles in regions]
        features, outputs, number = layer.features, layer.outputs, len(regions)
        dtype, device = torch.promote_types(like.dtype, torch.float32), like.device
        self.steps, self.images = sampling_steps(layer), 0
        self.count, self.positions = [0] * number, [sum(map(box_size, tiles)) for tiles in self.tiles]
        self.inputs = torch.zeros(number, features, dtype=dtype, device=device)
        self.targets = torch.zeros(number, outputs, dtype=dtype, device=device)
        self.sketched = layer.positions == 1 and features > SKETCH_ROWS
        squares = 0 if self.sketched else number
        self.second = torch.zeros(squares, features, features, dtype=dtype, device=device)
        self.cross = torch.zeros(squares, outputs, features, dtype=dtype, device=device)
        self.rows: list[torch.Tensor] = []

    def add(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add the compressed layer's inputs and the dense layer's outputs on the same images."""
        padded = pad(self.layer, inputs.to(self.inputs.dtype))
        at_once = 1 if math.prod(self.steps) > 1 else len(padded)
        for part, wanted in zip(padded.split(at_once), targets.split(at_once), strict=True):
            self._add(part, wanted)
            self.images += len(part)

    def _add(self, padded: torch.Tensor, targets: torch.Tensor) -> None:
        for region, tiles in enumerate(self.tiles):
            for tile in tiles:
                if not box_size(tile):
                    continue
                chosen = sampled_box(tile, self.steps, self.images)
                x = unfold(self.layer, padded, chosen, self.steps).reshape(-1, self.layer.features)
                part = output_window(targets, chosen, self.steps).movedim(1, -1)
                y = part.reshape(-1, self.layer.outputs).to(self.inputs.dtype)
                self.count[region] += len(x)
                self.inputs[region] += x.sum(0)
                self.targets[region] += y.sum(0)
                if self.sketched:
                    self._sketch(x, y)
                else:
                    add_gram(self.second[region], x)
                    self.cross[region].addmm_(y.T, x)

    def _sketch(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.rows.append(torch.cat((x, y, x.new_ones(len(x), 1)), dim=1))
        if sum(map(len, self.rows)) >= 2 * SKETCH_ROWS:
            self.rows = [shrink_rows(torch.cat(self.rows))]

    def result(self, weight: torch.Tensor, ridge: float, centred: bool) -> list[PairMoments]:
        """Return the moments, on the CPU; nothing can be added afterwards.

        The weight W to be reached is the dense one plus a ridge regression of what the targets differ by.

        Parameters
        ----------
        weight : Tensor, shape (C_out, d)
            Of the dense layer.
        ridge : float
            In units of the mean variance of an input; of the directions that the images span where these are fewer.
        centred : bool
            Whether a bias takes up the means.
        """
        weight = weight.detach().to("cpu", self.inputs.dtype)
        for second in self.second:
            mirror_gram(second)
        return [self._region(index, weight, ridge, centred) for index in range(len(self.count))]

    def _region(self, index: int, weight: torch.Tensor, ridge: float, centred: bool) -> PairMoments:
        count, share = max(self.count[index], 1), self.positions[index] / max(sum(self.positions), 1)
        x, y = (sums[index].cpu() / count for sums in (self.inputs, self.targets))
        if not centred:
            x, y = torch.zeros_like(x), torch.zeros_like(y)
        if self.sketched:
            rows = torch.cat(self.rows).cpu() / count**0.5
            if centred:
                ones = rows[:, -1].clone()
                rows = rows - torch.outer(ones, ones @ rows)
            root, targets = rows[:, : len(x)], rows[:, len(x) : -1]
            # (R^T R + a I)^-1 R^T = R^T (R R^T + a I)^-1, which is as small as the number of images.
            gram = (root @ root.T).double()
            damped = gram.clone()
            damped.diagonal().add_(_damping(float(gram.diagonal().sum()), len(gram), ridge))
            change = torch.linalg.solve(damped, (targets - root @ weight.T).double())
            reached = root @ weight.T + (gram @ change).to(root.dtype)
            return PairMoments(share, x, y, None, root, reached.T @ root)
        covariance = (self.second[index].cpu() / count).addr_(x, x, alpha=-1)
        cross = (self.cross[index].cpu() / count).addr_(y, x, alpha=-1)
        damping = _damping(float(covariance.diagonal().sum()), len(x), ridge)
        linear = weight @ covariance
        # (C - W_0 A) (A + a I)^-1 A = (C - W_0 A) - a (C - W_0 A) (A + a I)^-1
        missing = (cross - linear).double()
        factor, damping = damped_factor(covariance, damping)
        rest = torch.cholesky_solve(missing.T, factor).T
        cross = linear + (missing - damping * rest).to(linear.dtype)
        return PairMoments(share, x, y, covariance, None, cross)


def damped_factor(covariance: torch.Tensor, damping: float) -> tuple[torch.Tensor, float]:
    """Cholesky factor of A + damping I in float64, and the damping: more where rounding left A indefinite beyond it."""
    wide = covariance.double()
    if wide is covariance:
        wide = wide.clone()
    wide.diagonal().add_(damping)
    while (found := torch.linalg.cholesky_ex(wide)).info.item():
        wide.diagonal().add_(9 * damping)
        damping *= 10
    return found.L, damping


def _damping(energy: float, directions: int, ridge: float) -> float:
    return max(ridge * energy / directions, 1e-12)  # an input that never varies leaves the dense weight in place
