"""Promotion, rollback, prediction and serving over one registry with three versions."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from hscc.errors import DataError
from hscc.export.card import NOTICE
from hscc.files import file_sha256
from hscc.pipeline.commands import predict
from hscc.pipeline.commands.promote import PromotionRefused, Proposal, consider, promote, roll_back
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.registry.aliases import current_user
from hscc.pipeline.registry.audit_log import CHAMPION, alias_of, read_audit_log
from hscc.pipeline.registry.connection import RegistryError
from hscc.pipeline.registry.versions import resolve
from hscc.pipeline.serving.served_model import _picture
from hscc.pipeline.stages import register
from hscc.pipeline.tracking import tracking_uri
from tests.pipeline.pictures import uniform
from tests.pipeline.registered import NAME, head, params, write_results


@pytest.fixture
def workspace(three_versions: Path, tmp_path: Path) -> Path:
    """A registry whose aliases a test may change."""
    shutil.copy(three_versions / "mlflow.db", tmp_path)
    return tmp_path


def champion(workspace: Path) -> str | None:
    return alias_of(NAME, CHAMPION, tracking_uri(workspace))


def png(path: Path) -> Path:
    Image.fromarray(head()).save(path)
    return path


def test_the_first_promotion_is_in_the_audit_log(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSCC_USER", "ada")
    proposal = promote(params(), workspace, "1", reason="the first")
    assert proposal.passes
    assert champion(workspace) == "1"
    (entry,) = read_audit_log(NAME, CHAMPION, tracking_uri(workspace))
    assert (entry.before, entry.after, entry.by, entry.reason, entry.done) == (None, "1", "ada", "the first", True)
    assert any("its dense network" in text for text in entry.findings)


def test_a_refusal_names_the_rule_and_by_how_much_and_changes_nothing(workspace: Path) -> None:
    promote(params(), workspace, "1")
    with pytest.raises(PromotionRefused, match=r"version 3 .* accuracy: -23\.33 points against champion version 1"):
        promote(params(), workspace, "3")
    assert champion(workspace) == "1"
    assert not consider(params(), workspace, "3").passes
    assert len(read_audit_log(NAME, CHAMPION, tracking_uri(workspace))) == 1


def test_force_needs_a_reason_which_is_recorded(workspace: Path) -> None:
    with pytest.raises(PromotionRefused, match="--reason"):
        promote(params(), workspace, "3", force=True, reason=" ")
    assert champion(workspace) is None
    promote(params(), workspace, "3", force=True, reason="a study asks for it")
    (entry,) = read_audit_log(NAME, CHAMPION, tracking_uri(workspace))
    assert (entry.forced, entry.reason) == (True, "a study asks for it")
    assert entry.findings[0].startswith("NO accuracy")


def test_rollback_goes_back_step_by_step_and_then_says_so(workspace: Path) -> None:
    for version in ("1", "2"):
        promote(params(), workspace, version)
    promote(params(), workspace, "3", force=True, reason="to be undone")
    assert roll_back(params(), workspace, reason="worse").after == "2"
    assert roll_back(params(), workspace).after == "1"
    with pytest.raises(PromotionRefused, match="first champion"):
        roll_back(params(), workspace)
    with pytest.raises(PromotionRefused, match=r"version 1 .* already is the champion"):
        roll_back(params(), workspace, to="champion")
    assert roll_back(params(), workspace, to="3").after == "3"
    changes = [
        (entry.action, entry.before, entry.after) for entry in read_audit_log(NAME, CHAMPION, tracking_uri(workspace))
    ]
    assert changes[-3:] == [("rollback", "3", "2"), ("rollback", "2", "1"), ("rollback", "1", "3")]


def test_rollback_is_no_way_past_the_policy(workspace: Path) -> None:
    promote(params(), workspace, "1")
    with pytest.raises(PromotionRefused, match=r"version 3 of hscc-tiny never was the champion.*--version 3"):
        roll_back(params(), workspace, to="3")
    assert alias_of(NAME, CHAMPION, tracking_uri(workspace)) == "1"


def test_rollback_without_a_champion_is_refused(workspace: Path) -> None:
    with pytest.raises(PromotionRefused, match="no champion"):
        roll_back(params(), workspace)


def test_a_champion_that_changed_meanwhile_is_not_overwritten(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(params(), workspace, "1")

    def judged_slowly(*args: Any) -> Proposal:
        proposal = consider(*args)
        MlflowClient(tracking_uri(workspace)).set_registered_model_alias(NAME, CHAMPION, "3")
        return proposal

    monkeypatch.setattr("hscc.pipeline.commands.promote.consider", judged_slowly)
    with pytest.raises(RegistryError, match="champion of hscc-tiny changed from version 1 to version 3 meanwhile"):
        promote(params(), workspace, "2")
    assert champion(workspace) == "3"
    assert len(read_audit_log(NAME, CHAMPION, tracking_uri(workspace))) == 1


def test_the_audit_log_shows_a_kill_between_entry_and_change(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(params(), workspace, "1")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", killed)
    with pytest.raises(KeyboardInterrupt):
        promote(params(), workspace, "2")
    monkeypatch.undo()
    uri = tracking_uri(workspace)
    assert champion(workspace) == "1"
    assert [entry.done for entry in read_audit_log(NAME, CHAMPION, uri)] == [True, False]
    promote(params(), workspace, "2")
    assert [entry.done for entry in read_audit_log(NAME, CHAMPION, uri)] == [True, False, True]
    assert roll_back(params(), workspace).after == "1"


def test_without_the_required_approval_the_command_names_the_flow(workspace: Path) -> None:
    asking = params(approval=True)
    with pytest.raises(PromotionRefused, match=r"run the flow promote/promote, .* --force --reason"):
        promote(asking, workspace, "1")
    assert champion(workspace) is None
    promote(asking, workspace, "1", reason="seen the report", by="ada")  # as the flow does
    promote(asking, workspace, "2", force=True, reason="nobody is in")
    users = [(entry.by, entry.forced) for entry in read_audit_log(NAME, CHAMPION, tracking_uri(workspace))]
    assert users == [("ada", False), (current_user(), True)]


def test_an_early_version_that_does_not_say_what_it_was_trained_on_is_refused(workspace: Path) -> None:
    MlflowClient(tracking_uri(workspace)).delete_model_version_tag(NAME, "1", "phantom")
    with pytest.raises(PromotionRefused, match=r"no phantom: does not say .*; run `hscc register` again"):
        promote(params(), workspace, "1")
    assert champion(workspace) is None


def test_no_version_of_phantom_images_is_promoted(empty_store: Path, tmp_path: Path) -> None:
    shutil.copy(empty_store, tmp_path)
    write_results(tmp_path, phantom=True)
    register.run(params(), tmp_path)
    with pytest.raises(PromotionRefused, match="no phantom: was trained on drawn images"):
        promote(params(), tmp_path)


def test_prediction_names_the_version_and_draws_heat_maps(workspace: Path, tmp_path: Path) -> None:
    promote(params(), workspace, "2")
    files = [png(tmp_path / "one.png"), png(tmp_path / "two.png")]
    version, answers = predict.run(params(), files, workspace, which=CHAMPION, heatmaps=tmp_path / "heat")
    assert version.number == "2"
    assert sum(answers[0].probabilities.values()) == pytest.approx(1.0)
    assert answers[0].label == max(answers[0].probabilities, key=lambda name: answers[0].probabilities[name])
    with Image.open(tmp_path / "heat/one-heatmap.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGB", (96, 96))
    document = json.loads(predict.as_json(answers, version))
    assert (document["notice"], document["version"], len(document["answers"])) == (NOTICE, "2", 2)
    assert predict.as_table(answers, version).row_count == 2


def test_prediction_refuses_what_is_no_slice_before_it_asks_the_registry(tmp_path: Path) -> None:
    Image.new("RGB", (200, 200), (250, 10, 10)).save(tmp_path / "red.png")
    with pytest.raises(DataError, match="in colour"):
        predict.run(params(), [tmp_path / "red.png"], tmp_path, which=CHAMPION)


def test_a_served_version_answers_files_and_pixels_and_refuses_the_rest(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(workspace))
    served = mlflow.pyfunc.load_model(f"models:/{NAME}/2")
    content = png(tmp_path / "one.png").read_bytes()
    by_file = served.predict(pd.DataFrame({"image": [content]}))
    by_pixels = served.predict(pd.DataFrame({"pixels": [head().tolist()]}))
    pd.testing.assert_frame_equal(by_file, by_pixels)
    _, (answer,) = predict.run(params(), [tmp_path / "one.png"], workspace, which="2")
    assert by_file["class"][0] == answer.label
    assert by_file[answer.label][0] == pytest.approx(answer.probabilities[answer.label])
    assert by_file["notice"][0] == NOTICE
    for refused in (b"hello", uniform()):
        with pytest.raises(MlflowException, match="row 0"):
            served.predict(pd.DataFrame({"image": [refused]}))


def test_the_registered_file_alone_gives_the_same_to_whoever_has_only_onnxruntime(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(workspace))
    path = mlflow.artifacts.download_artifacts(f"models:/{NAME}/2/artifacts/model.onnx", dst_path=str(tmp_path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    card = session.get_modelmeta().custom_metadata_map
    assert json.loads(card["classes"]) == list(CLASSES)
    assert json.loads(card["scores"])["accuracy"] == 0.9
    assert (card["backbone"], card["method"], card["protocol"]) == ("alexnet", "hscc", "grouped")
    colours = np.stack([head()] * 3, axis=2)
    (plain,) = session.run(["probabilities"], {"image": colours[np.newaxis]})
    _, (answer,) = predict.run(params(), [png(tmp_path / "one.png")], workspace, which="2")
    np.testing.assert_allclose(plain[0], list(answer.probabilities.values()), atol=1e-6)
    served = mlflow.pyfunc.load_model(f"models:/{NAME}/2").predict(pd.DataFrame({"pixels": [head().tolist()]}))
    np.testing.assert_allclose(plain[0], served[list(CLASSES)].to_numpy(np.float64)[0], atol=1e-6)


def test_the_evaluated_network_is_kept_beside_it(three_versions: Path) -> None:
    version = resolve(NAME, "2", tracking_uri(three_versions))
    (kept,) = _folder_of_version(three_versions).rglob("network.onnx")
    assert file_sha256(kept) == version.tags["model_sha256"] != version.deployed_sha256


def test_a_served_file_that_is_damaged_is_not_served(three_versions: Path, tmp_path: Path) -> None:
    found = shutil.copytree(_folder_of_version(three_versions), tmp_path / "copy")
    (network,) = found.rglob("model.onnx")
    network.write_bytes(network.read_bytes()[:-10])
    with pytest.raises(Exception, match="damaged or is not the file"):
        mlflow.pyfunc.load_model(str(found))


def test_json_images_are_base64() -> None:
    picture = _picture({"image": base64.b64encode(uniform()).decode()}, "row 0", None)
    assert picture.grey.shape == (100, 100)
    for row in ({"image": "no base64!"}, {"image": None}, {"pixels": [[1, 2], [3]]}, {"pixels": [[0, 300]]}):
        with pytest.raises(DataError, match="row 0"):
            _picture(row, "row 0", None)


def _folder_of_version(registered: Path) -> Path:
    source: Any = MlflowClient(tracking_uri(registered)).get_model_version(NAME, "2").source
    return registered / "mlruns" / "models" / str(source).removeprefix("models:/") / "artifacts"


def test_every_class_has_its_column(three_versions: Path) -> None:
    schema = mlflow.models.Model.load(str(_folder_of_version(three_versions))).get_output_schema()
    assert set(CLASSES) <= set(schema.input_names())
