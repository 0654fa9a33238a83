"""Versions of a registered model: which there are, their tags, and their files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hscc.files import file_sha256, replacing
from hscc.pipeline.registry.connection import RegistryError, connect, registry_errors
from hscc.pipeline.tracking.store import global_store

if TYPE_CHECKING:
    from hscc.pipeline.registry.promotion_policy import Standing

HASH_TAG = "model_sha256"  # of the evaluated network
DEPLOYED_TAG = "deployed_sha256"
ENGINE_TAG = "engine_sha256"  # of the deployed network's file for the engine; early versions have none
PHANTOM_TAG = "phantom"  # true or false: trained on phantom images
# Files of a version: the deployed and the evaluated network, and what is known of them.
DEPLOYED, NETWORK, PLAN, EVIDENCE, SCORES = "model.onnx", "network.onnx", "plan.json", "evidence.csv", "scores.json"
ENGINE_FILE = "engine.hscc"

_FOLDER = "artifacts"  # where MLflow puts a model's files inside it


class VersionDamaged(RegistryError):  # noqa: N818  a state of the version
    """A version's files are lost or are not what was registered."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes
    ----------
    name : str
        The registered model.
    number : str
        The version.
    aliases : tuple of str
        That point at it.
    tags : mapping of str to str
        Where it comes from and what it scores.
    run_id : str
        Run that registered it.
    created : int
        Milliseconds since 1970.
    """

    name: str
    number: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    run_id: str
    created: int

    @property
    def deployed_sha256(self) -> str:
        """Hash of the deployed file; early versions deploy the evaluated network itself."""
        return self.tags.get(DEPLOYED_TAG) or self.tags.get(HASH_TAG, "")

    @property
    def engine_sha256(self) -> str:
        """Hash of the file for the engine; empty where there is none."""
        return self.tags.get(ENGINE_TAG, "")


def list_versions(name: str, uri: str) -> list[Version]:
    """List the versions of a registered model, the newest first; empty where there is no such model."""
    with registry_errors(uri):
        client = connect(uri)
        found = client.search_model_versions(f"name = '{name}'")
        aliases = client.get_registered_model(name).aliases if found else {}
    versions = [
        Version(
            name=name,
            number=str(entry.version),
            aliases=tuple(sorted(alias for alias, number in aliases.items() if str(number) == str(entry.version))),
            tags=dict(entry.tags),
            run_id=str(entry.run_id),
            created=int(entry.creation_timestamp),
        )
        for entry in found
    ]
    return sorted(versions, key=lambda version: -int(version.number))


def find(name: str, which: str, uri: str) -> Version | None:
    """Find a version by its number or by an alias; None where there is none."""
    return next((entry for entry in list_versions(name, uri) if which == entry.number or which in entry.aliases), None)


def resolve(name: str, which: str, uri: str) -> Version:
    """Find a version by its number or by an alias.

    Raises
    ------
    RegistryError
        If there is none.
    """
    found = find(name, which, uri)
    if found is None:
        raise RegistryError(
            f"the registry holds no version {which!r} of {name}; `hscc registry` lists what there is, `hscc register` "
            "and `hscc promote` make some."
        )
    return found


def find_by_hash(name: str, sha256: str, uri: str) -> str | None:
    """Number of the newest version whose evaluated network has a hash; None where there is none.

    Raises
    ------
    RegistryError
        If the store cannot be read.
    """
    with registry_errors(uri):
        found = connect(uri).search_model_versions(f"name = '{name}' and tags.`{HASH_TAG}` = '{sha256}'")
    return max((str(entry.version) for entry in found), key=int, default=None)


def read_standing(version: Version, uri: str) -> Standing:
    """Read the scores and test answers of a version, for the promotion policy.

    Raises
    ------
    RegistryError
        If its files cannot be read.
    ArtifactError
        If its test answers are damaged.
    """
    from hscc.pipeline.registry.answers import read_evidence
    from hscc.pipeline.registry.promotion_policy import Standing

    with tempfile.TemporaryDirectory() as folder:
        evidence = read_evidence(_download(version, EVIDENCE, uri, Path(folder)))
        scores = _download(version, SCORES, uri, Path(folder))
        try:
            figures: dict[str, Any] = json.loads(scores.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RegistryError(
                f"the scores of version {version.number} of {version.name} are damaged; register it again."
            ) from error
    return Standing(version.number, version.tags, figures, evidence)


def fetch_network(version: Version, uri: str, cache: Path) -> Path:
    """Bring a version's deployed ONNX file to this machine, once.

    Parameters
    ----------
    version : Version
        The version.
    uri : str
        The store.
    cache : Path
        Folder of the files, named by their hash.

    Returns
    -------
    Path
        The file, checked against its hash.

    Raises
    ------
    RegistryError
        If it cannot be downloaded, or is not the file that was registered.
    """
    return _fetch(version, DEPLOYED, version.deployed_sha256, uri, cache)


def fetch_engine_file(version: Version, uri: str, cache: Path) -> Path:
    """Bring a version's file for the engine to this machine, once; otherwise as `fetch_network`.

    Raises
    ------
    RegistryError
        If the version has none, or as `fetch_network`.
    """
    if not version.engine_sha256:
        raise RegistryError(
            f"version {version.number} of {version.name} holds no file for the engine; use --runtime onnxruntime, or "
            "run `hscc register` again."
        )
    return _fetch(version, ENGINE_FILE, version.engine_sha256, uri, cache)


def _fetch(version: Version, name: str, sha256: str, uri: str, cache: Path) -> Path:
    target = cache / f"{sha256}{Path(name).suffix}"
    if target.is_file() and file_sha256(target) == sha256:
        return target
    with replacing(target, shared=True) as new:
        found = _download(version, name, uri, new.parent)
        if file_sha256(found) != sha256:
            raise VersionDamaged(
                f"the network of version {version.number} of {version.name} is damaged in the registry; run "
                "`hscc register` again, or roll back."
            )
        found.rename(new)
    return target


def is_intact(version: Version, uri: str) -> bool:
    """Whether the registry still holds a version's deployed network, byte for byte."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetch_network(version, uri, Path(folder))
        except VersionDamaged:
            return False
    return True


def _download(version: Version, name: str, uri: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    source = f"models:/{version.name}/{version.number}/{_FOLDER}/{name}"
    with global_store(uri):
        try:
            return Path(download_artifacts(artifact_uri=source, dst_path=str(folder)))
        except (MlflowException, OSError) as error:
            with registry_errors(uri):
                connect(uri).get_model_version(version.name, version.number)
            # The registry answers, so the file is missing.
            raise VersionDamaged(
                f"the registry lacks {name} of version {version.number} of {version.name}; run `hscc register` again, "
                "or roll back."
            ) from error
