"""The rows of the results: one schema that the stage evaluate writes and the report, documents and registry read.

Ratios are how many times less or faster than the dense network of the same protocol. A figure that is undefined or was
not measured is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from hscc.budgets.budget import Budget
from hscc.errors import ArtifactError
from hscc.pipeline.cell_spec import CellSpec, Precision
from hscc.pipeline.score_names import score_label

DENSE = "dense"
ONNXRUNTIME = "onnxruntime"
Role = Literal["baseline", "compared", "control"]


class Record(BaseModel):
    """Base of every row: unknown fields are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(Record):
    """A figure with the bootstrap's standard error and 95 % interval."""

    value: float | None
    se: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def covers_zero(self) -> bool:
        """Whether the interval holds 0; so does one that is undefined."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


_FIRST_SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "ece", "brier")


class Scored(Record):
    """Base of the records of several scores; their ``score`` names the primary one, ``scores`` has them all by name.

    Reads records of earlier versions too, which had one field per score and accuracy as the primary one.
    """

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "scores" in given:
            return given
        named = {name: given[name] for name in _FIRST_SCORES if given.get(name) is not None}
        rest = {name: value for name, value in given.items() if name not in (*_FIRST_SCORES, "extra")}
        return {**rest, "scores": {**named, **given.get("extra", {})}}


class Comparison(Scored):
    """One network minus another on the same test images.

    Attributes
    ----------
    against : str
        Method of the other network.
    score : str
        Name of the primary score.
    scores : dict of str to Estimate
        Paired differences of the scores of which more is better.
    kl : Estimate
        Paired difference of the divergences from the dense network.
    mcnemar_p : float or None
        Of the accuracies, where accuracy is the primary score; else None.
    mcnemar_p_holm : float or None
        With Holm's correction over the family that the table names; None where it belongs to none.
    f1 : dict of str to Estimate
        Paired difference of F1 by class; empty in tables of earlier versions.
    """

    against: str
    score: str = "accuracy"
    scores: dict[str, Estimate]
    kl: Estimate
    mcnemar_p: float | None = None
    mcnemar_p_holm: float | None = None
    f1: dict[str, Estimate] = {}

    @property
    def primary(self) -> Estimate:
        """Paired difference of the primary score."""
        return self.scores[self.score]


class ClassScores(Record):
    """One class, label or value of one network.

    Attributes
    ----------
    precision, recall, f1 : Estimate
        Undefined for values.
    scores : dict of str to Estimate
        Others; empty, and left out of files, for classes.
    """

    name: str
    precision: Estimate = Estimate(value=None)
    recall: Estimate = Estimate(value=None)
    f1: Estimate = Estimate(value=None)
    scores: dict[str, Estimate] = {}

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if name != "scores" or value}


class AskedBudget(Record):
    """Requested ratio to the dense network (times less) by resource; all None for a dense network.

    Attributes
    ----------
    macs, params, latency : float or None
        The ratios.
    only : bool
        Whether the rest was left free; see `Results.bounded` too.
    """

    macs: float | None = None
    params: float | None = None
    latency: float | None = None
    only: bool = False

    @property
    def ratios(self) -> dict[str, float]:
        """Ratio by resource, without the resources that have none."""
        found: dict[str, float] = self.model_dump(exclude={"only"}, exclude_none=True)
        return found


def asked(budget: Budget) -> AskedBudget:
    """A budget as a row holds it."""
    return AskedBudget(**budget.ratios, only=budget.only)


class OnValidation(Record):
    """What the validation split said while the network was made.

    Attributes
    ----------
    score, kl : float
        The primary score, and the divergence from the dense network.
    score_before, kl_before : float or None
        Of the network as planned.
    score_untrained, kl_untrained : float or None
        After the refit, before any fine-tuning: of compression without training.
    """

    score: float
    kl: float
    score_before: float | None
    kl_before: float | None
    predicted_loss: float | None
    score_untrained: float | None = None
    kl_untrained: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        """Read records of earlier versions, whose primary score was accuracy."""
        return renamed(given, {f"accuracy{when}": f"score{when}" for when in ("", "_before", "_untrained")})


class Timing(Record):
    """Time of one call in one runtime, dense and compressed in alternation.

    Attributes
    ----------
    runtime, batch
        Where, and images per call.
    ms, ms_iqr : float
        Median milliseconds per call and their interquartile range.
    speedup, speedup_iqr, speedup_se : float
        Of the pairs.
    efficiency : float
        Speed-up over the ratio of MACs.
    peak_mb : float or None
        Memory beyond the runtime's own.
    """

    runtime: str
    batch: int
    ms: float
    ms_iqr: float
    speedup: float
    speedup_iqr: float
    speedup_se: float
    efficiency: float
    peak_mb: float | None


def renamed(given: Any, names: dict[str, str]) -> Any:
    """Give fields of earlier versions their names of today; `names` from old to new."""
    return {names.get(name, name): value for name, value in given.items()} if isinstance(given, dict) else given


def network_name(spec: CellSpec | None, protocol: str, precision: Precision = "fp32") -> str:
    """Name of a network in every table: that of its cell, or ``dense-<protocol>``, with ``-int8`` where it is."""
    if spec is not None:
        return spec.name
    return f"{DENSE}-{protocol}" + ("" if precision == "fp32" else f"-{precision}")


class NetworkRow(Scored):
    """All that is known about one network.

    Attributes
    ----------
    score : str
        Name of the primary score.
    scores : dict of str to Estimate
        On the test images: `score` among them.
    """

    method: str
    budget: AskedBudget
    seed: int
    protocol: str
    precision: Precision
    role: Role
    n_test: int
    macs: int
    params: int
    macs_ratio: float
    params_ratio: float
    size_bytes: int
    model_sha256: str
    score: str = "accuracy"
    scores: dict[str, Estimate]
    kl: Estimate
    agreement: Estimate
    classes: tuple[ClassScores, ...]
    against_dense: Comparison | None
    against_global_svd: Comparison | None
    validation: OnValidation
    timings: tuple[Timing, ...]
    runtime: str = ONNXRUNTIME  # in which it is served: whose times tables, requirements and registration speak of

    @property
    def primary(self) -> Estimate:
        """The primary score."""
        return self.scores[self.score]

    @property
    def is_dense(self) -> bool:
        """Whether it is a dense network in floating point."""
        return self.method == DENSE and self.precision == "fp32"

    @property
    def spec(self) -> CellSpec | None:
        """Spec of the cell; None for a dense network and its int8 variant."""
        if self.method == DENSE:
            return None
        return CellSpec(self.method, Budget(**self.budget.ratios, only=self.budget.only), self.seed, self.precision)

    @property
    def name(self) -> str:
        """See `network_name`."""
        return network_name(self.spec, self.protocol, self.precision)

    def timing(self, batch: int, runtime: str | None = None) -> Timing | None:
        """Timing at a batch size, by default in the runtime that serves; None where it was not measured."""
        asked = (runtime or self.runtime, batch)
        return next((timing for timing in self.timings if (timing.runtime, timing.batch) == asked), None)

    @property
    def lowest_speedup(self) -> float | None:
        """Lowest speed-up over the batch sizes in the runtime that serves, None where it was not timed."""
        return min((timing.speedup for timing in self.timings if timing.runtime == self.runtime), default=None)


class SeedSummary(Scored):
    """Mean over the seeds of one method and budget; see `hscc.pipeline.statistics.robustness`."""

    method: str
    budget: AskedBudget
    seeds: int
    score: str = "accuracy"
    scores: dict[str, SeedSpread]
    kl: SeedSpread

    @property
    def primary(self) -> SeedSpread:
        """Of the primary score."""
        return self.scores[self.score]


class SeedSpread(Record):
    """Mean and standard deviation over seeds, standard error of the mean, mean bootstrap error of the networks."""

    mean: float
    sd: float
    se: float
    bootstrap_se: float


class MethodComparison(Record):
    """HSCC against another method at the same budget and seed."""

    budget: AskedBudget
    seed: int
    method: str
    difference: Comparison


class AblationRow(Scored):
    """A method without one idea, against the method that has it.

    Attributes
    ----------
    lacks : str
        What it lacks, in words; empty for HSCC itself.
    difference : Comparison or None
        The control minus the method that has the idea; None where that was not run.
    """

    budget: AskedBudget
    method: str
    lacks: str
    seed: int
    score: str = "accuracy"
    scores: dict[str, Estimate]
    kl: Estimate
    predicted_loss: float | None
    val_kl_before: float | None
    difference: Comparison | None

    @property
    def primary(self) -> Estimate:
        """The primary score."""
        return self.scores[self.score]


class Requirements(Record):
    """What a network must reach to be registered, and so to be the one that the report speaks of.

    Attributes
    ----------
    max_drop : float
        Most that the primary score may be below the dense network's.
    """

    max_drop: float
    min_macs_ratio: float
    min_speedup: float

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        return renamed(given, {"max_accuracy_drop": "max_drop"})


class Machine(Record):
    """Where times were measured."""

    processor: str
    cores: str
    system: str


class ClockNoise(Record):
    """Speed-up of the dense network over itself."""

    median: float
    iqr: float


class Results(Record):
    """Content of ``reports/results.json``.

    Attributes
    ----------
    bounded : bool
        Whether budgets also held parameters and time to the dense network's, as they do by default since
        `hscc.budgets.budget.Budget` has ``only``. False in results of earlier versions, whose budgets held nothing but
        what they name.
    runtime : str
        That serves: `NetworkRow.timing` is in it by default.
    task : str
        What the networks answer, see `hscc.pipeline.tasks`.
    score : str
        Name of the primary score, by which networks are judged.
    """

    bounded: bool = False
    task: str = "classification"
    score: str = "accuracy"
    runtime: str = ONNXRUNTIME
    protocol: str
    phantom: bool
    classes: tuple[str, ...]
    data_hash: str
    git_commit: str
    command: str
    seed: int
    resamples: int
    threads: int
    machine: Machine
    versions: dict[str, str]
    clock: dict[str, ClockNoise]
    requirements: Requirements
    run_ids: dict[str, str]
    headline: dict[str, dict[str, float]]
    rows: tuple[NetworkRow, ...]
    seeds: tuple[SeedSummary, ...]
    comparisons: tuple[MethodComparison, ...]
    ablation: tuple[AblationRow, ...]

    def dense(self, protocol: str | None = None) -> NetworkRow:
        """Dense network of a protocol, by default of the compressed networks'."""
        wanted = protocol or self.protocol
        return next(row for row in self.rows if row.is_dense and row.protocol == wanted)

    def compressed(self) -> list[NetworkRow]:
        """Compressed networks in floating point, controls and all seeds included, in the table's order."""
        return [
            row
            for row in self.rows
            if row.method != DENSE and row.protocol == self.protocol and row.precision == "fp32"
        ]

    def candidates(self) -> list[NetworkRow]:
        """Compressed networks that may be deployed: no controls, and of their first seed, which was timed."""
        found = self.compressed()
        first: dict[tuple[str, AskedBudget], int] = {}
        for row in found:
            first[row.method, row.budget] = min(row.seed, first.get((row.method, row.budget), row.seed))
        return [row for row in found if row.role == "compared" and row.seed == first[row.method, row.budget]]

    def int8_of(self, row: NetworkRow) -> NetworkRow | None:
        """Int8 variant of a network."""
        same = (row.method, row.budget, row.seed, row.protocol, "int8")
        return next((r for r in self.rows if (r.method, r.budget, r.seed, r.protocol, r.precision) == same), None)

    def batches(self, runtime: str | None = None) -> list[int]:
        """Batch sizes that were timed, by default in the runtime that serves; ascending."""
        asked = runtime or self.runtime
        return sorted({timing.batch for row in self.rows for timing in row.timings if timing.runtime == asked})

    def shortfalls(self, row: NetworkRow) -> list[str]:
        """What a network lacks of the requirements, one sentence fragment per requirement; empty where it meets all."""
        found = []
        difference = row.against_dense.primary if row.against_dense else Estimate(value=0.0)
        allowed = self.requirements.max_drop
        if difference.value is None:
            found.append(f"has no {score_label(self.score)} on these test images, so that its loss is not known")
        elif -difference.value > allowed:
            low, high = (100 * (end or 0.0) for end in (difference.low, difference.high))
            found.append(
                f"loses {-100 * difference.value:.2f} points of {score_label(self.score)} (95 % interval of "
                f"the difference {low:+.2f} to {high:+.2f}), {100 * allowed:.2f} are allowed"
            )
        if row.macs_ratio < self.requirements.min_macs_ratio:
            found.append(f"has {row.macs_ratio:.2f}x fewer MACs, {self.requirements.min_macs_ratio:g}x are required")
        timing = row.timing(1)
        if self.requirements.min_speedup > 0 and (timing is None or timing.speedup < self.requirements.min_speedup):
            speed = f"is {timing.speedup:.2f}x faster" if timing else "was not timed (add 1 to bench.batches)"
            found.append(f"{speed} at batch 1, {self.requirements.min_speedup:g}x is required")
        return found

    def passing(self) -> list[NetworkRow]:
        """Candidates that meet the requirements, the fastest first."""
        found = [row for row in self.candidates() if not self.shortfalls(row)]
        return sorted(found, key=lambda row: (-(row.lowest_speedup or 0.0), row.validation.kl, row.name))

    def chosen(self) -> NetworkRow:
        """The network to speak of and to register: headline, sentences, verdict and registration all use this rule.

        Of the candidates that meet the requirements the fastest: the highest of the lowest speed-ups over the timed
        batch sizes; the smaller divergence on validation, then the name, decide between equals. Where none meets the
        requirements it is the candidate nearest to the dense network on validation, and `shortfalls` says what it
        lacks.
        """
        passing, candidates = self.passing(), self.candidates()
        if not candidates:
            raise ArtifactError("compress.cells of params.yaml has controls only; add a method that may be deployed.")
        return passing[0] if passing else min(candidates, key=lambda row: (row.validation.kl, row.name))


def read_results(path: Path) -> Results:
    """Read ``results.json``.

    Raises
    ------
    ArtifactError
        If it is missing or is not of this version.
    """
    results = read_record(Results, path, "hscc evaluate")
    if not results.rows:
        raise ArtifactError(f"{path} has no rows; run `hscc evaluate` again.")
    return results


_R = TypeVar("_R", bound=Record)


def read_record(kind: type[_R], path: Path, command: str) -> _R:
    """Read a record that `write_record` wrote.

    Parameters
    ----------
    kind : type
        Of the record.
    path : Path
        The file.
    command : str
        What writes it, for the messages.

    Raises
    ------
    ArtifactError
        If it is missing or is not of this version; the message names the file, the first field that does not fit and
        the command.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run `{command}`, or `dvc repro`.")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        message = f"{path} is not what `{command}` of this version writes ({where}: {first['msg']}); run it again."
        raise ArtifactError(message) from error


def write_record(record: Record) -> str:
    """Write a record as JSON text with a final newline; what is undefined is null."""
    return record.model_dump_json(indent=1) + "\n"
