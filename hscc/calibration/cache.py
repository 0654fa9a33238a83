"""What planning has computed from a calibration already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from hscc.factorisation.spectra import LossWeighting
    from hscc.partitions.clusters import Grouping
    from hscc.partitions.regions import Partition
    from hscc.search.candidates import Option, TermsOption

_T = TypeVar("_T")


@dataclass(frozen=True)
class OptionKey:
    """What the spectra of one structure of one layer depend on."""

    layer: str
    partition: Partition
    grouping: Grouping
    projection: int
    weighting: LossWeighting
    term: tuple[int, int] | None = None


@dataclass
class PlanningCache:
    """Results that another budget on the same calibration finds again; never written to disk.

    Attributes
    ----------
    verified : tuple or None
        Identity of the tensors (object, address, version) that were found to be the calibration's network.
    """

    verified: tuple[object, ...] | None = None
    _options: dict[OptionKey, Option | TermsOption | None] = field(default_factory=dict, repr=False)
    _refined: dict[object, object] = field(default_factory=dict, repr=False)

    def option(
        self, key: OptionKey, compute: Callable[[], Option | TermsOption | None]
    ) -> Option | TermsOption | None:  # fmt: skip
        """Return a structure with its spectra, computed on the first call; None where the layer cannot take it."""
        if key not in self._options:
            self._options[key] = compute()
        return self._options[key]

    def refined(self, key: object, compute: Callable[[], _T]) -> _T:
        """Return the refined factors of one layer, computed on the first call."""
        if key not in self._refined:
            self._refined[key] = compute()
        return self._refined[key]  # type: ignore[return-value]

    def forget_spectra(self) -> None:
        """Free the memory of all spectra and refined factors; `verified` stays."""
        self._options.clear()
        self._refined.clear()

    def __len__(self) -> int:
        """Count the structures that are kept."""
        return len(self._options)
