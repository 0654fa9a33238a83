"""What a file format has to say: which files are of it, which images they hold, and how one is read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from hscc.errors import DataError

Values = npt.NDArray[Any]
Fault = Literal["damaged", "incomplete"]


class UnreadableError(DataError):
    """An image cannot be read.

    Attributes
    ----------
    fault : {"damaged", "incomplete"}
        Incomplete is a series of slices that lacks one, or whose slices do not belong together.
    """

    def __init__(self, message: str, fault: Fault = "damaged") -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True)
class Image:
    """One image as its file holds it.

    Attributes
    ----------
    values : ndarray, shape (H, W), (H, W, 3) or (D, H, W)
        Grey; red, green and blue; or a grey volume. uint8 are levels, black 0; other types need a window.
    mode : str
        Pillow's pixel mode of a picture, such as L or RGB; of others the data type as stored, such as int16.
    shown : ndarray or None
        `values` after the file's own window, if it has one.
    inverted : bool
        Whether the lowest value is white.
    modality, body_part : str
        As a DICOM file names them; "" where it does not, and for other files.
    """

    values: Values
    mode: str
    shown: Values | None = None
    inverted: bool = False
    modality: str = ""
    body_part: str = ""

    @property
    def dimensions(self) -> int:
        """Two for a picture, three for a volume."""
        return 2 if self.values.ndim == 2 or self._in_colour else self.values.ndim

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width, or depth, height and width."""
        return self.values.shape[: self.dimensions]

    @property
    def finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        return not np.issubdtype(self.values.dtype, np.floating) or bool(np.isfinite(self.values).all())

    @property
    def _in_colour(self) -> bool:
        return self.values.ndim == 3 and self.values.shape[2] == 3 and self.values.dtype == np.uint8


class Format(ABC):
    """A file format.

    Attributes
    ----------
    name : str
        As messages and documents call it.
    """

    name: ClassVar[str]

    @abstractmethod
    def takes(self, path: Path) -> bool:
        """Whether a file (or folder) is of this format, by its name or its first bytes."""

    def images(self, root: Path, files: Sequence[str], volumes: bool) -> list[str]:
        """Name the images that some files hold.

        Parameters
        ----------
        root : Path
            The data folder.
        files : sequence of str
            Files of this format, as posix paths relative to the root.
        volumes : bool
            Whether the data set is one of volumes.

        Returns
        -------
        list of str
            A path per image, relative to the root; where a file holds several, ``file#place``. By default every file
            is one image.
        """
        return list(files)

    @abstractmethod
    def read(self, path: Path) -> Image:
        """Read one image by its path, which may end in ``#place``.

        Raises
        ------
        UnreadableError
            If it is damaged or incomplete; FileNotFoundError if it is missing.
        """

    def content(self, path: Path) -> tuple[int, str]:
        """Size in bytes and SHA-256 of what an image is read from; by default of its file."""
        content = path.read_bytes()
        return len(content), hashlib.sha256(content).hexdigest()
