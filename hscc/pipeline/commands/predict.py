"""Classify picture files with a version of the registry, and show where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from hscc.pipeline import layout
from hscc.pipeline.data.classes import CLASSES
from hscc.pipeline.params import Params
from hscc.pipeline.registry.versions import Version, fetch_network, resolve
from hscc.pipeline.serving.answer import Answer
from hscc.pipeline.serving.heatmap import occlusion, write_overlay
from hscc.pipeline.serving.network import Network
from hscc.pipeline.serving.reading import Picture, read_picture, refuse_implausible
from hscc.pipeline.tracking import tracking_uri

MODELS = layout.SCRATCH / "models"


def run(
    params: Params, files: Sequence[Path], workspace: Path = Path("."), *, which: str, heatmaps: Path | None = None
) -> tuple[Version, list[Answer]]:
    """Classify files.

    Parameters
    ----------
    params : Params
        ``register.name`` is used.
    files : sequence of Path
        JPEG, PNG or DICOM.
    workspace : Path
        Folder of ``dvc.yaml``.
    which : str
        Version number or alias.
    heatmaps : Path, optional
        Folder for a PNG a file that shows where the network looked.

    Returns
    -------
    Version
        What answered.
    list of Answer
        One a file.

    Raises
    ------
    DataError
        If a file cannot be read or is plainly no brain MRI slice; nothing is answered then.
    RegistryError
        If there is no such version, or the registry does not answer.
    """
    pictures = [read_picture(path) for path in files]
    for picture in pictures:
        refuse_implausible(picture)
    uri = tracking_uri(workspace)
    version = resolve(params.register_.name, which, uri)
    network = Network(fetch_network(version, uri, workspace / MODELS), CLASSES, version.deployed_sha256)
    answers = [_answer(picture, network) for picture in pictures]
    if heatmaps is not None:
        targets = _targets(files, heatmaps)
        shown = track(zip(pictures, answers, targets, strict=True), "looking where it looked", len(pictures))
        answers = [_explain(picture, answer, network, target) for picture, answer, target in shown]
    return version, answers


def _answer(picture: Picture, network: Network) -> Answer:
    (found,) = network.probabilities([picture.grey])
    probabilities = {name: float(value) for name, value in zip(network.classes, found, strict=True)}
    return Answer(picture.name, network.classes[int(found.argmax())], probabilities)


def _explain(picture: Picture, answer: Answer, network: Network, target: Path) -> Answer:
    heat = occlusion(network.probabilities, picture.grey, network.classes.index(answer.label))
    write_overlay(picture.grey, heat, target)
    return replace(answer, heatmap=str(target))


def _targets(files: Sequence[Path], folder: Path) -> list[Path]:
    stems = [path.stem for path in files]
    names = [stem if stems.count(stem) == 1 else f"{stem}-{number}" for number, stem in enumerate(stems, 1)]
    return [folder / f"{name}-heatmap.png" for name in names]
