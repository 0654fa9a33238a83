"""Lesions of the phantom, one function per class, and the benign findings that every class may show.

Each function takes the source of randomness and the healthy head, and returns the tissues to paint over the head's own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hscc.pipeline.data.phantom.geometry import Field, Head, Layer, ellipse, smooth_noise, soft


def glioma(rng: np.random.Generator, head: Head) -> list[Layer]:
    """Inside the brain, irregular and uneven, in a halo of oedema, often with a dead core."""
    inside = soft(head.brain + 0.02, head.pixel)
    radius = rng.uniform(0.15, 0.28)
    centre = _site(rng, head, 0.85 * radius + 0.10, 1.0, np.abs(head.x) - 0.10 if head.view != "sagittal" else None)
    body = _lobed(rng, head, centre, radius, 0.22)
    halo = body - rng.uniform(0.4, 1.0) * radius + 0.18 * radius * smooth_noise(rng, head.x.shape, 16)
    uneven = 1.0 + 0.22 * smooth_noise(rng, head.x.shape, 22)
    layers = [Layer(soft(halo, 0.05) * inside * rng.uniform(0.7, 1.0), "oedema")]
    layers += [Layer(soft(body, 2.5 * head.pixel) * inside * rng.uniform(0.8, 1.0), "tumour", uneven)]
    if rng.random() < 0.65:
        core = body + rng.uniform(0.30, 0.50) * radius
        layers.append(Layer(soft(core, 2.5 * head.pixel) * inside * rng.uniform(0.7, 1.0), "necrosis"))
    return layers


def meningioma(rng: np.random.Generator, head: Head) -> list[Layer]:
    """On the dura (convexity or falx), round, even and sharp, now and then with a dural tail."""
    inside = soft(head.brain, head.pixel)
    radius = rng.uniform(0.15, 0.28)
    on_falx = head.view != "sagittal" and rng.random() < 0.2
    # the convexity rather than the skull base or the orbits
    above = head.y + 0.45 if head.view == "axial_low" else 0.15 - head.y
    if on_falx:
        height = _site(rng, head, radius, 0.6, 0.04 - np.abs(head.x))[1]
        centre = (float(rng.choice((-1.0, 1.0))) * 0.75 * radius, height)
    else:
        sunk = rng.uniform(0.45, 0.80) * radius
        centre = _site(rng, head, sunk - 0.02, sunk + 0.02, above)
    body = _lobed(rng, head, centre, radius, 0.05)
    even = 1.0 + 0.04 * smooth_noise(rng, head.x.shape, 20)
    layers = [Layer(soft(body - 0.03, 1.5 * head.pixel) * inside * rng.uniform(0.2, 0.9), "csf")]
    layers += [Layer(soft(body, 1.5 * head.pixel) * inside * rng.uniform(0.8, 1.0), "tumour", even)]
    if not on_falx and rng.random() < 0.6:
        near = ellipse(head.x, head.y, centre, (1.7 * radius, 1.7 * radius))
        tail = soft(np.abs(head.brain + 0.015) - 0.02, 1.5 * head.pixel) * soft(near, 0.1)
        layers.append(Layer(tail * inside * rng.uniform(0.4, 0.9), "tumour"))
    return layers


def pituitary(rng: np.random.Generator, head: Head) -> list[Layer]:
    """In the sella on the midline, growing upwards, sometimes waisted like a snowman."""
    radius = rng.uniform(0.11, 0.20)
    lift = 0.0 if head.view == "axial_low" else 0.7 * radius
    x0, y0 = head.sella[0] + rng.normal(0, 0.01), head.sella[1] - lift
    body = _lobed(rng, head, (x0, y0), radius, 0.09)
    if head.view != "axial_low" and rng.random() < 0.4:
        upper = ellipse(head.x, head.y, (x0 + rng.normal(0, 0.02), y0 - 1.1 * radius), (0.75 * radius, 0.7 * radius))
        body = np.minimum(body, upper)
    even = 1.0 + rng.uniform(0.03, 0.12) * smooth_noise(rng, head.x.shape, 22)
    layers = [Layer(soft(body - 0.02, 1.5 * head.pixel) * rng.uniform(0.3, 0.9), "csf")]
    layers += [Layer(soft(body, 1.5 * head.pixel) * rng.uniform(0.75, 1.0), "tumour", even)]
    if rng.random() < 0.2:
        cyst = ellipse(head.x, head.y, (x0, y0), (0.45 * radius, 0.4 * radius))
        layers.append(Layer(soft(cyst, 2 * head.pixel) * 0.8, "necrosis"))
    return layers


def nothing(rng: np.random.Generator, head: Head) -> list[Layer]:
    """No lesion."""
    return []


def benign(rng: np.random.Generator, head: Head) -> list[Layer]:
    """Draw findings that are no tumour: faint diffuse spots of white matter, and cysts as dark as CSF."""
    inside = soft(head.brain + 0.02, head.pixel)
    layers = []
    for _ in range(int(rng.integers(0, 3))):
        spot = _lobed(rng, head, _site(rng, head, 0.10, 1.0), rng.uniform(0.05, 0.16), 0.2)
        tissue = "vessel" if rng.random() < 0.15 else "oedema"
        layers.append(Layer(soft(spot, 0.18) * inside * rng.uniform(0.10, 0.35), tissue))
    if rng.random() < 0.15:
        cyst = _lobed(rng, head, _site(rng, head, 0.02, 0.12), rng.uniform(0.06, 0.13), 0.05)
        layers.append(Layer(soft(cyst, 2 * head.pixel) * inside, "csf"))
    return layers


LESIONS: dict[str, Callable[[np.random.Generator, Head], list[Layer]]] = {
    "glioma_tumor": glioma,
    "meningioma_tumor": meningioma,
    "no_tumor": nothing,
    "pituitary_tumor": pituitary,
}


def _site(
    rng: np.random.Generator, head: Head, least: float, most: float, score: Field | None = None
) -> tuple[float, float]:
    """Pick a pixel of the brain whose depth under the skull lies in [least, most] head units."""
    depth = -head.brain
    allowed = (depth >= least) & (depth <= most)
    if score is not None and (allowed & (score > 0)).any():
        allowed &= score > 0
    places = np.flatnonzero(allowed) if allowed.any() else np.array([int(depth.argmax())])
    chosen = int(places[rng.integers(len(places))])
    return float(head.x.flat[chosen]), float(head.y.flat[chosen])


def _lobed(rng: np.random.Generator, head: Head, centre: tuple[float, float], radius: float, rough: float) -> Field:
    """Signed distance to a blob whose outline wanders by ``rough`` times its radius."""
    squash = rng.uniform(0.75, 1.0)
    round_ = ellipse(head.x, head.y, centre, (radius, radius * squash), rng.uniform(0, np.pi))
    return round_ + rough * radius * smooth_noise(rng, head.x.shape, 11)
