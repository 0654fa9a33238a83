"""The registry's door: a client, MLflow's global state for the calls that need it, and errors that say what to mend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hscc.errors import HSCCError
from hscc.pipeline import telemetry
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking.store import hushed

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STORE = "MLFLOW_TRACKING_URI"


class RegistryError(HSCCError):
    """The MLflow registry does not answer, or does not hold what is asked for."""


def connect(uri: str) -> MlflowClient:
    """Make a client of the store at an address, which also holds the registry."""
    telemetry.switch_off()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextmanager
def as_registry_error(uri: str, doing: str = "read") -> Iterator[None]:
    """Turn what MLflow and its database raise into one sentence.

    Parameters
    ----------
    uri : str
        The store.
    doing : str
        What cannot be done with it.

    Raises
    ------
    RegistryError
        If the store fails inside.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError  # a damaged file passes through MLflow as this

    try:
        with hushed():
            yield
    except (MlflowException, SQLAlchemyError) as error:
        told = getattr(error.__cause__ or error, "orig", None) or error
        reason = redact(str(told).splitlines()[0])
        raise RegistryError(
            f"the MLflow registry {redact(uri)} cannot be {doing} ({reason}); start it, free it, or mend "
            "MLFLOW_TRACKING_URI."
        ) from error


@contextmanager
def store(uri: str) -> Iterator[None]:
    """Point MLflow's global state at a store, and back: it also sets the environment variable."""
    telemetry.switch_off()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # ten bars of 1/1 say nothing
    import mlflow

    before = os.environ.get(_STORE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]
