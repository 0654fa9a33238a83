"""Sides of an image; imports nothing, for ``params.yaml`` is read without torch."""

from __future__ import annotations

from collections.abc import Sequence


def sides_of(image_size: int | Sequence[int]) -> tuple[int, ...]:
    """Sides of an image whose size is one number for a square, or all of its sides."""
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
