"""Stage quantise: the networks' ONNX files and calibration images in; their int8 variants out."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from hscc.engine.export import export_engine
from hscc.errors import ExportError
from hscc.export.quantisation import quantise
from hscc.files import file_sha256, replacing
from hscc.networks.normalisation import Normalisation
from hscc.pipeline import layout
from hscc.pipeline.artifacts import Network, deployable, read_own
from hscc.pipeline.benchmark.runtimes import load_module
from hscc.pipeline.data.loading import normalisation_of, read_images
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.params import Params
from hscc.pipeline.statistics.predictions import as_input
from hscc.pipeline.tasks.assessment.registry import assessment_of
from hscc.pipeline.tracking import StageRun, stage_run
from hscc.timing.runtimes import ENGINE, RUNTIMES

BATCH = 16  # images of `_USUAL` pixels at a time through the network with all its activations kept
_USUAL = 224 * 224

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Quantise the baseline and its cells of the first seed, controls excepted; score each on validation images.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``compress``, ``quantise`` and ``evaluate.score`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    ArtifactError
        If a network or the manifest is missing, or a network cannot be quantised; earlier variants stay then.
    """
    networks = deployable(read_own(params, workspace)) if params.quantise.enabled else []
    with replacing(workspace / layout.QUANTISED) as new:
        new.mkdir()
        if networks:
            tags = {"protocol": params.data.protocol}
            with stage_run("quantise", params.data.protocol, params.quantise.model_dump(), tags, workspace) as tracked:
                _quantise_all(networks, params, workspace, new, tracked)


def _quantise_all(networks: list[Network], params: Params, workspace: Path, target: Path, tracked: StageRun) -> None:
    manifest = read_manifest(workspace / layout.MANIFEST)
    images, normalisation = read_images(manifest, params.data, workspace), normalisation_of(params.data)
    assessment = assessment_of(params, manifest, workspace)
    train, val = (assessment.rows(params.data.protocol, split) for split in ("train", "val"))
    chosen = train[assessment.sample(train, params.quantise.images, params.quantise.seed)]
    reference = networks[0].model
    dense = assessment.answers(reference, reference, val)
    for network in track(networks, "quantising networks"):
        folder = target / network.name
        model = folder / "model.onnx"
        quantise(network.model, model, _batches(images, chosen, normalisation))
        in_engine = params.data.pictures and RUNTIMES[ENGINE].available
        if in_engine and (network.model.parent / "model.safetensors").is_file():
            _quantise_for_engine(network, folder / layout.ENGINE_FILE, list(_batches(images, chosen, normalisation)))
        scores = assessment.validate(assessment.answers(model, reference, val), dense, val)
        tracked.metrics({f"{network.name}.{name}": score for name, score in scores.items()})
        source = {"precision": "int8", "protocol": network.protocol, "source_sha256": file_sha256(network.model)}
        facts = {**source, **scores}
        (folder / "metrics.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _quantise_for_engine(network: Network, target: Path, batches: list[npt.NDArray[np.float32]]) -> None:
    """Write the variant for the engine, which has its own int8; without it the engine is not timed."""
    given = [torch.from_numpy(batch) for batch in batches]
    try:
        export_engine(
            load_module(network.model.parent), target, input_shape=given[0].shape[1:], images=given, precision="int8"
        )  # fmt: skip
    except ExportError as error:
        print(f"warning: {error} It has no int8 variant for the engine.", file=sys.stderr)


def _batches(images: Images, rows: Rows, normalisation: Normalisation) -> Iterator[npt.NDArray[np.float32]]:
    pixels = math.prod(as_input(np.array(images[rows[:1]]), normalisation).shape[2:])
    size = max(1, min(BATCH, BATCH * _USUAL // pixels))
    for start in range(0, len(rows), size):
        yield as_input(np.asarray(images[rows[start : start + size]]), normalisation)
