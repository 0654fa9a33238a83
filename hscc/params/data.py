"""Sections about the images: their splits, and what an acceptable data set looks like."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from hscc.params.section import Count, Fraction, Protocol, Section, Seed


class DataParams(Section):
    """Data set, splits and decoding."""

    protocol: Protocol = "grouped"
    train_fraction: Fraction = 0.70
    val_fraction: Fraction = 0.15
    seed: Seed = 0
    image_size: Annotated[int, Field(ge=16, le=1024)] = 224
    near_duplicate: Fraction = 0.99

    @model_validator(mode="after")
    def _leaves_a_test_split(self) -> DataParams:
        if self.train_fraction + self.val_fraction >= 1:
            raise ValueError("train_fraction + val_fraction must be below 1 so that a test split remains")
        return self


class ValidateParams(Section):
    """What an acceptable data set looks like."""

    min_side: Count = 64
    max_side: Count = 4096
    modes: tuple[str, ...] = ("L", "RGB")
    min_per_class: Count = 20
    max_imbalance: Annotated[float, Field(ge=1)] = 3.0
