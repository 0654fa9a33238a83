"""What planning has computed from a calibration already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hscc.factorisation.joint import Term
    from hscc.factorisation.spectra import LossWeighting
    from hscc.partitions.clusters import Grouping
    from hscc.partitions.regions import Partition
    from hscc.search.candidates import Option, TermsOption


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
    _terms: dict[object, list[Term]] = field(default_factory=dict, repr=False)

    def option(
        self, key: OptionKey, compute: Callable[[], Option | TermsOption | None]
    ) -> Option | TermsOption | None:  # fmt: skip
        """Return a structure with its spectra, computed on the first call; None where the layer cannot take it."""
        if key not in self._options:
            self._options[key] = compute()
        return self._options[key]

    def terms(self, key: object, compute: Callable[[], list[Term]]) -> list[Term]:
        """Return the refined terms of one layer, computed on the first call."""
        if key not in self._terms:
            self._terms[key] = compute()
        return self._terms[key]

    def forget_spectra(self) -> None:
        """Free the memory of all spectra and refined terms; `verified` stays."""
        self._options.clear()
        self._terms.clear()

    def __len__(self) -> int:
        """Count the structures that are kept."""
        return len(self._options)
