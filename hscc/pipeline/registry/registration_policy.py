"""Which compressed network, if any, is registered: that of `Results.chosen`, where it meets the requirements."""

from __future__ import annotations

from hscc.pipeline.statistics.schema import Record, Requirements, Results


class Decision(Record):
    """What the requirements say about the candidates of a results table.

    Attributes
    ----------
    registered, model_sha256 : str or None
        Name and file of the network to register; None when none meets the requirements.
    why : str
        In one sentence, why that one or why none.
    requirements : Requirements
        What was required.
    passed_over : tuple of str
        Names of the others that meet them, the fastest first.
    rejected : dict of str to (tuple of str)
        For each that does not, by name, every reason.
    """

    registered: str | None
    model_sha256: str | None
    why: str
    requirements: Requirements
    passed_over: tuple[str, ...]
    rejected: dict[str, tuple[str, ...]]


def decide(results: Results) -> Decision:
    """Decide about the candidates of a results table."""
    shortfalls = {row.name: tuple(results.shortfalls(row)) for row in results.candidates()}
    rejected = {name: reasons for name, reasons in sorted(shortfalls.items()) if reasons}
    passing = results.passing()
    chosen = passing[0] if passing else None
    if chosen is None:
        why = f"None of the {len(shortfalls)} candidates meets the requirements."
    elif len(passing) == 1:
        why = f"{chosen.name} is the only one of {len(shortfalls)} candidates that meets the requirements."
    else:
        speed = chosen.lowest_speedup
        measured = "" if speed is None else f": {speed:.2f} times faster or more at every batch size"
        why = f"{chosen.name} is the fastest of the {len(passing)} candidates that meet the requirements{measured}."
    return Decision(
        registered=chosen and chosen.name,
        model_sha256=chosen and chosen.model_sha256,
        why=why,
        requirements=results.requirements,
        passed_over=tuple(row.name for row in passing[1:]),
        rejected=rejected,
    )
