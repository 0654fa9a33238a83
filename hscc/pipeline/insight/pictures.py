"""Small pictures of images with cells or heat drawn over them, in colours that are safe for the colour-blind.

Pictures have a black background, so they look the same on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

SIDE = 224  # pixels
# Orange to yellow stays apart from grey for every common kind of colour blindness, and so does viridis.
_WARM, _HOT = np.array([235.0, 95.0, 0.0]), np.array([255.0, 225.0, 90.0])
_COLOURS = mpl.colormaps["viridis"]
_SHADOW = 0.4  # how bright a cell's colour stays where the image is black
_GLOW = 0.85  # opacity at the highest heat
_DIM = 0.8  # brightness of the image under the heat
_SHADES = 96  # colours of a file; more make no visible difference here
_GAP = 4
_FONT = Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf"

Levels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Pictures = dict[str, Image.Image]  # by file name


def mean_image(images: Levels, rows: Ids) -> Levels:
    """Average some of the images.

    Parameters
    ----------
    images : ndarray of uint8, shape (M, H, W), (M, H, W, 3) or (M, D, H, W)
        May be a memory map.
    rows : ndarray of int64, shape (N,)
        Which of them.

    Returns
    -------
    ndarray of uint8, shape of an image
        Stretched from black to white, so that what images have in common shows.
    """
    total = np.zeros(images.shape[1:], dtype=np.float64)
    for row in rows:
        total += images[row]
    total -= total.min()
    return np.asarray(255 * total / max(float(total.max()), 1e-12)).round().astype(np.uint8)


def as_picture(image: Levels) -> Levels:
    """Return a picture as it is, of a volume, (D, H, W), the middle slice."""
    return image[len(image) // 2] if image.ndim == 3 and image.shape[2] != 3 else image


def plain(image: Levels, side: int = SIDE) -> Image.Image:
    """Make a picture of an image as it is, of a volume by its middle slice."""
    return Image.fromarray(as_picture(image)).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


def cells_over(image: Levels, values: Floats, region: Ids, texts: Sequence[str], most: float) -> Image.Image:
    """Draw coloured cells over an image; they are dark where the image is.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W), (H, W, 3) or (D, H, W)
        The image; a volume is drawn by its middle slice.
    values : ndarray of float64, shape (cells, cells)
        0 is dark, `most` is bright.
    region : ndarray of int64, shape (cells, cells)
        Cells of one region are drawn without a border between them, and with one text.
    texts : sequence of str
        One per region; of those without a cell it is not drawn.
    most : float
        Value of the brightest colour.
    """
    cells = len(values)
    colours = _COLOURS(np.clip(values / max(most, 1e-12), 0, 1), bytes=True)[..., :3]
    stain = np.asarray(Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.NEAREST), dtype=np.float64)
    light = _SHADOW + (1 - _SHADOW) * np.asarray(plain(image), dtype=np.float64) / 255
    picture = Image.fromarray((stain * light).round().astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    edges = [round(edge * SIDE / cells) for edge in range(cells + 1)]
    for row, column in np.ndindex(region.shape):
        if column and region[row, column] != region[row, column - 1]:
            draw.line([edges[column], edges[row], edges[column], edges[row + 1]], fill="white")
        if row and region[row, column] != region[row - 1, column]:
            draw.line([edges[column], edges[row], edges[column + 1], edges[row]], fill="white")
    for index in np.unique(region):
        text = texts[index]
        _write(draw, _middle(region == index, edges), text, 13, "mm")
    return picture


def glow_over(image: Levels, heat: Floats) -> Image.Image:
    """Draw heat over an image, where it is positive.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W), (H, W, 3) or (D, H, W)
        The image; the picture has the size of it or, of a volume, of its middle slice.
    heat : ndarray of float64, shape (h, w)
        Coarse or fine, over the whole image; scaled to its maximum.
    """
    image = as_picture(image)
    height, width = image.shape[:2]
    levels = image if image.ndim == 3 else image[..., None]
    positive = np.clip(heat, 0.0, None)
    strength = Image.fromarray((positive / max(float(positive.max()), 1e-12)).astype(np.float32))
    fine = np.clip(np.asarray(strength.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)[..., None]
    glow = _WARM + fine**2 * (_HOT - _WARM)
    opacity = _GLOW * fine**1.5  # faint noise stays faint
    return Image.fromarray((opacity * glow + (1 - opacity) * _DIM * levels).round().astype(np.uint8))


def side_by_side(pictures: Iterable[Image.Image], captions: Sequence[str], side: int) -> Image.Image:
    """Join pictures from left to right, each `side` pixels a side with a caption in its lower left corner."""
    panels = [picture.resize((side, side), Image.Resampling.BICUBIC) for picture in pictures]
    joined = Image.new("RGB", (len(panels) * side + (len(panels) - 1) * _GAP, side))
    draw = ImageDraw.Draw(joined)
    for index, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        left = index * (side + _GAP)
        joined.paste(panel, (left, 0))
        _write(draw, (left + 5, side - 5), caption, 11, "ls")
    return joined


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a picture as a small PNG with a palette."""
    picture.quantize(_SHADES, kmeans=2, dither=Image.Dither.NONE).save(path, format="PNG", optimize=True)


def _write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, anchor: str) -> None:
    font = ImageFont.truetype(_FONT, size)
    draw.text(place, text, fill="white", font=font, anchor=anchor, stroke_width=1, stroke_fill="black")


def _middle(mask: npt.NDArray[np.bool_], edges: Sequence[int]) -> tuple[float, float]:
    """Middle of the cell of a region that is nearest to the region's own."""
    found = np.argwhere(mask)
    centre = found.mean(0)
    # A region need not hold its centre; where it does, even between cells, the text goes there.
    near = found[np.abs(found - centre).sum(1).argmin()]
    row, column = centre if np.abs(near - centre).max() < 1 else near
    step = edges[-1] / (len(edges) - 1)
    return (column + 0.5) * step, (row + 0.5) * step
