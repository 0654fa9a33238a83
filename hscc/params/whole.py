"""All of ``params.yaml``, and what its sections ask of each other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from hscc.params.compression import CalibrateParams, CompressParams, LatencyParams, QuantiseParams
from hscc.params.data import DataParams, ValidateParams
from hscc.params.evidence import BenchParams, EvaluateParams, InsightParams, TradeoffParams
from hscc.params.release import PromoteParams, RegisterParams
from hscc.params.section import Section
from hscc.params.training import TrainParams


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
