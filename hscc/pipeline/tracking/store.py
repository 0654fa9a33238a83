"""Keep the loggers of tools from printing tracebacks of errors that are caught and told in one sentence."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hscc.errors import HSCCError
from hscc.pipeline import telemetry
from hscc.pipeline.redaction import MASK, redact

_NOISY = ("mlflow.store.db.utils", "mlflow.utils.rest_utils", "urllib3.connectionpool")


@contextmanager
def hushed() -> Iterator[None]:
    """Let MLflow's stores and the HTTP client say only what is critical while the block runs."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "hscc"

_SETTINGS = {
    # MLflow's own defaults wait two minutes a try and try eight times.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # It would print the store's address, with a password in it.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_LONGEST_REASON = 160  # characters
_MISTAKE = "INVALID_PARAMETER_VALUE"  # what MLflow calls an address that it cannot make sense of


class StoreDown(Exception):  # noqa: N818  a condition to wait out, not a user's error
    """The MLflow store does not answer now; the message says in a few words how."""


def tracking_uri(workspace: Path = Path(".")) -> str:
    """Return where figures and models are recorded.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    str
        ``MLFLOW_TRACKING_URI`` where set, else the SQLite file ``mlflow.db`` in the workspace.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(workspace / 'mlflow.db').resolve()}"


def shown_uri(workspace: Path = Path(".")) -> str:
    """Return the store as a reader may see it: no credentials, and no folder of this machine for the default."""
    return redact(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def open_client(workspace: Path = Path(".")) -> MlflowClient:
    """Open the store and make the experiment ``hscc`` where it does not exist.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    MlflowClient
        A client of the store.

    Raises
    ------
    HSCCError
        If the store's address makes no sense.
    StoreDown
        If the store does not answer.
    """
    telemetry.switch_off()
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    uri = tracking_uri(workspace)
    try:
        with answering():
            client = MlflowClient(tracking_uri=uri)
            experiment_id(client, workspace)
    except ModuleNotFoundError as error:
        raise HSCCError(
            f"the MLflow store {redact(uri)} needs the Python package {error.name}, which is not installed; "
            f"`pip install {error.name}`."
        ) from error
    except StoreDown as error:
        if getattr(error.__cause__, "error_code", None) == _MISTAKE:
            raise HSCCError(
                f"the MLflow store {redact(uri)} cannot be opened ({error}); mend MLFLOW_TRACKING_URI or unset it."
            ) from error
        raise
    return client


def experiment_id(client: MlflowClient, workspace: Path = Path(".")) -> str:
    """Return the id of the experiment ``hscc``, making it where it does not exist.

    Parameters
    ----------
    client : MlflowClient
        Client of the tracking store.
    workspace : Path
        Folder of ``dvc.yaml``; a local store keeps its artifacts in ``mlruns/`` there.

    Returns
    -------
    str
        The experiment's id.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        local = None if os.environ.get("MLFLOW_TRACKING_URI") else (workspace / "mlruns").resolve().as_uri()
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=local))
        except MlflowException as error:
            found = client.get_experiment_by_name(EXPERIMENT)  # another process may have made it meanwhile
            if found is None:
                raise error
    return str(found.experiment_id)


@contextmanager
def answering() -> Iterator[None]:
    """Turn every way in which a store can fail to answer into `StoreDown`, and hush the clients' own tracebacks.

    Raises
    ------
    StoreDown
        If a call inside fails because of the store, the network or a locked or damaged database.
    """
    import requests
    from mlflow.exceptions import MlflowException

    with hushed():
        try:
            yield
        except (MlflowException, requests.RequestException) as error:
            raise StoreDown(_first_line(error)) from error
        except Exception as error:
            if not _is_database_error(error):
                raise
            raise StoreDown(_first_line(error)) from error


def _is_database_error(error: BaseException) -> bool:
    from sqlalchemy.exc import SQLAlchemyError  # a damaged file passes through MLflow as this

    return isinstance(error, SQLAlchemyError)


def _first_line(error: Exception) -> str:
    # MLflow wraps a database's error in prose of its own; what the driver said is shorter and says more.
    told = getattr(error.__cause__ or error, "orig", None) or error
    lines = str(told).strip().splitlines()
    text = redact(lines[0].rstrip(". ")) if lines else type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def server_address(workspace: Path = Path(".")) -> str | None:
    """Address of the tracking server's pages, without credentials; None where the store is no server."""
    place = shown_uri(workspace).replace(f"{MASK}@", "")
    return place.rstrip("/") if place.startswith(("http://", "https://")) else None


def run_page(client: MlflowClient, run_id: str, workspace: Path = Path(".")) -> str | None:
    """Address of a run's page, for a browser.

    Parameters
    ----------
    client : MlflowClient
        Of `open_client`.
    run_id : str
        MLflow's id of the run.
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    str or None
        None where the store is no server or does not answer.
    """
    place = server_address(workspace)
    if place is None:
        return None
    try:
        with answering():
            return f"{place}/#/experiments/{experiment_id(client, workspace)}/runs/{run_id}"
    except StoreDown:
        return None
