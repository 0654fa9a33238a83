import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hscc.errors import HSCCError, ParamsError
from hscc.methods import METHODS
from hscc.pipeline.params import Params, read_params

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(ROOT.glob("examples/*/params.yaml"))


@pytest.fixture
def values() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def read(values: object, folder: Path) -> Params:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    return read_params(path)


@pytest.mark.parametrize(
    "name", ["params.yaml", "params.demo.yaml", *(f"examples/{path.parent.name}/params.yaml" for path in EXAMPLES)]
)
def test_the_committed_parameters_are_valid(name: str) -> None:
    params = read_params(ROOT / name)
    assert params.data.protocol in params.train.protocols


def test_the_demo_cannot_be_mistaken_for_the_real_run() -> None:
    real, demo = read_params(ROOT / "params.yaml"), read_params(ROOT / "params.demo.yaml")
    assert real.register_.name != demo.register_.name
    assert real.train.backbone != demo.train.backbone


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("data", "protocol", "groupd", "data.protocol"),
        ("data", "image_size", 4, "data.image_size"),
        ("data", "train_fraction", 0.9, "data: train_fraction"),
        ("train", "epoch", 3, "train.epoch is not a parameter"),
        ("train", "backbone", "alexnt", "did you mean alexnet"),
        ("train", "epochs", 0, "train: epochs 0 takes a network as it is"),
        ("train", "epochs", "many", "train.epochs"),
        ("train", "protocols", ["pooled"], "lacks data.protocol 'grouped'"),
        ("compress", "cells", ["hscc-macs6-seed0", "hsc-macs6-seed0"], "compress.cells.1"),
        ("compress", "cells", ["hsc-macs6-seed0"], "did you mean hscc"),
        ("compress", "cells", [], "compress.cells"),
        ("insight", "cells", ["hscc"], "insight.cells"),
        ("bench", "runtimes", ["torch"], "onnxruntime is what is deployed"),
        ("bench", "batches", [0], "bench.batches"),
        ("tradeoff", "searched", ["hsc"], "did you mean hscc"),
        ("tradeoff", "regions", [0], "tradeoff.regions"),
        ("tradeoff", "calibrations", [768], "not fewer than calibrate.images 768"),
        ("evaluate", "resamples", 10, "evaluate.resamples"),
        ("evaluate", "score", "dice", "no score of data.task classification; choose one of accuracy"),
        ("train", "patch", 64, "train.patch is for task segmentation"),
        ("data", "task", "segmentation", "needs the section masks"),
        ("register", "max_drop", 2, "register.max_drop"),
    ],
)
def test_a_wrong_value_is_named_in_one_sentence(
    section: str, key: str, value: object, said: str, values: dict[str, Any], tmp_path: Path
) -> None:
    values["tradeoff"]["enabled"] = True
    values[section][key] = value
    with pytest.raises(ParamsError) as raised:
        read(values, tmp_path)
    message = str(raised.value)
    assert "params.yaml" in message
    assert said in message
    assert "\n" not in message


def test_no_parameter_has_a_default(values: dict[str, Any], tmp_path: Path) -> None:
    missing = [(section, key) for section, keys in values.items() if isinstance(keys, dict) for key in keys]
    for section, key in missing:
        fewer = {**values, section: {name: value for name, value in values[section].items() if name != key}}
        with pytest.raises(ParamsError, match=rf"{section}\.{key} is missing; add it"):
            read(fewer, tmp_path)


def test_plugins_are_imported_before_their_methods_are_looked_up(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ownmethods.py").write_text("from hscc.methods import METHODS, Tucker\nMETHODS['mine'] = Tucker()\n")
    monkeypatch.setitem(METHODS, "mine", METHODS["tucker"])  # what the module enters goes again
    del METHODS["mine"]
    values["plugins"] = ["ownmethods"]
    values["compress"]["cells"] = ["mine-macs3-seed0"]
    assert read(values, tmp_path).compress.cells[0].method == "mine"
    values["plugins"] = ["nobodys"]
    with pytest.raises(HSCCError, match="nobodys"):
        read(values, tmp_path)


def test_a_missing_section_is_named(values: dict[str, Any], tmp_path: Path) -> None:
    del values["calibrate"]
    with pytest.raises(ParamsError, match="calibrate is missing; add it"):
        read(values, tmp_path)


@pytest.mark.parametrize("loaded", [None, [1], "text"])
def test_a_file_that_is_no_mapping_is_refused(loaded: object, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="must be a mapping of sections"):
        read(loaded, tmp_path)


@pytest.mark.parametrize(("content", "where"), [(b"data:\n\tseed: 0\n", "at line 2"), (b"\xff\xfe\x00", "UTF-8")])
def test_a_file_that_is_no_yaml_is_refused(content: bytes, where: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=where):
        read_params(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml does not exist"):
        read_params(tmp_path / "params.yaml")


def test_parameters_do_not_change_after_reading(values: dict[str, Any]) -> None:
    params = Params.model_validate(values)
    with pytest.raises(ValueError, match="frozen"):
        params.train.epochs = 5


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("evaluate", "score", "accuracy", "no score of data.task segmentation; choose one of dice"),
        ("evaluate", "metrics", ["ece"], "evaluate.metrics"),
        ("train", "sizes", [128], "train.sizes is for whole images"),
        ("train", "label_smoothing", 0.1, "train.label_smoothing is for task classification"),
        ("train", "class_weights", "balanced", "train.class_weights is for task classification"),
        ("tradeoff", "enabled", True, "tradeoff is for task classification"),
    ],
)
def test_what_a_segmentation_cannot_do_is_refused(
    tmp_path: Path, section: str, key: str, value: object, said: str
) -> None:
    given = yaml.safe_load((ROOT / "examples" / "retinal-vessels" / "params.yaml").read_text())
    given[section][key] = value
    with pytest.raises(ParamsError, match=re.escape(said)):
        read(given, tmp_path)
