"""Calibration on disk: one safetensors file, symmetric matrices by their upper triangle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.calibration.moments import LayerMoments
from hscc.errors import ArtifactError
from hscc.files import replacing
from hscc.networks.inputs import as_shape
from hscc.outputs import Outputs

_FORMAT = "hscc-moments-2"


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write all moments, atomically.

    The file holds for each layer ``NAME.count``, ``NAME.total``, ``NAME.second`` or ``NAME.sketch``, and
    ``NAME.sensitivity``; its header holds geometry, cells, the number of images and what counts of the outputs.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, moments in calibration.moments.items():
        tensors[f"{name}.count"] = moments.count
        tensors[f"{name}.total"] = moments.total
        tensors[f"{name}.sensitivity"] = _pack(moments.sensitivity)
        if moments.second is not None:
            tensors[f"{name}.second"] = _pack(moments.second)
        if moments.sketch is not None:
            tensors[f"{name}.sketch"] = moments.sketch.contiguous()
    header = {
        "format": _FORMAT,
        "layers": json.dumps([asdict(layer) for layer in calibration.layers]),
        "left_dense": json.dumps(calibration.left_dense),
        "cells": str(calibration.cells),
        "images": str(calibration.images),
        "input_shape": json.dumps(calibration.input_shape),
        "network": calibration.network,
        "outputs": json.dumps(calibration.outputs.to_record()),
    }
    with replacing(path) as new:
        safetensors.torch.save_file(tensors, new, metadata=header)


def load_calibration(path: Path) -> Calibration:
    """Read what `save_calibration` wrote.

    Raises
    ------
    ArtifactError
        If the file is missing or is something else.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run `hscc calibrate` first.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise ArtifactError(f"{path} is not a calibration of this version; run `hscc calibrate` again.")
            names = set(file.keys())
            layers = [_layer(entry) for entry in json.loads(header["layers"])]
            moments = {layer.name: _read(file, names, layer) for layer in layers}
    except safetensors.SafetensorError as error:
        raise ArtifactError(f"{path} is damaged ({error}); run `hscc calibrate` again.") from error
    outputs = Outputs.from_record(json.loads(header["outputs"])) if "outputs" in header else Outputs("classes")
    return Calibration(
        layers,
        json.loads(header["left_dense"]),
        moments,
        int(header["cells"]),
        int(header["images"]),
        as_shape(json.loads(header["input_shape"])),
        header["network"],
        outputs,
    )


def _read(file: safetensors.safe_open, names: set[str], layer: Layer) -> LayerMoments:
    def tensor(part: str) -> torch.Tensor:
        found: torch.Tensor = file.get_tensor(f"{layer.name}.{part}")
        return found

    return LayerMoments(
        count=tensor("count"),
        total=tensor("total"),
        second=_unpack(tensor("second"), layer.features) if f"{layer.name}.second" in names else None,
        sketch=tensor("sketch") if f"{layer.name}.sketch" in names else None,
        sensitivity=_unpack(tensor("sensitivity"), layer.outputs),
        axes=layer.axes,
    )


def _pack(matrices: torch.Tensor) -> torch.Tensor:
    rows, columns = torch.triu_indices(matrices.shape[-1], matrices.shape[-1])
    return matrices[:, rows, columns]


def _unpack(packed: torch.Tensor, size: int) -> torch.Tensor:
    rows, columns = torch.triu_indices(size, size)
    full = packed.new_zeros(len(packed), size, size)
    full[:, rows, columns] = packed
    full[:, columns, rows] = packed
    return full


def _layer(entry: dict[str, object]) -> Layer:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Layer(**values)  # type: ignore[arg-type]
