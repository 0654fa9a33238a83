"""The data spec, section ``data`` of ``params.yaml``: all that the pipeline knows of a data set.

Where the images lie and what they are called, which classes there are, how images are split, decoded and varied, what a
picture must be like to be classified, and how texts speak of all this. No module knows a data set by other means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from hscc.networks.image_size import sides_of
from hscc.pipeline.section import Count, Fraction, Section, Seed

Protocol = Literal["grouped", "pooled", "official"]
Task = Literal["classification", "segmentation", "multilabel", "regression"]
IMAGE_LABEL = "images"  # what images are counted as that are of no class, but have masks or values
NO_LABEL = "none"  # what images are counted as that have none of several labels
SEPARATOR = "|"  # between labels or values of one image in manifest and tables
SPLITS: tuple[str, ...] = ("train", "val", "test", "excluded")

_LABEL = re.compile(r"[\w.\- /]+")  # what MLflow takes in names of metrics, less the colon


def _label(name: str) -> str:
    if not _LABEL.fullmatch(name) or name != name.strip():
        raise ValueError(f"class {name!r} may have letters, digits, spaces and . _ - / only; rename it in the data")
    return name


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ValueError(f"{path!r} is not a path inside the data folder")
    return path


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression ({error})") from error
    return text


Label = Annotated[str, AfterValidator(_label)]
Text = Annotated[str, Field(min_length=1)]
Side = Annotated[int, Field(ge=16, le=1024)]


class LabelTable(Section):
    """A CSV or Parquet file with one row per image, and the names of its columns.

    Attributes
    ----------
    file : str
        Below ``data/``; ``.csv`` or ``.parquet``.
    path : str
        Column of the images' paths, relative to ``data/``.
    label : str or tuple of str
        Column of the classes. Several labels per image: one column of 0 and 1 (or false and true) for each of
        ``data.classes``, or one column of lists. Values: one column of numbers each.
    split : str or None
        Column of the official split.
    group : str or None
        Column of what must stay together: patient, lesion. Empty where it is not known: such an image is its own group.
    separator : str or None
        Between the labels of a list; None where `label` is no column of lists.
    no_label : str or None
        What such a column says of an image with none of the labels, such as "No Finding", or "" for an empty cell;
        None where each has one.
    """

    file: Annotated[str, AfterValidator(_inside)]
    path: Text
    label: Text | Annotated[tuple[Text, ...], Field(min_length=1)]
    split: Text | None
    group: Text | None
    separator: Text | None = None
    no_label: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Columns of labels or values."""
        return (self.label,) if isinstance(self.label, str) else self.label

    @field_validator("file")
    @classmethod
    def _readable(cls, file: str) -> str:
        if PurePosixPath(file).suffix not in (".csv", ".parquet"):
            raise ValueError(f"{file!r} ends in neither .csv nor .parquet; write it as one of them")
        return file


class MaskSpec(Section):
    r"""Where the mask of each image is, and what its grey levels mean.

    Attributes
    ----------
    images : str
        Regular expression: the files in whose path below ``data/`` it is found are the images.
    mask : str
        Path of an image's mask, with ``\1`` and so on for the groups of that expression.
    field : str or None
        Likewise of its field of view: pixels where that file is 0 do not count. None where all count.
    values : mapping of str to int
        Grey level of each class in a mask, 0 to 255.
    """

    images: Annotated[str, AfterValidator(_pattern)]
    mask: Annotated[str, AfterValidator(_inside)]
    field: Annotated[str, AfterValidator(_inside)] | None
    values: Mapping[Label, Annotated[int, Field(ge=0, le=255)]]

    @model_validator(mode="after")
    def _refers_to_groups(self) -> MaskSpec:
        groups = re.compile(self.images).groups
        for template in filter(None, (self.mask, self.field)):
            asked = [int(number) for number in re.findall(r"\\(\d+)", template)]
            if max(asked, default=0) > groups:
                raise ValueError(f"{template!r} asks for group {max(asked)}, and images has {groups}; add parentheses")
        return self


class OfficialSplit(Section):
    """The data set's own split: names of its folders, values of the table's split column, or words before ``_images``.

    Attributes
    ----------
    train, test : str
        What to learn from and what to test on.
    val : str or None
        To validate on; None to take it from train.
    """

    train: Text
    val: Text | None
    test: Text

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order train, val, test."""
        return tuple(name for name in (self.train, self.val, self.test) if name is not None)

    @model_validator(mode="after")
    def _differ(self) -> OfficialSplit:
        if len(set(self.names)) < len(self.names):
            raise ValueError("train, val and test must differ")
        return self


class NormalisationParams(Section):
    """Mean and standard deviation of each input channel of the network, for levels scaled to 0..1.

    Three numbers for red, green and blue, or for a network that gets grey images three times; one for a network of one
    input channel.
    """

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _one_per_channel(self) -> NormalisationParams:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ValueError("mean and std need one number each for a network of one input channel, three for three")
        return self


class AugmentationParams(Section):
    """Random views of training images: largest motions, either way; `flip_depth` is of volumes only."""

    flip: bool
    flip_up_down: bool
    flip_depth: bool = False
    rotation: Annotated[float, Field(ge=0, le=180)]
    shift: Annotated[float, Field(ge=0, lt=1)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    outside: Literal["black", "edge"]


class Plausible(Section):
    """What a picture to classify must be like; None leaves a property open.

    Attributes
    ----------
    modalities, body_parts : tuple of str
        Of a DICOM file, where it names its own.
    sides : (int, int)
        Shortest and longest side in pixels.
    max_oblong : float or None
        Longer side over shorter side.
    max_colour : float or None
        Mean spread of red, green and blue, 0 to 255.
    min_contrast : float or None
        Standard deviation of the grey levels.
    min_dark_border : float or None
        Share of the border that is dark (below grey level 50), as air around a head is.
    max_corner : float or None
        Mean grey level of the second darkest corner.
    """

    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    sides: tuple[Count, Count]
    max_oblong: Annotated[float, Field(ge=1)] | None
    max_colour: Annotated[float, Field(ge=0)] | None
    min_contrast: Annotated[float, Field(ge=0)] | None
    min_dark_border: Annotated[float, Field(ge=0, le=1)] | None
    max_corner: Annotated[float, Field(ge=0)] | None

    @field_validator("sides")
    @classmethod
    def _ordered(cls, sides: tuple[int, int]) -> tuple[int, int]:
        if sides[0] > sides[1]:
            raise ValueError("the shortest side comes first")
        return sides


class Texts(Section):
    """How reports, registry, model cards and messages speak of the data.

    Attributes
    ----------
    title : str
        Of the data set.
    modality, image : str
        What the images are, before the word for one of them: "brain MRI" and "slice".
    group : str
        What is kept together, such as patient or lesion.
    expert : str
        Who could settle which of two contradicting labels is right.
    classes : mapping of str to str
        Names by label; a class without one is called by its label.
    licence : str
        What is known of the licence of images and weights.
    """

    title: Text
    modality: Text
    image: Text
    group: Text
    expert: Text
    classes: Mapping[Label, Text]
    licence: str

    @property
    def subject(self) -> str:
        """One image in words, such as ``brain MRI slice``."""
        return f"{self.modality} {self.image}"

    def name(self, label: str) -> str:
        """Name of a class in running text."""
        return self.classes.get(label, label.replace("_", " "))


class Remark(Section):
    """What others say of some of the images; shown where the data holds exactly those.

    Attributes
    ----------
    id : str
        Of the finding.
    split : str or None
        Official split that the images are of; None for all.
    label : str
        Their class.
    sha256 : str
        SHA-256 over the sorted SHA-256 (in hex) of the images' files.
    title, finding, what_we_do : str
        As of `hscc.pipeline.data.report.Finding`.
    """

    id: Text
    split: str | None
    label: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    title: Text
    finding: Text
    what_we_do: Text


class Unlabelled(Section):
    """A folder of further images, of which nothing need be known."""

    folder: Path  # relative to the workspace or absolute
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.dir$")]  # as DVC hashes folders


class DataSpec(Section):
    """Section ``data``; each key is explained in ``params.yaml``."""

    task: Task
    layout: Literal["folders", "table", "arrays"]
    table: LabelTable | None
    masks: MaskSpec | None = None
    official: OfficialSplit | None
    group: Annotated[str, AfterValidator(_pattern)] | None
    classes: tuple[Label, ...]
    channels: Literal[1, 3]
    window: tuple[float, float] | None
    image_size: Side | Annotated[tuple[Side, ...], Field(min_length=2, max_length=3)]
    normalisation: NormalisationParams
    augmentation: AugmentationParams
    near_duplicate: Fraction
    protocol: Protocol
    train_fraction: Fraction
    val_fraction: Fraction
    seed: Seed
    plausible: Plausible | None
    texts: Texts
    remarks: tuple[Remark, ...]

    @property
    def counted(self) -> tuple[str, ...]:
        """Labels by which images are counted: the classes, or one for all images where an image is of no class."""
        return self.classes if self.task in ("classification", "multilabel") else (IMAGE_LABEL,)

    @property
    def strata(self) -> tuple[str, ...]:
        """Labels by which images are split, see `hscc.pipeline.data.targets.strata_of`."""
        return (*self.counted, NO_LABEL) if self.task == "multilabel" else self.counted

    @property
    def sides(self) -> tuple[int, ...]:
        """Size of a decoded image: height and width, or depth, height and width of a volume."""
        return sides_of(self.image_size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of the network: channels, then `sides`."""
        return (len(self.normalisation.mean), *self.sides)

    @property
    def pictures(self) -> bool:
        """Whether the images are pictures; else they are volumes."""
        return len(self.sides) == 2

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The split protocols that this data set allows."""
        return ("grouped", "pooled", "official") if self.official else ("grouped", "pooled")

    @property
    def has_groups(self) -> bool:
        """Whether images are kept together by more than near-copies."""
        return self.group is not None or (self.table is not None and self.table.group is not None)

    @property
    def place(self) -> str:
        """What a part of the official split is called, after its name."""
        return "folder" if self.layout == "folders" else "split"

    @field_validator("classes")
    @classmethod
    def _several_named_once(cls, classes: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        task = info.data.get("task")
        if not classes:
            raise ValueError("name the outputs of the network")
        if task == "multilabel" and NO_LABEL in classes:
            raise ValueError(f"{NO_LABEL} is what images without a label are called; give the label another name")
        if len(classes) < 2 and task not in ("multilabel", "regression"):
            raise ValueError("a classifier tells two classes or more apart; name them all")
        twice = next((name for index, name in enumerate(classes) if name in classes[:index]), None)
        if twice is not None:
            raise ValueError(f"{twice} is named twice; remove one of them")
        return classes

    @model_validator(mode="after")
    def _fits_together(self) -> DataSpec:
        if self.channels == 3 and len(self.normalisation.mean) == 1:
            raise ValueError("channels 3 needs three numbers in normalisation.mean and std; give one per colour")
        if self.channels == 3 and len(self.sides) == 3:
            raise ValueError("volumes have one channel; set channels to 1, or give image_size one or two sides")
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError("window gives the value shown as black, then the higher one shown as white; order them")
        if self.train_fraction + self.val_fraction >= 1:
            raise ValueError("train_fraction + val_fraction must be below 1 so that a test split remains")
        if (self.layout == "table") != (self.table is not None):
            raise ValueError("layout table needs the section table, and another layout null there; change one of them")
        if self.table and self.group is not None and self.table.group is not None:
            raise ValueError("group and table.group both say what stays together; set one of them to null")
        if self.table and (self.table.split is None) != (self.official is None):
            raise ValueError("official and table.split go together; set both, or both to null")
        if (self.task == "segmentation") != (self.masks is not None):
            raise ValueError(
                "task segmentation needs the section masks, and other tasks null there; change one of them"
            )
        if self.table is not None or self.task in ("multilabel", "regression"):
            self._labels_of_a_table()
        if self.masks is not None:
            if self.layout != "folders":
                raise ValueError("task segmentation needs layout folders; masks.images says which files are images")
            if set(self.masks.values) != set(self.classes):
                raise ValueError("masks.values and classes must name the same classes; correct one of them")
            if len(set(self.masks.values.values())) < len(self.classes):
                raise ValueError("masks.values gives two classes the same level; correct one of them")
        if self.protocol not in self.protocols:
            raise ValueError("protocol official needs official, the data set's own split; set it, or choose grouped")
        unknown = sorted(set(self.texts.classes) - set(self.classes))
        if unknown:
            raise ValueError(f"texts.classes names {unknown[0]!r}, which classes lacks; correct one of them")
        return self

    def _labels_of_a_table(self) -> None:
        if self.table is None:
            raise ValueError(f"task {self.task} needs layout table; name the file and its columns in table")
        columns, named = self.table.labels, len(self.classes)
        listed = isinstance(self.table.label, str) and self.table.separator is not None
        if self.table.separator is not None and (self.task != "multilabel" or not listed):
            raise ValueError("table.separator is for task multilabel with one column of lists; set it to null")
        if self.table.no_label is not None and not listed:
            raise ValueError("table.no_label is for a column of lists, which has table.separator; set it to null")
        if self.task == "classification" and len(columns) > 1:
            raise ValueError("table.label names several columns, which is for tasks multilabel and regression")
        if self.task == "multilabel" and not listed and isinstance(self.table.label, str) and named > 1:
            raise ValueError("table.label is one column; give table.separator, or a list with one column per label")
        if self.task in ("multilabel", "regression") and not listed and len(columns) != named:
            raise ValueError(f"table.label names {len(columns)} columns and classes {named}; name one for each")
