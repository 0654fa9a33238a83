"""Parameters of the pipeline: the schema of ``params.yaml``, a section a stage, and its one reader."""

from hscc.params.compression import CalibrateParams, CompressParams, LatencyParams, QuantiseParams
from hscc.params.data import DataParams, ValidateParams
from hscc.params.evidence import BenchParams, EvaluateParams, InsightParams, TradeoffParams
from hscc.params.reading import read_params
from hscc.params.release import PromoteParams, RegisterParams
from hscc.params.section import Protocol
from hscc.params.training import FinetuneParams, TrainParams
from hscc.params.whole import Params

__all__ = [
    "BenchParams",
    "CalibrateParams",
    "CompressParams",
    "DataParams",
    "EvaluateParams",
    "FinetuneParams",
    "InsightParams",
    "LatencyParams",
    "Params",
    "PromoteParams",
    "Protocol",
    "QuantiseParams",
    "RegisterParams",
    "TradeoffParams",
    "TrainParams",
    "ValidateParams",
    "read_params",
]
