"""Pictures inside the page: small, and nothing but what a named folder holds."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from hscc.errors import ArtifactError

LONGEST_SIDE = 640  # pixels: twice what a phone or a column of the page shows
_QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """A picture to put into the page: its address and its size in pixels."""

    address: str
    width: int
    height: int


def embed(folder: Path, name: str) -> Picture:
    """Turn a picture into an address that holds its content.

    Parameters
    ----------
    folder : Path
        Where the pictures are.
    name : str
        File name in it.

    Returns
    -------
    Picture
        WebP of at most `LONGEST_SIDE` pixels a side, as a ``data:`` address.

    Raises
    ------
    ArtifactError
        If the name leads out of the folder, or there is no such picture.
    """
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise ArtifactError(f"{folder} holds no picture {name}; run `hscc insight` again.")
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=6)
            width, height = image.size
    except (UnidentifiedImageError, OSError) as error:
        raise ArtifactError(f"{path} is no picture; run `hscc insight` again.") from error
    return Picture(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", width, height)
