"""Classify picture files with a version of the registry or a file, and show which part of a picture decided it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.progress import track
from rich.table import Table

from hscc.errors import ParamsError
from hscc.export.card import NOTICE
from hscc.outputs import Kind
from hscc.pipeline import layout
from hscc.pipeline.data_spec import NO_LABEL, SEPARATOR, DataSpec
from hscc.pipeline.params import Params
from hscc.pipeline.registry.versions import Version, fetch_engine_file, fetch_network, resolve
from hscc.pipeline.serving.decisions import decided
from hscc.pipeline.serving.heatmap import occlusion, write_overlay
from hscc.pipeline.serving.masks import shares_of_classes, write_mask
from hscc.pipeline.serving.network import Network
from hscc.pipeline.serving.plausibility import refuse_implausible
from hscc.pipeline.serving.reading import Picture, read_picture
from hscc.pipeline.tracking import tracking_uri
from hscc.timing.runtimes import ENGINE, ONNXRUNTIME, RUNTIMES, runtime_of

MODELS = layout.SCRATCH / "models"
NETWORKS = (".hscc", ".onnx")  # endings of files that `hscc export` writes
AUTO = "auto"
_HEATMAP, _MASK = "-heatmap.png", "-mask.png"  # endings of files
_COLUMNS = 4  # classes with a column of their own


@dataclass(frozen=True)
class Answer:
    """The classification of one picture.

    Attributes
    ----------
    name : str
        The picture.
    label : str
        The most probable class; of a segmentation that of most pixels; of several labels those that are present, with a
        bar between them; "" for values.
    probabilities : mapping of str to float
        Of every class or label; of a segmentation its share of the pixels; or the values.
    names : mapping of str to str
        Names of the classes for a reader.
    heatmap : str or None
        File that shows which part of the picture decided it; of a segmentation its mask.
    kind : {"classes", "independent", "values"}
        What `probabilities` holds: of classes, of labels, or values.
    """

    name: str
    label: str
    probabilities: Mapping[str, float]
    names: Mapping[str, str]
    heatmap: str | None = None
    kind: Kind = "classes"

    @property
    def text(self) -> str:
        """`label` for a reader."""
        return ", ".join(self.names.get(part, part) for part in self.label.split(SEPARATOR))

    def record(self) -> dict[str, object]:
        """All that a program may want to know."""
        found = {name: value for name, value in asdict(self).items() if name not in ("names", "kind")}
        if self.kind == "independent":
            found["label"] = [] if self.label == NO_LABEL else self.label.split(SEPARATOR)
            return {"labels" if name == "label" else name: value for name, value in found.items()}
        if self.kind == "values":
            return {"name": self.name, "values": self.probabilities}
        return found


def run(
    params: Params,
    files: Sequence[Path],
    workspace: Path = Path("."),
    *,
    which: str,
    heatmaps: Path | None = None,
    runtime: str = AUTO,
) -> tuple[Version, list[Answer]]:
    """Classify files.

    Parameters
    ----------
    params : Params
        ``register.name`` is used.
    files : sequence of Path
        JPEG, PNG, DICOM, NIfTI or NumPy; a folder of DICOM slices.
    workspace : Path
        Folder of ``dvc.yaml``.
    which : str
        Version number or alias.
    heatmaps : Path, optional
        Folder for one PNG per file that shows which part of it decided the class; of a segmentation its mask, in the
        size of the picture.
    runtime : str
        ``auto``, ``engine``, ``onnxruntime`` or ``openvino``; auto is the engine where the version holds a file for it
        and its library is there, else ONNX Runtime.

    Returns
    -------
    Version
        The version that classified them.
    list of Answer
        One per file.

    Raises
    ------
    DataError
        If a file cannot be read or is plainly not what the network was made for; none is classified then.
    RegistryError
        If there is no such version, or the registry does not answer.
    """
    pictures = [read_picture(path, params.data.window) for path in files]
    for picture in pictures:  # by the workspace's own spec, before the registry is asked
        refuse_implausible(picture, params.data.plausible, params.data.texts.subject)
    uri = tracking_uri(workspace)
    version = resolve(params.register_.name, which, uri)
    network = _network(version, uri, workspace / MODELS, runtime, params.data)
    return version, _classify_all(pictures, files, network, heatmaps)


def run_file(
    network: Path, files: Sequence[Path], *, heatmaps: Path | None = None, runtime: str = AUTO
) -> list[Answer]:
    """Classify files with a network that `hscc export` wrote; no workspace and no registry is needed.

    Parameters
    ----------
    network : Path
        An ONNX file with preprocessing inside, or one of the engine (``.hscc``).
    files, heatmaps, runtime
        As for `run`; a file of the engine runs there alone.

    Raises
    ------
    ArtifactError
        If the network is missing, damaged or not such a file.
    DataError
        As `run`.
    ParamsError
        If what the runtime needs is missing, or it does not read the file.
    """
    own = runtime_of(network)
    if runtime != AUTO and (runtime == ENGINE) != (own == ENGINE):
        raise ParamsError(f"{network} does not run in {runtime}; leave --runtime out, or name another file.")
    if own == ENGINE:
        opened = Network(network)
    else:
        opened = Network(network, runtime=ONNXRUNTIME if runtime == AUTO else runtime)
    pictures = [read_picture(path, opened.window) for path in files]
    return _classify_all(pictures, files, opened, heatmaps)


def _network(version: Version, uri: str, cache: Path, runtime: str, data: DataSpec) -> Network:
    """Open a version's network; the portable file where the engine cannot run it or it was not asked for."""
    if runtime == AUTO:
        runtime = ENGINE if version.engine_sha256 and RUNTIMES[ENGINE].available else ONNXRUNTIME
    if runtime != ENGINE:
        file, digest = fetch_network(version, uri, cache), version.deployed_sha256
        network = Network(file, data.classes, digest, runtime=runtime)
    else:
        network = Network(fetch_engine_file(version, uri, cache), data.classes, version.engine_sha256)
    if not network.subject:  # of before files said what they were made for
        network.subject, network.limits, network.class_names = data.texts.subject, data.plausible, data.texts.classes
    return network


def _classify_all(
    pictures: Sequence[Picture], files: Sequence[Path], network: Network, heatmaps: Path | None
) -> list[Answer]:
    for picture in pictures:
        network.refuse_implausible(picture)
    answers = [_classify(picture, network) for picture in pictures]
    if heatmaps is not None and network.sides is not None:
        raise ParamsError("heat maps are drawn of pictures, and the network takes volumes; leave --heatmap out.")
    if heatmaps is not None and network.kind == "values":
        raise ParamsError("heat maps are drawn of probabilities, and the network gives values; leave --heatmap out.")
    if heatmaps is not None:
        targets = _targets(files, heatmaps)
        jobs = track(zip(pictures, answers, targets, strict=True), "drawing heat maps", len(pictures))
        answers = [_explain(picture, answer, network, target) for picture, answer, target in jobs]
    return answers


def as_json(answers: Sequence[Answer], source: Version | Path) -> str:
    """Write answers as JSON, with the version or file that gave them and the notice."""
    known = {"model": str(source)} if isinstance(source, Path) else {"model": source.name, "version": source.number}
    document = {
        **known,
        "notice": NOTICE,
        "answers": [answer.record() for answer in answers],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def as_table(answers: Sequence[Answer], source: Version | Path) -> Table:
    """Show answers in a table, with the version or file that gave them and the notice below.

    Of many classes the most probable ones alone are shown: the JSON has all.
    """
    caption = "\n".join(
        [*(f"{_kind(answer.heatmap)}: {answer.heatmap}" for answer in answers if answer.heatmap), NOTICE]
    )
    title = str(source) if isinstance(source, Path) else f"{source.name}, version {source.number}"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("file", overflow="fold")
    kind = answers[0].kind
    if kind == "values":
        return _table_of_values(table, answers)
    table.add_column("class" if kind == "classes" else "labels")
    if len(answers[0].probabilities) > _COLUMNS:
        table.add_column("most probable, %")
        for answer in answers:
            table.add_row(answer.name, answer.text, _most_probable(answer))
        return table
    for name in answers[0].probabilities:
        table.add_column(f"{answers[0].names[name]} %", justify="right", no_wrap=True)
    for answer in answers:
        percentages = [f"{100 * value:.1f}" for value in answer.probabilities.values()]
        table.add_row(answer.name, answer.text, *percentages)
    return table


def _table_of_values(table: Table, answers: Sequence[Answer]) -> Table:
    for name in answers[0].probabilities:
        table.add_column(answers[0].names[name], justify="right", no_wrap=True)
    for answer in answers:
        table.add_row(answer.name, *(f"{value:.5g}" for value in answer.probabilities.values()))
    return table


def _kind(path: str) -> str:
    return "mask" if path.endswith(_MASK) else "heat map"


def _most_probable(answer: Answer) -> str:
    falling = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    return ", ".join(f"{answer.names[name]} {100 * value:.1f}" for name, value in falling[:_COLUMNS])


def _classify(picture: Picture, network: Network) -> Answer:
    (found,) = network.probabilities([picture.pixels])
    if found.ndim > 1:
        (found,) = shares_of_classes(found[None])
    probabilities = {name: float(value) for name, value in zip(network.classes, found, strict=True)}
    names = {name: network.class_name(name) for name in network.classes}
    return Answer(picture.name, decided(found, network.classes, network.kind), probabilities, names, kind=network.kind)


def _explain(picture: Picture, answer: Answer, network: Network, target: Path) -> Answer:
    (found,) = network.probabilities([picture.pixels])
    if found.ndim > 1:
        target = target.with_name(target.name.replace(_HEATMAP, _MASK))
        write_mask(found, picture.pixels.shape[:2], target)
        return replace(answer, heatmap=str(target))
    heat = occlusion(network.probabilities, picture.pixels, int(found.argmax()))
    write_overlay(picture.pixels, heat, target)
    return replace(answer, heatmap=str(target))


def _targets(files: Sequence[Path], folder: Path) -> list[Path]:
    stems = [path.stem for path in files]
    names = [stem if stems.count(stem) == 1 else f"{stem}-{number}" for number, stem in enumerate(stems, 1)]
    return [folder / f"{name}{_HEATMAP}" for name in names]
