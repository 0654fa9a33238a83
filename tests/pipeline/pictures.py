"""Pictures as the files that people bring."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """Write a picture as a file of that kind."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def dicom(pixels: np.ndarray[Any, Any], **elements: Any) -> bytes:
    """Write grey levels as an MR slice; keyword arguments replace data elements."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found = FileDataset("slice.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID, found.Modality = MRImageStorage, meta.MediaStorageSOPInstanceUID, "MR"
    found.Rows, found.Columns = pixels.shape
    found.SamplesPerPixel, found.PhotometricInterpretation, found.PixelRepresentation = 1, "MONOCHROME2", 0
    found.BitsAllocated, found.BitsStored, found.HighBit = 16, 12, 11
    found.PixelData = pixels.astype(np.uint16).tobytes()
    for name, value in elements.items():
        setattr(found, name, value)
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def uniform() -> bytes:
    """Write a PNG file of one grey level, which shows nothing."""
    return encoded(Image.new("L", (100, 100), 90))
