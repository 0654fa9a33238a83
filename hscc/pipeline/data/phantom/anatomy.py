"""Anatomy of the phantom: a healthy head of random shape and pose, cut in one of four planes."""

from __future__ import annotations

import numpy as np

from hscc.pipeline.data.phantom.geometry import Field, Head, Layer, ellipse, smooth_noise, soft, stroke

VIEWS: tuple[str, ...] = ("axial", "axial_low", "coronal", "sagittal")


def draw_head(rng: np.random.Generator, view: str, shape: tuple[int, int]) -> Head:
    """Draw a healthy head, cut in one of `VIEWS`, in a random pose; the shape is height and width in pixels."""
    x, y, pixel = _pose(rng, shape, lowered=view in ("coronal", "sagittal"))
    if view == "sagittal":
        return _sagittal(rng, x, y, pixel)
    if view == "coronal":
        return _coronal(rng, x, y, pixel)
    return _axial(rng, x, y, pixel, low=view == "axial_low")


def _pose(rng: np.random.Generator, shape: tuple[int, int], lowered: bool) -> tuple[Field, Field, float]:
    height, width = shape
    scale = rng.uniform(0.40, 0.49) * min(height, width)
    angle = np.deg2rad(rng.normal(0.0, 5.0))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    shift = rng.uniform(-0.05, 0.05, 2)
    u = (columns - width / 2) / scale + shift[0]
    v = (rows - height / 2) / scale + shift[1] - (0.05 if lowered else 0.0)
    x = (np.cos(angle) * u + np.sin(angle) * v) * rng.uniform(0.94, 1.10) * rng.choice((-1.0, 1.0))
    y = (np.cos(angle) * v - np.sin(angle) * u) * rng.uniform(0.94, 1.10)
    bend = rng.uniform(0.010, 0.030)
    x, y = x + bend * smooth_noise(rng, shape, 5), y + bend * smooth_noise(rng, shape, 5)
    return x, y, 1.0 / scale


def _cranium(rng: np.random.Generator, distance: Field, x: Field, pixel: float) -> tuple[Field, list[Layer]]:
    """Scalp, skull and dura around a brain; returns the brain's own signed distance and the layers."""
    scalp, skull = rng.uniform(0.03, 0.075), rng.uniform(0.03, 0.075)
    edge = 1.5 * pixel
    patchy = 1.0 + 0.18 * smooth_noise(rng, x.shape, 9)
    marrow = soft(np.abs(distance + scalp + skull / 2) - skull * rng.uniform(0.10, 0.25), edge) * rng.uniform(0.0, 0.9)
    brain = distance + scalp + skull
    layers = [
        Layer(soft(distance, edge), "scalp", patchy),
        Layer(soft(distance + scalp, edge), "bone"),
        Layer(marrow, "muscle", patchy),
        Layer(soft(brain, edge), "csf"),
    ]
    dura = soft(np.abs(brain) - 0.6 * pixel, edge) * rng.uniform(0.0, 0.8)
    return brain, [*layers, Layer(dura, "vessel")]


def _cortex(rng: np.random.Generator, brain: Field, pixel: float) -> list[Layer]:
    """Grey ribbon, white core and sulci that run inwards from the surface."""
    depth = -brain
    folds = smooth_noise(rng, brain.shape, int(rng.integers(15, 24)))
    reach = rng.uniform(0.24, 0.42)
    closeness = np.clip(1.0 - depth / reach, 0.0, 1.0)
    gap = rng.uniform(0.01, 0.03)
    grey = soft(brain + gap, 2 * pixel)
    ribbon = np.abs(folds) - 0.75 * closeness
    white = soft(-(depth - rng.uniform(0.06, 0.10)), 0.04) * soft(ribbon, 0.35) * rng.uniform(0.75, 1.0)
    sulci = soft(np.abs(folds) - rng.uniform(0.18, 0.40) * closeness, 0.16) * soft(brain, pixel)
    texture = 1.0 + 0.05 * smooth_noise(rng, brain.shape, 24)
    return [
        Layer(grey, "grey", texture),
        Layer(white, "white", texture),
        Layer(sulci * (closeness > 0) * rng.uniform(0.5, 1.0), "csf"),
    ]


def _vessels(rng: np.random.Generator, x: Field, y: Field, brain: Field, pixel: float) -> list[Layer]:
    """Bright dots and short strokes that any slice may show: brightness alone must not mean a lesion."""
    layers = []
    for _ in range(int(rng.integers(0, 4))):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7)
        start = (radius * np.cos(angle), radius * np.sin(angle) - 0.1)
        end = (start[0] + rng.normal(0, 0.07), start[1] + rng.normal(0, 0.07))
        alpha = soft(stroke(x, y, [start, end], rng.uniform(0.012, 0.03)), 1.5 * pixel) * soft(brain, pixel)
        layers.append(Layer(alpha * rng.uniform(0.3, 0.8), "vessel"))
    return layers


def _axial(rng: np.random.Generator, x: Field, y: Field, pixel: float, *, low: bool) -> Head:
    edge, side = 1.5 * pixel, np.abs(x)
    distance = ellipse(x, y, (0.0, 0.0), (rng.uniform(0.72, 0.84), 1.0))
    brain, layers = _cranium(rng, distance, x, pixel)
    layers += _cortex(rng, brain, pixel)
    inside = soft(brain, pixel)
    fissure = soft(side - rng.uniform(0.008, 0.018), edge) * inside * soft(-(np.abs(y) - rng.uniform(0.25, 0.4)), 0.05)
    layers += [Layer(fissure, "csf"), Layer(fissure * soft(side - 0.004, edge) * rng.uniform(0, 1), "vessel")]
    sella = (0.0, rng.uniform(-0.22, -0.10))
    layers += _skull_base(rng, x, y, pixel, inside, sella) if low else _axial_ventricles(rng, x, y, pixel)
    layers += _vessels(rng, x, y, brain, pixel)
    return Head("axial_low" if low else "axial", x, y, pixel, brain, sella, tuple(layers))


def _axial_ventricles(rng: np.random.Generator, x: Field, y: Field, pixel: float) -> list[Layer]:
    edge, wide, lean = 1.5 * pixel, rng.uniform(0.025, 0.065), rng.uniform(-0.06, 0.06)
    layers = []
    for sign in (-1.0, 1.0):
        pen = wide * rng.uniform(0.7, 1.3)
        nucleus = ellipse(x, y, (sign * 0.22, lean), (0.10, 0.22), -0.3 * sign)
        horn = [(sign * 0.15, lean - 0.34), (sign * 0.07, lean - 0.16), (sign * 0.08, lean + 0.08)]
        tail = [(sign * 0.08, lean + 0.08), (sign * 0.22, lean + 0.28), (sign * 0.24, lean + 0.42)]
        plexus = ellipse(x, y, (sign * 0.21, lean + 0.27), (0.03, 0.05))
        layers += [
            Layer(soft(nucleus, 0.05) * 0.7, "grey"),
            Layer(soft(stroke(x, y, horn, pen), edge), "csf"),
            Layer(soft(stroke(x, y, tail, 0.7 * pen), edge), "csf"),
            Layer(soft(plexus, edge) * rng.uniform(0.0, 0.9), "vessel"),
        ]
    return layers


def _skull_base(
    rng: np.random.Generator, x: Field, y: Field, pixel: float, inside: Field, sella: tuple[float, float]
) -> list[Layer]:
    """Orbits, petrous bone, brain stem, cerebellum and the sella of a low axial slice."""
    edge, side = 1.5 * pixel, np.abs(x)
    front = rng.uniform(-0.55, -0.42)
    orbit = ellipse(side, y, (0.34, front - 0.16), (0.20, 0.24), 0.3)
    globe = ellipse(side, y, (0.36, front - 0.26), (0.13, 0.13))
    sinus = ellipse(side, y, (0.08, front - 0.14), (0.09, 0.24))
    petrous = stroke(side, y, [(0.22, sella[1] + 0.12), (0.62, sella[1] + 0.30)], rng.uniform(0.03, 0.06))
    cerebellum = ellipse(x, y, (0.0, 0.52), (0.48, 0.32))
    striped = 1.0 + 0.15 * np.sin(rng.uniform(55, 80) * np.hypot(x, y - 0.2))
    stem = ellipse(x, y, (0.0, sella[1] + 0.36), (0.15, 0.14))
    layers = [Layer(soft(cerebellum, 0.04) * inside, "grey", striped), Layer(soft(stem - 0.03, edge), "csf")]
    layers += [Layer(soft(stem, edge), "white"), Layer(soft(petrous, edge), "bone")]
    layers += [Layer(soft(orbit, edge), "scalp"), Layer(soft(globe, edge), "csf"), Layer(soft(sinus, edge), "bone")]
    return layers + _gland(rng, x, y, pixel, sella)


def _gland(rng: np.random.Generator, x: Field, y: Field, pixel: float, sella: tuple[float, float]) -> list[Layer]:
    """Lay the normal pituitary in its bony seat, the carotids beside it: bright, small, in every class."""
    edge = 1.5 * pixel
    seat = ellipse(x, y, (sella[0], sella[1] + 0.02), (0.13, 0.07))
    normal = ellipse(x, y, sella, (rng.uniform(0.03, 0.06), rng.uniform(0.02, 0.04)))
    carotid = ellipse(np.abs(x - sella[0]), y, (0.10, sella[1]), (0.03, 0.03))
    layers = [Layer(soft(seat, edge), "bone"), Layer(soft(normal, edge), "vessel")]
    return [*layers, Layer(soft(carotid, edge) * rng.uniform(0.2, 1.0), "vessel")]


def _below(rng: np.random.Generator, x: Field, y: Field, outline: Field, pixel: float) -> list[Layer]:
    """Face and neck: muscle with fat streaks and dark air spaces."""
    body = soft(outline, 1.5 * pixel)
    streaks = smooth_noise(rng, x.shape, 26)
    fat = np.clip(1.3 - 4 * np.abs(smooth_noise(rng, x.shape, 13) + 0.3 * streaks), 0, 1) * rng.uniform(0.4, 0.9)
    air = np.clip(smooth_noise(rng, x.shape, 9) - 0.4 * np.abs(streaks) - 0.7, 0, 0.5) * 2
    skin = soft(np.abs(outline + 0.025) - 0.025, 1.5 * pixel)
    return [Layer(body, "muscle"), Layer(body * fat, "scalp"), Layer(body * air, "bone"), Layer(skin, "scalp")]


def _coronal(rng: np.random.Generator, x: Field, y: Field, pixel: float) -> Head:
    edge, side = 1.5 * pixel, np.abs(x)
    wide, base = rng.uniform(0.72, 0.82), rng.uniform(0.26, 0.34)
    neck = np.maximum(side - rng.uniform(0.48, 0.64) - 0.06 * np.sin(5 * y), 0.0 - y)
    layers = _below(rng, x, y, neck, pixel)
    distance = ellipse(x, y, (0.0, -0.16), (wide, rng.uniform(0.74, 0.84)))
    distance = np.maximum(distance, y - base - 0.16 - 0.14 * np.cos(np.clip((side - 0.42) * 5, -np.pi, np.pi)))
    brain, cranium = _cranium(rng, distance, x, pixel)
    layers += cranium + _cortex(rng, brain, pixel)
    inside, wider = soft(brain, pixel), rng.uniform(0.03, 0.07)
    falx = soft(side - 0.010, edge) * inside * soft(y + 0.38, 0.05)
    sylvian = stroke(side, y, [(0.75, 0.06), (0.48, 0.00), (0.40, -0.10)], rng.uniform(0.012, 0.03))
    layers += [Layer(falx, "csf"), Layer(soft(sylvian, edge) * inside, "csf")]
    layers += [Layer(soft(ellipse(side, y, (0.20, -0.02), (0.08, 0.12), 0.3), 0.05) * 0.7, "grey")]
    for sign in (-1.0, 1.0):
        horn = [(sign * 0.03, -0.20), (sign * 0.10, -0.25), (sign * 0.17, -0.23)]
        layers.append(Layer(soft(stroke(x, y, horn, wider * rng.uniform(0.6, 1.3)), edge), "csf"))
    layers.append(Layer(soft(stroke(x, y, [(0.0, -0.12), (0.0, 0.06)], rng.uniform(0.008, 0.02)), edge), "csf"))
    sella = (0.0, base - 0.03)
    layers += _gland(rng, x, y, pixel, sella) + _vessels(rng, x, y, brain, pixel)
    return Head("coronal", x, y, pixel, brain, sella, tuple(layers))


def _sagittal(rng: np.random.Generator, x: Field, y: Field, pixel: float) -> Head:
    edge = 1.5 * pixel
    midline = rng.random() < 0.65  # else a slice beside it: no corpus callosum, but an eye
    base = rng.uniform(0.20, 0.28)
    profile = -0.92 + 0.05 * np.sin(9 * y) + 0.25 * np.clip(y - 0.6, 0, 1)
    face = np.maximum.reduce([profile - x, x - 0.05, -y, y - 1.05])
    neck = np.maximum.reduce([-0.10 - x, x - 0.72 + 0.15 * y, -y])
    layers = _below(rng, x, y, np.minimum(face, neck), pixel)
    distance = ellipse(x, y, (0.0, -0.12), (1.0, rng.uniform(0.80, 0.90)))
    floor = base + 0.10 + 0.32 / (1 + np.exp(-14 * (x - 0.02)))
    brain, cranium = _cranium(rng, np.maximum(distance, y - floor), x, pixel)
    layers += cranium + _cortex(rng, brain, pixel)
    inside = soft(brain, pixel)
    striped = 1.0 + 0.22 * np.sin(rng.uniform(45, 70) * np.hypot(x - 0.30, y - 0.10))
    tent = soft(np.abs(ellipse(x, y, (0.45, 0.22), (0.34, 0.22))) - 0.012, edge)
    layers += [Layer(soft(ellipse(x, y, (0.45, 0.22), (0.33, 0.21)), edge) * inside, "grey", striped)]
    layers += [Layer(tent * inside, "csf")]
    sella = (-0.14, base + 0.02)
    if midline:
        arch = [(0.34 * np.cos(a), -0.10 + 0.24 * np.sin(a)) for a in np.linspace(-3.3, -0.1, 8)]
        under = [(0.25 * np.cos(a) - 0.02, -0.07 + 0.17 * np.sin(a)) for a in np.linspace(-2.9, -0.6, 6)]
        stem = [(0.10, 0.02), (0.13, 0.22), (0.20, 0.48), (0.26, 1.2)]
        layers += [Layer(soft(stroke(x, y, under, rng.uniform(0.02, 0.06)), edge), "csf")]
        layers += [Layer(soft(stroke(x, y, arch, rng.uniform(0.025, 0.045)), edge), "white", 1.08)]
        layers += [Layer(soft(stroke(x, y, stem, 0.11), edge), "csf")]
        layers += [Layer(soft(stroke(x, y, stem, 0.075), edge), "white")]
        layers += [Layer(soft(ellipse(x, y, (0.02, -0.02), (0.11, 0.08)), 0.03), "grey")]
        layers += _gland(rng, x, y, pixel, sella)
    else:
        horn = [(-0.25, -0.10), (0.05, -0.20), (0.30, -0.08), (0.10, 0.06)]
        layers += [Layer(soft(stroke(x, y, horn, rng.uniform(0.02, 0.05)), edge), "csf")]
        layers += [Layer(soft(ellipse(x, y, (-0.74, base + 0.16), (0.17, 0.14)), edge), "scalp")]
        layers += [Layer(soft(ellipse(x, y, (-0.80, base + 0.15), (0.11, 0.11)), edge), "csf")]
    layers += _vessels(rng, x, y, brain, pixel)
    return Head("sagittal", x, y, pixel, brain, sella, tuple(layers))
