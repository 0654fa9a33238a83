"""One phantom slice: the layers of a head painted in an MRI weighting, then scanned and encoded."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from hscc.pipeline.data.phantom.anatomy import VIEWS, draw_head
from hscc.pipeline.data.phantom.geometry import Field, Layer, smooth_noise
from hscc.pipeline.data.phantom.lesions import LESIONS, benign

COMMENT = b"HSCC phantom: drawn by a program, no patient"
QUALITY = 88

# Brightness of a tissue by weighting: T1 with contrast agent, T2, FLAIR.
_CONTRASTS: tuple[dict[str, float], ...] = (
    {"scalp": 0.66, "bone": 0.06, "muscle": 0.30, "csf": 0.12, "grey": 0.31, "white": 0.43, "vessel": 0.72,
     "oedema": 0.22, "tumour": 0.80, "necrosis": 0.14},
    {"scalp": 0.50, "bone": 0.05, "muscle": 0.22, "csf": 0.85, "grey": 0.50, "white": 0.34, "vessel": 0.10,
     "oedema": 0.72, "tumour": 0.62, "necrosis": 0.88},
    {"scalp": 0.52, "bone": 0.06, "muscle": 0.28, "csf": 0.08, "grey": 0.44, "white": 0.34, "vessel": 0.60,
     "oedema": 0.62, "tumour": 0.80, "necrosis": 0.18},
)  # fmt: skip
_WEIGHTINGS = (0.84, 0.05, 0.11)
_SELLAR_VIEWS = VIEWS[1:]  # a slice above the sella cannot show a pituitary tumour


def draw_slice(label: str, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Draw one slice of a class as a grey image, uint8, shape (H, W).

    `rng` decides everything random: anatomy, pose, contrast, lesion, noise, size; sides vary by about 15 % around
    `size` pixels.
    """
    views = _SELLAR_VIEWS if label == "pituitary_tumor" else VIEWS
    sides = np.rint(size * rng.uniform(0.92, 1.08) * np.array((1.0, rng.uniform(0.88, 1.06)))).astype(int)
    shape = (int(sides[0]), int(sides[1]))
    head = draw_head(rng, str(rng.choice(views)), shape)
    findings = benign(rng, head) + LESIONS[label](rng, head)
    image = _paint(rng, (*head.layers, *findings), shape)
    return _scan(rng, image)


def _paint(rng: np.random.Generator, layers: tuple[Layer, ...], shape: tuple[int, int]) -> Field:
    contrast = dict(_CONTRASTS[int(rng.choice(len(_CONTRASTS), p=_WEIGHTINGS))])
    for tissue in contrast:
        contrast[tissue] *= rng.uniform(0.85, 1.15)
    image = np.full(shape, rng.uniform(0.0, 0.04))
    for alpha, tissue, texture in layers:
        image += alpha * (contrast[tissue] * texture - image)
    return image


def _scan(rng: np.random.Generator, image: Field) -> NDArray[np.uint8]:
    """Add what scanner and export add: blur, coil shading, Rician noise, window, black borders."""
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.8))
    image = image * np.exp(rng.uniform(0.05, 0.22) * smooth_noise(rng, (image.shape[0], image.shape[1]), 2))
    noise = rng.uniform(0.006, 0.030) * rng.standard_normal((2, *image.shape))
    image = np.hypot(image + noise[0], noise[1])
    image = np.clip(image * rng.uniform(0.75, 1.35), 0.0, 1.0) ** rng.uniform(0.85, 1.2)
    grey = np.rint(255 * image).astype(np.uint8)
    if rng.random() < 0.35:
        top, bottom, left, right = rng.integers(0, max(2, image.shape[0] // 10), 4)
        grey = np.pad(grey, ((top, bottom), (left, right)))
    return grey


def encode(image: NDArray[np.uint8], quality: int = QUALITY) -> bytes:
    """Encode a grey image, uint8 (H, W), as a JPEG like those of the data set: three equal channels, with `COMMENT`."""
    buffer = io.BytesIO()
    Image.fromarray(image).convert("RGB").save(buffer, "JPEG", quality=quality, comment=COMMENT)
    return buffer.getvalue()
