"""What the sections of ``params.yaml`` share: unknown keys are errors, values have bounds and never change."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Protocol = Literal["grouped", "pooled", "official"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def known(name: str, registry: Collection[str], kind: str) -> str:
    """The name itself, if a registry has it.

    Parameters
    ----------
    name : str
        As written in ``params.yaml``.
    registry : collection of str
        Names to choose from.
    kind : str
        What is chosen, for the message.

    Returns
    -------
    str
        `name`.

    Raises
    ------
    ValueError
        If the registry lacks it. The message lists the names and the nearest of them.
    """
    if name in registry:
        return name
    close = difflib.get_close_matches(name, registry, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ValueError(f"{kind} {name!r} is unknown, choose one of {', '.join(sorted(registry))}{hint}")
