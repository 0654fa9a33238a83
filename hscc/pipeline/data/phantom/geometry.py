"""Geometry of the phantom: soft shapes, smooth noise, and the stack of tissue layers that makes a head.

Lengths are in head units (half the head's longest side is 1), y points down and, in the sagittal plane, the face
points to negative x. Distances are signed, negative inside, and exact only near the outline, which is all that an
antialiased edge needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]


class Layer(NamedTuple):
    """One tissue laid over those before it: ``alpha`` in [0, 1] (H, W), ``texture`` multiplies its brightness."""

    alpha: Field
    tissue: str
    texture: Field | float = 1.0


@dataclass(frozen=True)
class Head:
    """A healthy head in one plane.

    Attributes
    ----------
    view : str
        One of ``VIEWS``.
    x, y : Field
        Position of each pixel in head units, shape (H, W).
    pixel : float
        Side of a pixel in head units.
    brain : Field
        Signed distance to the inner surface of the skull, shape (H, W); negative inside the brain.
    sella : tuple of float
        Where the pituitary gland sits.
    layers : tuple of Layer
        Tissues in the order of painting.
    """

    view: str
    x: Field
    y: Field
    pixel: float
    brain: Field
    sella: tuple[float, float]
    layers: tuple[Layer, ...]


@cache
def _spline(pixels: int, cells: int) -> Field:
    """Uniform cubic B-splines sampled at the pixel centres of one side, shape (pixels, cells + 3)."""
    at = (np.arange(pixels) + 0.5) * cells / pixels + 1.0
    away = np.abs(at[:, None] - np.arange(cells + 3))
    weights: Field = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6)
    return weights


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Field:
    """Draw smooth noise of zero mean and unit deviation, float64 of a shape in pixels.

    `cells` is the number of knots per side: the noise has a bump every ``shape / cells`` pixels or so.
    """
    knots = rng.standard_normal((cells + 3, cells + 3))
    # einsum and not @: a threaded BLAS spends five times as long on waking its threads for matrices this small
    columns = np.einsum("kl,jl->kj", knots, _spline(shape[1], cells))
    noise: Field = np.einsum("ik,kj->ij", _spline(shape[0], cells), columns)
    noise -= noise.mean()
    noise /= noise.std()
    return noise


def soft(distance: Field, width: float) -> Field:
    """Turn a signed distance into an antialiased mask: 1 inside, 0 outside, a ramp of ``width`` between."""
    mask: Field = np.clip(0.5 - distance / width, 0.0, 1.0)
    return mask


def ellipse(x: Field, y: Field, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Field:
    """Signed distance (first order) to an ellipse turned by ``angle`` radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = x - centre[0], y - centre[1]
    a, b = (cos * u + sin * v) / radii[0], (cos * v - sin * u) / radii[1]
    distance: Field = (np.sqrt(a * a + b * b) - 1.0) * min(radii)
    return distance


def stroke(x: Field, y: Field, points: list[tuple[float, float]], radius: float) -> Field:
    """Signed distance to a polyline drawn with a round pen of the given radius."""
    nearest = np.full(x.shape, np.inf)
    for (x0, y0), (x1, y1) in pairwise(points):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-12), 0.0, 1.0)
        np.minimum(nearest, (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2, out=nearest)
    distance: Field = np.sqrt(nearest) - radius
    return distance
