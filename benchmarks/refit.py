"""What a refit without labels or gradients brings, before any fine-tuning.

    python -m benchmarks.refit --names tucker_adaptive,hscc --budgets 6,12

Uses the outputs of the stages train and calibrate of the workspace it runs in. It refits on training images; the figures
are of the validation split, and the test split stays unread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import nn

import hscc
from benchmarks.common import new_table
from benchmarks.engine import Budgets, Methods, Workspace
from hscc.budgets.latency_table import processor
from hscc.networks.cost import count_macs
from hscc.pipeline.data.loading import balanced_sample, read_splits
from hscc.pipeline.names import method_label
from hscc.pipeline.params import read_params
from hscc.training.distillation import teacher_logits
from hscc.training.images import to_input
