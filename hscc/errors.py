"""The errors a user can fix.

Every message is one sentence that names the file, folder or parameter at fault and says what to do.
The command line prints it without a traceback and exits with status 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class HSCCError(Exception):
    """Base of every error that this package raises on purpose."""


class ParamsError(HSCCError):
    """A parameter in ``params.yaml`` (or its spelling) is not usable."""


class DataError(HSCCError):
    """A data set, a manifest or an image is missing, damaged or not what was pinned."""


class ArtifactError(HSCCError):
    """A file that an earlier stage should have written is missing or does not fit."""


class TrainingError(HSCCError):
    """Training or fine-tuning diverges."""


class CompressionError(HSCCError):
    """A network cannot be compressed, or not with these settings."""


class BudgetError(CompressionError):
    """A budget is not above 1, absent, of an unknown resource, or beyond what any structure can reach."""


class ExportError(HSCCError):
    """A network cannot be exported, or its export computes something else."""


class EngineError(HSCCError):
    """The engine's C++ library is missing, or a network cannot be run with what it is given."""


class MissingExtraError(HSCCError, ImportError):
    """A package is missing that an optional extra of this one brings."""


@contextmanager
def requires_extra(extra: str, what: str) -> Iterator[None]:
    """Say which extra brings a package that the imports in the block do not find.

    Parameters
    ----------
    extra : str
        An optional dependency group of this package, such as "onnx".
    what : str
        What needs it, as the user wrote it.

    Raises
    ------
    MissingExtraError
        If a package other than this one is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "hscc":
            raise
        raise MissingExtraError(
            f"{what} needs {error.name}; install it with: pip install 'hscc[{extra}]'.", name=error.name
        ) from error


def first_line(error: Exception) -> str:
    """First line of another library's error without its full stop, for a sentence of our own; its class if empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Write the first of many names out and count the rest, for a sentence."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
