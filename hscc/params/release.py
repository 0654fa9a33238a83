"""Sections about the registry: what a cell must reach to be in it, and to be its champion."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hscc.params.section import Protocol, Section


class RegisterParams(Section):
    """What a cell must reach to be registered."""

    name: Annotated[str, Field(min_length=1)] = "hscc-brain-mri"
    max_accuracy_drop: Annotated[float, Field(ge=0, le=1)] = 0.01
    min_macs_ratio: Annotated[float, Field(ge=1)] = 2.0
    min_speedup: Annotated[float, Field(ge=0)] = 1.0


class PromoteParams(Section):
    """What the champion of the registry must be."""

    margin: Annotated[float, Field(ge=0, lt=1)] = 0.02
    min_images: Annotated[int, Field(ge=2)] = 100
    min_recall: Annotated[float, Field(ge=0, le=1)] = 0.7
    min_macs_ratio: Annotated[float, Field(ge=1)] = 2.0
    min_speedup: Annotated[float, Field(ge=0)] = 1.0
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    protocol: Protocol = "grouped"
    approval: bool = False
