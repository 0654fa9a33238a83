"""Sections about compression: calibration, the sweep, its clock, and int8 twins."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from hscc.errors import ParamsError
from hscc.params.section import Count, Section, Seed, known
from hscc.params.training import FinetuneParams


class CalibrateParams(Section):
    """Second moments of activations and output sensitivities."""

    images: Count = 768
    cells: Annotated[int, Field(ge=1, le=16)] = 4
    batch_size: Count = 32
    seed: Seed = 0


class CompressParams(Section):
    """The sweep: every method at every budget and the timed cells with every seed, the controls with the first."""

    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    budgets: Annotated[tuple[Annotated[float, Field(gt=1)], ...], Field(min_length=1)]
    controls: tuple[str, ...] = ()
    timed: tuple[str, ...] = ()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    finetune: FinetuneParams = FinetuneParams()

    @field_validator("methods", "controls")
    @classmethod
    def _known_methods(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from hscc.compression.methods import METHODS

        return tuple(known(name, METHODS, "method") for name in names)

    @field_validator("timed")
    @classmethod
    def _known_cells(cls, cells: tuple[str, ...]) -> tuple[str, ...]:
        from hscc.compression.goals import goal_of, parse_cell

        for cell in cells:
            try:
                timed = goal_of(*parse_cell(cell)).timed
            except ParamsError as error:
                raise ValueError(str(error).rstrip(".")) from error
            if not timed:
                raise ValueError(f"cell {cell!r} has no clock in it; put _timed or _fast behind the method")
        return cells

    @property
    def timed_cells(self) -> list[tuple[str, float]]:
        """Method and ratio of each cell in which the clock has a say."""
        from hscc.compression.goals import parse_cell

        return [parse_cell(cell) for cell in self.timed]

    @property
    def cells(self) -> list[tuple[str, float, int]]:
        """Method, ratio and seed of every cell."""
        compared = [(method, budget) for budget in self.budgets for method in self.methods] + self.timed_cells
        controls = [(method, budget, self.seeds[0]) for budget in self.budgets for method in self.controls]
        return [(*cell, seed) for cell in compared for seed in self.seeds] + controls

    @model_validator(mode="after")
    def _names_each_method_once(self) -> CompressParams:
        twice = sorted(set(self.methods) & set(self.controls))
        if twice:
            raise ValueError(f"{twice[0]} is both in methods and in controls; name it in one of them")
        return self


class LatencyParams(Section):
    """What the timed cells' milliseconds are measured with."""

    batches: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 16)
    threads: Count = 2


class QuantiseParams(Section):
    """Int8 twins of the networks, and the images that they are calibrated with."""

    enabled: bool = True
    images: Count = 256
    seed: Seed = 0
