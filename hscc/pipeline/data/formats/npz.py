"""NumPy files: arrays with one image per row, as MedMNIST's, or one image per file.

An archive (``.npz``) of a whole data set holds ``train_images`` and ``train_labels``, ``val_images`` and so on; the
words before ``_images`` are the official split. Row 12 of ``train_images`` is the image ``file.npz#train/12``. An
archive with ``images`` and ``labels`` alone has no official split: ``file.npz#12``. Any other file holds one image: the
only array of an ``.npz``, or an ``.npy``.
"""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hscc.errors import DataError
from hscc.pipeline.data.formats.base import Format, Image, UnreadableError, Values

_IMAGES, _LABELS = "images", "labels"
_DAMAGE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


class NumpyArrays(Format):
    """``.npz`` and ``.npy``; the array that was read last is kept, for its rows are read one after the other."""

    name = "NumPy (NPZ, NPY)"

    def __init__(self) -> None:
        self._kept: tuple[tuple[Path, float, str], Values] | None = None
        self._lock = threading.Lock()

    def takes(self, path: Path) -> bool:
        """Decide by the name."""
        return _file(path)[0].suffix in (".npz", ".npy")

    def images(self, root: Path, files: Sequence[str], volumes: bool) -> list[str]:
        """One image per row of arrays of images, else one per file."""
        found = []
        for file in files:
            splits = splits_of(root / file)
            found += [name for split in splits for name in names_of(file, split, self._rows(root / file, split))]
            found += [] if splits else [file]
        return found

    def read(self, path: Path) -> Image:
        """Read one row, or the only array."""
        return _as_image(self._values(path), str(path))

    def content(self, path: Path) -> tuple[int, str]:
        """Size and SHA-256 of the values, with their type and shape."""
        try:
            values = self._values(path)
        except UnreadableError:
            return super().content(_file(path)[0])
        digest = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
        return values.nbytes, digest.hexdigest()

    def _values(self, path: Path) -> Values:
        file, place = _file(path)
        if place is None:
            return self.array(file, None)
        split, _, row = place.rpartition("/")
        array = self.array(file, _images_of(split))
        if not row.isdigit() or int(row) >= len(array):
            raise UnreadableError(f"{path} names a row that {file} does not hold; run `hscc validate` again.")
        return np.asarray(array[int(row)])

    def _rows(self, file: Path, split: str) -> int:
        return len(self.array(file, _images_of(split)))

    def array(self, file: Path, name: str | None) -> Values:
        """Read an array of a file, the only one without a name; the last one is kept."""
        key = (file, file.stat().st_mtime, name or "")
        with self._lock:
            if self._kept is None or self._kept[0] != key:
                self._kept = None  # before the next one is read: either may be large
                self._kept = (key, _load(file, name, file))
            return self._kept[1]


def is_numpy(content: bytes) -> bool:
    """Whether bytes begin as an ``.npy`` or a zip archive (``.npz``) does."""
    return content.startswith((b"\x93NUMPY", b"PK\x03\x04"))


def decode_numpy(content: bytes, name: str) -> Image:
    """Decode the bytes of a file that holds one image.

    Raises
    ------
    UnreadableError
        If it holds none, or several.
    """
    return _as_image(_load(io.BytesIO(content), None, name), name)


def splits_of(file: Path) -> list[str]:
    """Words before ``_images`` of an archive's arrays, "" for ``images``; none where a file is one image."""
    if file.suffix != ".npz":
        return []
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile:
        return []  # read as an image, it is reported as damaged
    return sorted(name.removesuffix(_IMAGES).removesuffix("_") for name in names if name.endswith(_IMAGES))


def names_of(file: str, split: str, rows: int) -> list[str]:
    """Paths of the images of one array."""
    start = f"{file}#{split}/" if split else f"{file}#"
    return [f"{start}{row}" for row in range(rows)]


def labels_of(file: Path, split: str, classes: Sequence[str]) -> list[str]:
    """Class of each row of an array of images.

    Labels are names of classes, or numbers counted from 0 in the order of `classes`; a number beyond them stays one.

    Raises
    ------
    DataError
        If the archive has no labels for the images, or another number of them.
    """
    images, name = _images_of(split), f"{split}_{_LABELS}" if split else _LABELS
    try:
        labels = _load(file, name, file)
    except UnreadableError as error:
        raise DataError(f"{file} has {images} but no {name}; add an array with the class of each row.") from error
    rows = len(ARRAYS.array(file, images))
    if labels.size != rows:
        raise DataError(f"{file} has {labels.size} {name} for {rows} {images}; give one class per row.")
    known = dict(enumerate(classes))
    if labels.dtype.kind in "US":
        return [str(label) for label in labels.astype(str).reshape(-1)]
    return [known.get(label, str(label)) for label in labels.reshape(-1).tolist()]


def _images_of(split: str) -> str:
    return f"{split}_{_IMAGES}" if split else _IMAGES


def _file(path: Path) -> tuple[Path, str | None]:
    """File and place of an image."""
    file, found, place = str(path).rpartition("#")
    return (Path(file), place) if found and file.endswith(".npz") else (path, None)


def _as_image(values: Values, path: str) -> Image:
    if values.ndim > 3:
        values = values.squeeze()
    if values.ndim not in (2, 3) or values.dtype.kind not in "uif":
        raise UnreadableError(
            f"{path} is an array of shape {values.shape} and type {values.dtype}; write numbers of shape (rows, "
            "columns), (rows, columns, 3) or (slices, rows, columns)."
        )
    return Image(values, values.dtype.name)


def _load(source: Path | io.BytesIO, name: str | None, file: object) -> Values:
    try:
        loaded = np.load(source, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return np.asarray(loaded)
        with loaded:
            if name is None and len(loaded.files) != 1:
                raise UnreadableError(
                    f"{file} holds the arrays {', '.join(loaded.files)}; leave one, or call them train_images, "
                    "train_labels and so on."
                )
            return np.asarray(loaded[name or loaded.files[0]])
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise UnreadableError(f"{file} cannot be read as NumPy arrays ({error}); write it again.") from error


ARRAYS = NumpyArrays()
