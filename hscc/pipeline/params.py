"""What the sections of ``params.yaml`` share: unknown keys are errors, values have bounds and never change."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hscc.errors import ParamsError

Protocol = Literal["grouped", "pooled", "official"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def known(name: str, registry: Collection[str], kind: str) -> str:
    """The name itself, if a registry has it.

    Parameters
    ----------
    name : str
        As written in ``params.yaml``.
    registry : collection of str
        Names to choose from.
    kind : str
        What is chosen, for the message.

    Returns
    -------
    str
        `name`.

    Raises
    ------
    ValueError
        If the registry lacks it. The message lists the names and the nearest of them.
    """
    if name in registry:
        return name
    close = difflib.get_close_matches(name, registry, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ValueError(f"{kind} {name!r} is unknown, choose one of {', '.join(sorted(registry))}{hint}")


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
        from hscc.networks.backbones import BACKBONES

        return known(name, BACKBONES, "backbone")


class FinetuneParams(Section):
    """Distillation from the baseline, the same for every method."""

    epochs: Annotated[int, Field(ge=0)] = 3
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    temperature: Annotated[float, Field(gt=0)] = 2.0
    precision: Literal["bf16", "fp32"] = "bf16"


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
        from hscc.methods import METHODS

        return tuple(known(name, METHODS, "method") for name in names)

    @field_validator("timed")
    @classmethod
    def _known_cells(cls, cells: tuple[str, ...]) -> tuple[str, ...]:
        from hscc.pipeline.cells import goal_of, parse_cell

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
        from hscc.pipeline.cells import parse_cell

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
        from hscc.methods import METHODS

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


class Params(Section):
    """All of ``params.yaml``."""

    data: DataParams
    validate_: Annotated[ValidateParams, Field(alias="validate")]
    train: TrainParams
    calibrate: CalibrateParams
    compress: CompressParams
    latency: LatencyParams = LatencyParams()
    quantise: QuantiseParams = QuantiseParams()
    bench: BenchParams = BenchParams()
    tradeoff: TradeoffParams = TradeoffParams()
    evaluate: EvaluateParams
    insight: InsightParams = InsightParams()
    register_: Annotated[RegisterParams, Field(alias="register")]
    promote: PromoteParams = PromoteParams()

    @model_validator(mode="after")
    def _trains_what_it_compresses(self) -> Params:
        if self.data.protocol not in self.train.protocols:
            raise ValueError(
                f"train.protocols {list(self.train.protocols)} lacks data.protocol {self.data.protocol!r}; add it"
            )
        return self

    @model_validator(mode="after")
    def _calibrates_on_fewer(self) -> Params:
        beyond = [images for images in self.tradeoff.calibrations if images >= self.calibrate.images]
        if self.tradeoff.enabled and beyond:
            raise ValueError(
                f"tradeoff.calibrations has {beyond[0]}, not fewer than calibrate.images {self.calibrate.images}; "
                "that many is the calibration itself, remove it"
            )
        return self


def read_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check ``params.yaml``.

    Parameters
    ----------
    path : Path
        The YAML file.

    Returns
    -------
    Params
        Frozen, fully checked parameters.

    Raises
    ------
    ParamsError
        If the file is missing, is not YAML, or any key is unknown, absent or out of range. The
        message names the file and the first such key.
    """
    if not path.is_file():
        raise ParamsError(f"{path} does not exist; run from the folder that holds it, or pass its path.")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not UTF-8 text"
        raise ParamsError(f"{path} is not valid YAML{where} ({problem}); mend that line.") from error
    if not isinstance(loaded, dict):
        raise ParamsError(f"{path} must be a mapping of sections (data, train, ...); it holds {type(loaded).__name__}.")
    try:
        return Params.model_validate(loaded)
    except ValidationError as error:
        raise ParamsError(_first_problem(path, error)) from error


def _first_problem(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    reason = first["msg"].removeprefix("Value error, ")
    got = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
    if first["type"] == "extra_forbidden":
        return f"{path}: {key} is not a parameter; remove it or mend its spelling."
    if first["type"] == "missing":
        return f"{path}: {key} is missing; add it."
    return f"{path}: {key}{got}: {reason[0].lower()}{reason[1:]}."
