"""Connections to the MLflow registry, and errors that say how to fix them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hscc.errors import HSCCError
from hscc.pipeline import telemetry
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking.store import StoreDown, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient


class RegistryError(HSCCError):
    """The MLflow registry does not answer, or lacks what was requested."""


def connect(uri: str) -> MlflowClient:
    """Make a client of the store at an address, which also holds the registry."""
    telemetry.switch_off()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextmanager
def registry_errors(uri: str, doing: str = "read") -> Iterator[None]:
    """Turn failures of the store into a `RegistryError` of one sentence.

    Parameters
    ----------
    uri : str
        The store.
    doing : str
        What cannot be done with it, for the message: ``read`` or ``written``.

    Raises
    ------
    RegistryError
        If the store fails inside.
    """
    try:
        with store_errors():
            yield
    except StoreDown as error:
        raise RegistryError(
            f"the MLflow registry {redact(uri)} cannot be {doing} ({error}); start it, free it, or correct "
            "MLFLOW_TRACKING_URI."
        ) from error
