"""The four classes of the data set, in the order of a network's outputs."""

from __future__ import annotations

CLASSES: tuple[str, ...] = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
OFFICIAL_SPLITS: tuple[str, ...] = ("Training", "Testing")
SPLITS: tuple[str, ...] = ("train", "val", "test", "excluded")
PROTOCOLS: tuple[str, ...] = ("grouped", "pooled", "official")
