"""The MLflow store: its address, a client for it, and its failures as one kind of error."""

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

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "hscc"

_SETTINGS = {
    # MLflow's own defaults wait two minutes per request and try eight times.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # It would print the store's address, with a password in it.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_LONGEST_REASON = 160  # characters
_BAD_ADDRESS = "INVALID_PARAMETER_VALUE"  # MLflow's code for an address that it cannot parse
_NOISY = ("mlflow.store.db.utils", "mlflow.utils.rest_utils", "urllib3.connectionpool")


class StoreDown(Exception):  # noqa: N818  a condition to wait out, not a user's error
    """The MLflow store does not answer now; the message says in a few words how."""


def tracking_uri(workspace: Path = Path(".")) -> str:
    """Return the store's address: ``MLFLOW_TRACKING_URI``, else the SQLite file ``mlflow.db`` in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(workspace / 'mlflow.db').resolve()}"


def shown_uri(workspace: Path = Path(".")) -> str:
    """Return the store's address without credentials, and without a folder of this machine for the default."""
    return redact(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def server_address(workspace: Path = Path(".")) -> str | None:
    """Address of the tracking server's pages, without credentials; None where the store is no server."""
    address = shown_uri(workspace).replace(f"{MASK}@", "")
    return address.rstrip("/") if address.startswith(("http://", "https://")) else None


def open_client(workspace: Path = Path(".")) -> MlflowClient:
    """Open the store and create the experiment ``hscc`` where it does not exist.

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
        If the store's address is unusable.
    StoreDown
        If the store does not answer.
    """
    telemetry.switch_off()
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    uri = tracking_uri(workspace)
    try:
        with store_errors():
            client = MlflowClient(tracking_uri=uri)
            experiment_id(client, workspace)
    except ModuleNotFoundError as error:
        raise HSCCError(
            f"the MLflow store {redact(uri)} needs the Python package {error.name}, which is not installed; "
            f"`pip install {error.name}`."
        ) from error
    except StoreDown as error:
        if getattr(error.__cause__, "error_code", None) == _BAD_ADDRESS:
            raise HSCCError(
                f"the MLflow store {redact(uri)} cannot be opened ({error}); correct or unset MLFLOW_TRACKING_URI."
            ) from error
        raise
    return client


def experiment_id(client: MlflowClient, workspace: Path = Path(".")) -> str:
    """Return the id of the experiment ``hscc``, created where it does not exist.

    A local store keeps its artifacts in ``mlruns/`` of the workspace.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        local = None if os.environ.get("MLFLOW_TRACKING_URI") else (workspace / "mlruns").resolve().as_uri()
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=local))
        except MlflowException as error:
            found = client.get_experiment_by_name(EXPERIMENT)  # another process may have created it meanwhile
            if found is None:
                raise error
    return str(found.experiment_id)


def run_page(client: MlflowClient, run_id: str, workspace: Path = Path(".")) -> str | None:
    """Address of a run's page in a browser; None where the store is no server or does not answer."""
    address = server_address(workspace)
    if address is None:
        return None
    try:
        with store_errors():
            return f"{address}/#/experiments/{experiment_id(client, workspace)}/runs/{run_id}"
    except StoreDown:
        return None


@contextmanager
def global_store(uri: str) -> Iterator[None]:
    """Point MLflow's global state at a store, for the calls that take no address, and back."""
    telemetry.switch_off()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # ten bars of 1/1 say nothing
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")  # set_tracking_uri sets it too
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn every way in which a store can fail into `StoreDown`, without the tracebacks that its clients log.

    Raises
    ------
    StoreDown
        If a call inside fails because of the store, the network or a locked or damaged database.
    """
    import requests
    from mlflow.exceptions import MlflowException

    with _suppressed_logging():
        try:
            yield
        except (MlflowException, requests.RequestException) as error:
            raise StoreDown(_reason(error)) from error
        except Exception as error:
            from sqlalchemy.exc import SQLAlchemyError  # a damaged file passes through MLflow as this

            if not isinstance(error, SQLAlchemyError):
                raise
            raise StoreDown(_reason(error)) from error


@contextmanager
def _suppressed_logging() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _NOISY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _reason(error: Exception) -> str:
    # MLflow wraps a database's error in prose of its own; what the driver said is shorter and says more.
    lines = str(getattr(error.__cause__ or error, "orig", None) or error).strip().splitlines()
    text = redact(lines[0].rstrip(". ")) if lines else type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
