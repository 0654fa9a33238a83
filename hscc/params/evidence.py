"""Sections about evidence: the clock, the trade-off, the scores, and the look inside."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hscc.params.section import Count, Section, Seed, known


class BenchParams(Section):
    """How the clock is read."""

    runtimes: Annotated[tuple[Literal["onnxruntime", "torch"], ...], Field(min_length=1)] = ("onnxruntime", "torch")
    batches: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 16, 64)
    threads: Count = 2
    repeats: Annotated[int, Field(ge=3)] = 30
    seconds: Annotated[float, Field(gt=0)] = 5.0

    @field_validator("runtimes")
    @classmethod
    def _deploys(cls, runtimes: tuple[str, ...]) -> tuple[str, ...]:
        if "onnxruntime" not in runtimes:
            raise ValueError("onnxruntime is what is deployed; add it")
        return runtimes


class TradeoffParams(Section):
    """Grid of structures that is tried without fine-tuning, and how its clock is read."""

    enabled: bool = True
    regions: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 4)
    clusters: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 4, 8)
    searched: tuple[str, ...] = ("hscc_direct", "hscc")
    budgets: Annotated[tuple[Annotated[float, Field(gt=1)], ...], Field(min_length=1)] = (3, 6, 12)
    calibrations: tuple[Count, ...] = (96, 384)
    batches: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 16)
    threads: Count = 2
    seconds: Annotated[float, Field(gt=0)] = 0.3
    resamples: Annotated[int, Field(ge=100)] = 2000
    seed: Seed = 0

    @field_validator("searched")
    @classmethod
    def _known_methods(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from hscc.compression.methods import METHODS

        return tuple(known(name, METHODS, "method") for name in names)


class EvaluateParams(Section):
    """Scores and their standard errors."""

    resamples: Annotated[int, Field(ge=100)] = 2000
    seed: Seed = 0


class InsightParams(Section):
    """What is shown of the inside of compressed networks."""

    cells: tuple[str, ...] = ()
    images: Count = 128
    gallery: Annotated[int, Field(ge=0)] = 24

    @field_validator("cells")
    @classmethod
    def _names_cells(cls, cells: tuple[str, ...]) -> tuple[str, ...]:
        for cell in cells:
            if not re.fullmatch(r"\w+-[\d.]+-\d+", cell):
                raise ValueError(f"{cell!r} is no cell; write method, ratio and seed, such as hscc-6-0")
        return cells
