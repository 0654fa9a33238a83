"""Sections about training: the dense baseline, and the distillation that every compressed network gets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hscc.params.section import Count, Fraction, Protocol, Section, Seed, known


class TrainParams(Section):
    """The dense baseline's training."""

    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)] = ("grouped",)
    backbone: str = "alexnet"
    weights: Literal["none", "imagenet"] = "none"
    epochs: Count = 30
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 4e-4
    warm_up: Fraction = 0.15
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    patience: Count = 12
    precision: Literal["bf16", "fp32"] = "bf16"
    seed: Seed = 0

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, name: str) -> str:
        from hscc.models.backbones import BACKBONES

        return known(name, BACKBONES, "backbone")


class FinetuneParams(Section):
    """Distillation from the baseline, the same for every method."""

    epochs: Annotated[int, Field(ge=0)] = 3
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    temperature: Annotated[float, Field(gt=0)] = 2.0
    precision: Literal["bf16", "fp32"] = "bf16"
