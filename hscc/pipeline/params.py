"""The schema of ``params.yaml``: unknown and missing keys are errors, values have bounds and never change.

No key has a default here: what holds is what the file states. A key that means something for one kind of data or task
alone, such as `data.masks`, may be left out elsewhere.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from hscc.errors import ParamsError
from hscc.pipeline.cell_spec import CellSpec, parse_cell
from hscc.pipeline.data_spec import DataSpec, Protocol, Unlabelled
from hscc.pipeline.known_names import TASK_SCORES, Kind, known_names
from hscc.pipeline.section import Count, Fraction, Section, Seed
from hscc.plugins import import_from, load_plugins

WEIGHT_FILES = (".safetensors", ".pt", ".pth")  # as hscc.networks.weights reads them


def known(name: str, kind: Kind) -> str:
    """The name itself, if the registry of its kind has it.

    Parameters
    ----------
    name : str
        As written in ``params.yaml``.
    kind : str
        What is chosen: ``method``, ``backbone`` or ``metric``.

    Returns
    -------
    str
        `name`.

    Raises
    ------
    ValueError
        If the registry lacks it. The message lists the names and the nearest of them.
    """
    names = known_names(kind)
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ValueError(f"{kind} {name!r} is unknown, choose one of {', '.join(sorted(names))}{hint}")


def _known_method(name: str) -> str:
    return known(name, "method")


def _known_backbone(name: str) -> str:
    if ":" not in name:
        return known(name, "backbone")
    module, _, function = name.partition(":")
    if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError("write a network of your own as package.module:function")
    return name


def in_mlflow(weights: str) -> bool:
    """Whether ``train.weights`` is an address in MLflow."""
    return weights.startswith(("models:/", "runs:/"))


def _weights(name: str) -> str:
    if name not in ("none", "imagenet") and PurePath(name).suffix not in WEIGHT_FILES and not in_mlflow(name):
        raise ValueError(
            f"write none, imagenet, a file that ends in {', '.join(WEIGHT_FILES)}, or an address in MLflow that "
            "begins with models:/ or runs:/"
        )
    return name


def _cell(value: object) -> CellSpec:
    if isinstance(value, CellSpec):
        return value
    try:
        cell = parse_cell(str(value))
    except ParamsError as error:
        raise ValueError(str(error).rstrip(".")) from error
    _known_method(cell.method)
    if cell.name != value:  # the name in the file is also the folder's
        raise ValueError(f"cell {value!r} is written {cell.name}")
    if cell.precision != "fp32":
        raise ValueError(
            f"the int8 variant of a cell is made by the stage quantise; write {cell.name.removesuffix('-int8')}"
        )
    return cell


def named_cell(name: str) -> CellSpec:
    """Read the name of a cell of floating point.

    Raises
    ------
    ParamsError
        If it cannot be read or its method is unknown.
    """
    try:
        return _cell(name)
    except ValueError as error:
        raise ParamsError(f"{error}.") from error


Cell = Annotated[CellSpec, PlainValidator(_cell), PlainSerializer(lambda cell: cell.name)]
Method = Annotated[str, AfterValidator(_known_method)]


class ValidateParams(Section):
    """What an acceptable data set looks like."""

    min_side: Count
    max_side: Count
    modes: tuple[str, ...]
    min_per_class: Count
    max_imbalance: Annotated[float, Field(ge=1)]


class TrainParams(Section):
    """The dense baseline's training."""

    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)]
    backbone: Annotated[str, AfterValidator(_known_backbone)]
    weights: Annotated[str, AfterValidator(_weights)]
    epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    warm_up: Fraction
    weight_decay: Annotated[float, Field(ge=0)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["equal", "balanced"] = "equal"
    patience: Count
    sizes: tuple[Annotated[int, Field(ge=16)], ...]
    patch: Annotated[int, Field(ge=16)] | None = None
    precision: Literal["auto", "bf16", "fp32"]
    seed: Seed

    @property
    def given_weights(self) -> str | None:
        """Weights that were trained elsewhere, see `hscc.pipeline.tracking.weights`; None without any."""
        return None if self.weights in ("none", "imagenet") else self.weights

    @model_validator(mode="after")
    def _trains_or_takes(self) -> TrainParams:
        if self.epochs == 0 and self.given_weights is None:
            raise ValueError("epochs 0 takes a network as it is, which needs its file in weights; name it, or train")
        return self


class FinetuneParams(Section):
    """Distillation from the baseline, the same for every method."""

    epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    learning_rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    trial_steps: Count
    patience: Count
    mixup: Annotated[float, Field(ge=0)]
    temperature: Annotated[float, Field(gt=0)]
    precision: Literal["auto", "bf16", "fp32"]
    unlabelled: Unlabelled | None = None


class CalibrateParams(Section):
    """Second moments of activations and output sensitivities."""

    images: Count
    cells: Annotated[int, Field(ge=1, le=16)]
    batch_size: Count
    seed: Seed


class RefitParams(Section):
    """Refit of the factors to the baseline before fine-tuning; training images, without their labels."""

    images: Annotated[int, Field(ge=0)]
    rounds: Annotated[int, Field(ge=0)]

    @field_validator("images")
    @classmethod
    def _holds_some_out(cls, images: int) -> int:
        if 0 < images < 4:
            raise ValueError(f"{images} images are too few to refit on; give a few hundred, or 0 for no refit")
        return images


class CompressParams(Section):
    """The sweep: every network that is made, in the order of the tables."""

    cells: Annotated[tuple[Cell, ...], Field(min_length=1)]
    refit: RefitParams
    finetune: FinetuneParams

    @field_validator("cells")
    @classmethod
    def _names_each_cell_once(cls, cells: tuple[CellSpec, ...]) -> tuple[CellSpec, ...]:
        twice = next((cell for index, cell in enumerate(cells) if cell in cells[:index]), None)
        if twice is not None:
            raise ValueError(f"{twice.name} is named twice; remove one of them")
        return cells


class LatencyParams(Section):
    """How layers are timed for cells whose budget has a latency."""

    runtime: Literal["auto", "engine", "onnxruntime", "openvino"]
    batches: Annotated[tuple[Count, ...], Field(min_length=1)]
    threads: Count


class QuantiseParams(Section):
    """Int8 variants of the networks, and the images that they are calibrated with."""

    enabled: bool
    images: Count
    seed: Seed


class BenchParams(Section):
    """How networks are timed."""

    runtimes: Annotated[tuple[Literal["engine", "onnxruntime", "openvino", "torch"], ...], Field(min_length=1)]
    batches: Annotated[tuple[Count, ...], Field(min_length=1)]
    threads: Count
    repeats: Annotated[int, Field(ge=3)]
    seconds: Annotated[float, Field(gt=0)]

    @field_validator("runtimes")
    @classmethod
    def _deploys(cls, runtimes: tuple[str, ...]) -> tuple[str, ...]:
        if "onnxruntime" not in runtimes:
            raise ValueError("onnxruntime is what is deployed; add it")
        return runtimes


class TradeoffParams(Section):
    """Grid of structures that is tried without fine-tuning, and how it is timed."""

    enabled: bool
    regions: Annotated[tuple[Count, ...], Field(min_length=1)]
    clusters: Annotated[tuple[Count, ...], Field(min_length=1)]
    searched: tuple[Method, ...]
    budgets: Annotated[tuple[Annotated[float, Field(gt=1)], ...], Field(min_length=1)]
    calibrations: tuple[Count, ...]
    batches: Annotated[tuple[Count, ...], Field(min_length=1)]
    threads: Count
    seconds: Annotated[float, Field(gt=0)]
    resamples: Annotated[int, Field(ge=100)]
    seed: Seed


class EvaluateParams(Section):
    """Scores and their standard errors."""

    resamples: Annotated[int, Field(ge=100)]
    seed: Seed
    score: str
    metrics: tuple[str, ...]

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(known(name, "metric") for name in names)


class InsightParams(Section):
    """What is shown of the inside of compressed networks."""

    cells: tuple[Cell, ...]
    images: Count
    gallery: Annotated[int, Field(ge=0)]


class RegisterParams(Section):
    """What a cell must reach to be registered."""

    name: Annotated[str, Field(min_length=1)]
    max_drop: Annotated[float, Field(ge=0, le=1)]
    min_macs_ratio: Annotated[float, Field(ge=1)]
    min_speedup: Annotated[float, Field(ge=0)]
    runtime: Literal["auto", "engine", "onnxruntime"]


class PromoteParams(Section):
    """What the champion of the registry must be."""

    margin: Annotated[float, Field(ge=0, lt=1)]
    min_images: Annotated[int, Field(ge=2)]
    min_recall: Annotated[float, Field(ge=0, le=1)]
    min_macs_ratio: Annotated[float, Field(ge=1)]
    min_speedup: Annotated[float, Field(ge=0)]
    max_latency_ms: Annotated[float, Field(gt=0)] | None
    protocol: Protocol
    approval: bool


class Params(Section):
    """All of ``params.yaml``.

    Attributes
    ----------
    plugins : tuple of str
        Modules that are imported before all else, so that they can add methods, backbones and metrics.
    """

    plugins: tuple[str, ...]
    data: DataSpec
    validate_: Annotated[ValidateParams, Field(alias="validate")]
    train: TrainParams
    calibrate: CalibrateParams
    compress: CompressParams
    latency: LatencyParams
    quantise: QuantiseParams
    bench: BenchParams
    tradeoff: TradeoffParams
    evaluate: EvaluateParams
    insight: InsightParams
    register_: Annotated[RegisterParams, Field(alias="register")]
    promote: PromoteParams

    @model_validator(mode="after")
    def _trains_what_it_compresses(self) -> Params:
        if self.data.protocol not in self.train.protocols:
            raise ValueError(
                f"train.protocols {list(self.train.protocols)} lacks data.protocol {self.data.protocol!r}; add it"
            )
        return self

    @model_validator(mode="after")
    def _judges_by_a_score_of_the_task(self) -> Params:
        scores = TASK_SCORES[self.data.task]
        if self.evaluate.score not in scores:
            raise ValueError(
                f"evaluate.score {self.evaluate.score!r} is no score of data.task {self.data.task}; choose one of "
                f"{', '.join(scores)}"
            )
        return self

    @model_validator(mode="after")
    def _does_what_the_task_allows(self) -> Params:
        task = self.data.task
        if task == "segmentation" and self.train.sizes:
            raise ValueError("train.sizes is for whole images; set it to [], and train.patch if you like")
        if task != "segmentation" and self.train.patch is not None:
            raise ValueError("train.patch is for task segmentation; remove it, or set it to null")
        if task != "classification":
            if self.train.label_smoothing:
                raise ValueError("train.label_smoothing is for task classification; set it to 0")
            if self.train.class_weights != "equal":
                raise ValueError("train.class_weights is for task classification; remove it, or set it to equal")
            if self.tradeoff.enabled:
                raise ValueError("tradeoff is for task classification; set tradeoff.enabled to false")
            if self.evaluate.metrics:
                raise ValueError(f"evaluate.metrics has metrics of classifiers; set it to [] for task {task}")
        return self

    @model_validator(mode="after")
    def _splits_as_the_data_allow(self) -> Params:
        for key, protocols in (
            ("train.protocols", self.train.protocols),
            ("promote.protocol", [self.promote.protocol]),
        ):
            if "official" in protocols and not self.data.official:
                raise ValueError(f"{key} has official, which needs data.official, the data set's own split; set it")
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
    loaded = _read_yaml(path)
    plugins = loaded.get("plugins")
    if isinstance(plugins, list):
        load_plugins(map(str, plugins), path.parent)  # first: the sections may name what they add
    try:
        params = Params.model_validate(loaded)
        if ":" in params.train.backbone:
            import_from(path.parent)
        return params
    except ValidationError as error:
        raise ParamsError(_first_problem(path, error)) from error


@dataclass(frozen=True)
class OwnCode:
    """What a stage runs or reads that is not of this package, as ``params.yaml`` names it.

    Attributes
    ----------
    modules : tuple of str
        Plugins, and the module of ``train.backbone`` if that is ``module:function``.
    weights : str or None
        What ``train.weights`` names, if that is a file or an address.
    """

    modules: tuple[str, ...]
    weights: str | None


def read_own_code(path: Path = Path("params.yaml")) -> OwnCode:
    """Read what `OwnCode` says: fast, for no section is checked and nothing imported.

    Raises
    ------
    ParamsError
        If the file is missing or is not YAML.
    """
    loaded = _read_yaml(path)
    train = loaded.get("train")
    train = train if isinstance(train, dict) else {}
    module, _, function = str(train.get("backbone", "")).partition(":")
    weights = str(train.get("weights", ""))
    modules = [*map(str, loaded.get("plugins") or ()), *([module] if function else [])]
    given = PurePath(weights).suffix in WEIGHT_FILES or in_mlflow(weights)
    return OwnCode(tuple(modules), weights if given else None)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ParamsError(f"{path} does not exist; run from the folder that holds it, or pass its path.")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not UTF-8 text"
        raise ParamsError(f"{path} is not valid YAML{where} ({problem}); fix that line.") from error
    if not isinstance(loaded, dict):
        raise ParamsError(f"{path} must be a mapping of sections (data, train, ...); it holds {type(loaded).__name__}.")
    return loaded


def _first_problem(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    reason = first["msg"].removeprefix("Value error, ")
    got = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
    if first["type"] == "extra_forbidden":
        return f"{path}: {key} is not a parameter; remove it or fix its spelling."
    if first["type"] == "missing":
        return f"{path}: {key} is missing; add it."
    return f"{path}: {key}{got}: {reason[0].lower()}{reason[1:]}."
