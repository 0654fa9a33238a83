"""One ONNX file from pictures to predictions: preprocessing, the network, softmax or sigmoid, and a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import onnxruntime
import torch
from onnx import TensorProto, compose, helper
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    DeduplicateHashedInitializersPass,
    RemoveUnusedNodesPass,
)
from torch import nn

from hscc.errors import ExportError
from hscc.export.card import DeploymentCard, card_of, describe_output
from hscc.export.deployed import Bare, Run, prepare, verify
from hscc.export.preprocessing import Picture, Preprocessing
from hscc.export.preprocessing_graph import preprocessing_graph
from hscc.export.to_onnx import runtime_onnx
from hscc.files import replacing
from hscc.outputs import Kind, Outputs

INPUT = "image"
OUTPUT, VALUES = "probabilities", "values"

_PREPARED = "prepared"
# Before the nodes' names, for a reader; before all names of the network, so that none meets one of the preprocessing.
_PREPROCESSING, _NETWORK = "preprocessing/", "network/"
_LAST: dict[Kind, tuple[str, dict[str, Any]]] = {
    "classes": ("Softmax", {"axis": 1}),
    "independent": ("Sigmoid", {}),
    "values": ("Identity", {}),
}


def export_onnx(
    model: nn.Module,
    path: Path | str,
    preprocessing: Preprocessing | None = None,
    card: DeploymentCard | None = None,
    *,
    pictures: Sequence[Picture] = (),
    network: Path | None = None,
    tolerance: float = 1e-4,
    output: Outputs | None = None,
) -> float:
    """Write a network as one ONNX file that takes pictures and gives probabilities, or values.

    Input ``image``: uint8 (batch, rows, columns, channels), all four free; 1 channel is grey, 3 are RGB, one more is
    alpha and ignored. Of a network of volumes uint8 (batch, slices, rows, columns): grey levels, already of the
    network's size. Output ``probabilities``: float32 (batch, classes), for maps (batch, classes, rows, columns);
    ``values`` of a regression. Standard operators only: ONNX Runtime in any language runs it without this library and
    without torch.

    Parameters
    ----------
    model : nn.Module
        (N, channels, height, width), of one or three channels, to whatever `output` reads. It is not changed.
    path : Path
        Target file, replaced atomically.
    preprocessing : Preprocessing, optional
        What the network was trained behind. By default grey pictures in the size and channels that a compressed
        network was calibrated on, otherwise 224 x 224 and three; ImageNet's statistics for three channels, levels of
        0..1 for one.
    card : DeploymentCard, optional
        Kept in the file's metadata; by default the plan of the network, and numbered classes.
    pictures : sequence of ndarray of uint8, optional
        Pictures to check the file on beside drawn ones: (rows, columns) or (rows, columns, channels).
    network : Path, optional
        The ONNX file of the bare network, where there is one; otherwise it is made by `hscc.export.to_onnx`, in the
        form that a latency budget is timed in.
    tolerance : float
        Largest difference of a probability, or of a value relative to the largest, from torch's behind Pillow.
    output : Outputs, optional
        What counts of the network's answer, as for `hscc.calibrate`. By default classes or independent decisions, by
        the answer's shape; values must be asked for.

    Returns
    -------
    float
        The largest difference found.

    Raises
    ------
    ExportError
        If the network cannot run behind the preprocessing, the file says something else than the network, or the card
        names another number of classes.
    """
    ready, preprocessing, output = prepare(model, preprocessing, output)
    bare = onnx.load(network) if network else runtime_onnx(ready, preprocessing.input_shape)
    graph = compose_deployed(bare, preprocessing, output)
    card = card or card_of(model, _outputs(graph))
    return _write(graph, Path(path), preprocessing, card, ready, pictures, tolerance, output)


def deploy_onnx(
    network: Path,
    path: Path,
    card: DeploymentCard,
    preprocessing: Preprocessing | None = None,
    *,
    pictures: Sequence[Picture] = (),
    tolerance: float = 1e-4,
) -> float:
    """Write the deployed form of the ONNX file of a bare network, checked against that very file.

    Parameters
    ----------
    network : Path
        float32 (N, channels, height, width) to logits (N, classes).
    path : Path
        Target file, replaced atomically.
    card : DeploymentCard
        Kept in the file's metadata. It says what the outputs are.
    preprocessing : Preprocessing, optional
        By default that of `Preprocessing.of` for the input that the network takes.
    pictures, tolerance
        As for `export_onnx`.

    Returns
    -------
    float
        The largest difference of a probability from the bare network's behind Pillow.

    Raises
    ------
    ExportError
        As for `export_onnx`.
    """
    bare = onnx.load(network)
    (entry,) = bare.graph.input
    shape = tuple(side.dim_value for side in entry.type.tensor_type.shape.dim)[1:]
    preprocessing = preprocessing or Preprocessing.of(shape)
    if preprocessing.input_shape != shape:
        raise ExportError(
            f"{network} takes images of {' x '.join(map(str, shape))} and the preprocessing gives "
            f"{' x '.join(map(str, preprocessing.input_shape))}; give that of the network."
        )
    session = _session(network)

    def logits(inputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {entry.name: inputs.numpy()})[0])

    output = Outputs(card.output_kind or "classes")
    graph = compose_deployed(bare, preprocessing, output)
    return _write(graph, path, preprocessing, card, logits, pictures, tolerance, output)


def _write(
    graph: onnx.ModelProto,
    path: Path,
    preprocessing: Preprocessing,
    card: DeploymentCard,
    network: Bare,
    pictures: Sequence[Picture],
    tolerance: float,
    output: Outputs,
) -> float:
    card.check_classes(_outputs(graph))
    (last,) = graph.graph.output
    sizes = [dim.dim_value for dim in last.type.tensor_type.shape.dim][2:]
    entries = replace(card, output_kind=output.kind).entries(preprocessing)
    entries["output"] = describe_output(output, sizes)
    helper.set_model_props(graph, entries)
    onnx.checker.check_model(graph, full_check=True)
    with replacing(path, shared=True) as partial:
        onnx.save(graph, partial)
        return verify(_runner(partial), network, preprocessing, pictures, tolerance, path, output)


def _outputs(graph: onnx.ModelProto) -> int:
    return int(graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value)


def read_card(path: Path | str) -> Mapping[str, str]:
    """Read the metadata of an ONNX file."""
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def compose_deployed(
    network: onnx.ModelProto, preprocessing: Preprocessing, output: Outputs | None = None
) -> onnx.ModelProto:
    """Put preprocessing before a bare network and softmax or sigmoid behind it; equal weights are kept once.

    Parameters
    ----------
    network : ModelProto
        One input, float32 (N, channels, height, width), and one output (N, K, *positions); of any precision inside.
    preprocessing : Preprocessing
        What it was trained behind.
    output : Outputs, optional
        What the output is; by default the logits of classes.
    """
    output = output or Outputs("classes")
    (opset,) = (entry.version for entry in network.opset_import if entry.domain == "")
    before = preprocessing_graph(preprocessing, opset, INPUT, _PREPARED)
    before.ir_version = network.ir_version
    for node in before.graph.node:
        node.name = _PREPROCESSING + node.output[0]
    (entry,), (logits,) = network.graph.input, network.graph.output
    merged = compose.merge_models(before, network, [(_PREPARED, entry.name)], prefix2=_NETWORK)
    name = VALUES if output.kind == "values" else OUTPUT
    operator, options = _LAST[output.kind]
    merged.graph.node.append(helper.make_node(operator, [_NETWORK + logits.name], [name], name, **options))
    _, *sizes = (dim.dim_value for dim in logits.type.tensor_type.shape.dim)
    del merged.graph.output[:]
    merged.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes]))
    tidy = onnx_ir.passes.Sequential(
        ClearMetadataAndDocStringPass(), DeduplicateHashedInitializersPass(), RemoveUnusedNodesPass()
    )
    graph: onnx.ModelProto = onnx_ir.to_proto(tidy(onnx_ir.from_proto(merged)).model)
    graph.producer_name, graph.graph.name = "hscc", "deployed"
    return graph


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _runner(path: Path) -> Run:
    session = _session(path)
    return lambda pictures: session.run(None, {INPUT: pictures})[0]
