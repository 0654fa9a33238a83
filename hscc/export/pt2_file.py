"""The same deployed network as a ``.pt2`` archive of torch.export, for those who serve with torch."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from hscc.errors import ExportError
from hscc.export.card import DeploymentCard, card_of, describe_output
from hscc.export.deployed import Deployed, Run, dynamic_axes, example, prepare, verify
from hscc.export.preprocessing import Picture, Preprocessing
from hscc.files import replacing
from hscc.outputs import Outputs

CARD = "card.json"


def export_pt2(
    model: nn.Module,
    path: Path | str,
    preprocessing: Preprocessing | None = None,
    card: DeploymentCard | None = None,
    *,
    pictures: Sequence[Picture] = (),
    tolerance: float = 1e-4,
    output: Outputs | None = None,
) -> float:
    """Write a network as an archive that ``torch.export.load`` reads without this library.

    ``torch.export.load(path).module()`` maps uint8 (batch, rows, columns, channels), as for `export_onnx`, to
    `hscc.Outputs.predictions`, of classes their probabilities (batch, classes). The card is the extra file
    ``card.json``. Weights are raw bytes, and the archive holds no pickle.

    Parameters
    ----------
    model : nn.Module
        (N, channels, height, width), of one or three channels, to whatever `output` reads. It is not changed.
    path : Path
        Target file, which must end in ``.pt2``; replaced atomically.
    preprocessing, card, pictures, tolerance, output
        As for `hscc.export_onnx`.

    Returns
    -------
    float
        The largest difference of a probability from torch's behind Pillow.

    Raises
    ------
    ExportError
        If the network cannot run behind the preprocessing, or the archive says something else than the network.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ExportError(f"{path} must end in .pt2, else torch.export.load does not take it.")
    ready, preprocessing, output = prepare(model, preprocessing, output)
    pixels = example(preprocessing)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch.export, about its own insides
        program = torch.export.export(
            Deployed(ready, preprocessing, output).eval(), (pixels,), dynamic_shapes=dynamic_axes(preprocessing)
        )
        _, number, *positions = program.module()(pixels[:1]).shape
        card = card or card_of(model, number)
        card.check_classes(number)
        entries = replace(card, output_kind=output.kind).entries(preprocessing)
        entries["output"] = describe_output(output, positions)
        _tidy(program)
        with replacing(path, shared=True) as partial:
            torch.export.save(program, partial, extra_files={CARD: json.dumps(entries, indent=1)})
            refuse_pickles(partial)
            return verify(_runner(partial), ready, preprocessing, pictures, tolerance, path, output)


def refuse_pickles(path: Path) -> None:
    """Refuse an archive in which ``torch.export.load`` would unpickle anything.

    It unpickles example inputs, weights of tensor subclasses, custom objects and the older form's ``.pt`` files, in the
    end without torch's restriction to tensors. None of them has a place in a network made here. An archive from
    elsewhere is not safe even so: ``module()`` runs the conditions on shapes in it as Python.

    Raises
    ------
    ExportError
        If the archive holds a pickle or is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            configs = [json.loads(archive.read(name))["config"] for name in sizes if name.endswith("_config.json")]
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path} is not an archive of torch.export ({error}); export it again.") from error
    flagged = [name for config in configs for name, payload in config.items() if payload.get("use_pickle", True)]
    found = [name for name, size in sizes.items() if size and name.endswith((".pt", ".pkl"))] + flagged
    if found:
        raise ExportError(f"{path} holds a pickle ({found[0]}); deploy the ONNX form of this network instead.")


def _tidy(program: torch.export.ExportedProgram) -> None:
    program.example_inputs = None  # would be the archive's only pickle
    # Stack traces name source files of the exporting machine; a deployed network must not.
    for graph in program.graph_module.modules():
        if isinstance(graph, torch.fx.GraphModule):
            for node in graph.graph.nodes:
                node.meta.pop("stack_trace", None)


def _runner(path: Path) -> Run:
    network = torch.export.load(path).module()
    return lambda pictures: network(torch.from_numpy(pictures)).numpy()
