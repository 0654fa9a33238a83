"""Stage calibrate: the baseline and training images in; the moments of its layers out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hscc.calibration.collect import calibrate
from hscc.calibration.storage import save_calibration
from hscc.networks.backbones import pick_device
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.params import Params
from hscc.pipeline.tasks.registry import task_of
from hscc.pipeline.tracking import stage_run
from hscc.training.images import Split, to_input


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Collect second moments and output sensitivities on images of the training split.

    Parameters
    ----------
    params : Params
        Sections ``data`` and ``calibrate`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.
    """
    started = time.monotonic()
    protocol = params.data.protocol
    model, card = load_dense(workspace / layout.baseline(protocol) / "model.safetensors")
    task = task_of(params)
    train, _ = task.splits(read_manifest(workspace / layout.MANIFEST), card, protocol, workspace)
    rows = task.sample(train, params.calibrate.images, params.calibrate.seed)
    tags = {"protocol": protocol}
    with stage_run("calibrate", protocol, params.calibrate.model_dump(), tags, workspace) as tracked:
        batches = _Batches(train, rows, params.calibrate.batch_size)
        calibration = calibrate(model.to(pick_device()), batches, params.calibrate.cells, output=task.outputs)
        save_calibration(calibration, workspace / layout.MOMENTS)
        seconds = time.monotonic() - started
        tracked.metrics({"images": calibration.images, "layers": len(calibration.layers), "seconds": seconds})
    print(f"calibrated {len(calibration.layers)} layers on {calibration.images} images in {seconds:.0f} s")


@dataclass(frozen=True)
class _Batches:
    """Network inputs of some images, mixed over the classes so that each batch resembles the whole."""

    split: Split
    rows: npt.NDArray[np.int64]
    size: int

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        order = np.random.default_rng(0).permutation(self.rows)
        for start in range(0, len(order), self.size):
            images, _ = self.split.batch(order[start : start + self.size])
            yield to_input(images, self.split.normalisation)
