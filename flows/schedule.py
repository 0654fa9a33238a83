"""Which stage may begin next: all that it needs is there, and there is room."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flows.graph import Stage


class Schedule:
    """The progress of one run through the graph.

    A stage begins once all it needs is done. Stages that do not depend on a failed one still run: an hour of another
    cell is not thrown away. A stage marked ``alone`` runs with nothing beside it.

    Parameters
    ----------
    stages : Sequence[Stage]
        In topological order.
    workers : int
        Most stages that run at once.
    """

    def __init__(self, stages: Sequence[Stage], workers: int) -> None:
        self._waiting = {stage.address: stage for stage in stages}
        self._known = frozenset(self._waiting)
        self._workers = workers
        self._running: dict[str, Stage] = {}
        self._done: set[str] = set()
        self.total = len(stages)

    @property
    def running(self) -> Collection[str]:
        """Addresses of the stages that run now."""
        return self._running.keys()

    @property
    def done(self) -> int:
        """How many stages are up to date."""
        return len(self._done)

    @property
    def held_back(self) -> list[str]:
        """Addresses of the stages that have not begun."""
        return list(self._waiting)

    def candidates(self) -> list[Stage]:
        """Return the stages all of whose needs are done, in the graph's order, whether there is room or not."""
        return [stage for stage in self._waiting.values() if stage.needs & self._known <= self._done]

    def has_room(self, stage: Stage) -> bool:
        """Tell whether a stage may run beside those that run now."""
        if not self._running:
            return True
        alone = stage.alone or any(other.alone for other in self._running.values())
        return not alone and len(self._running) < self._workers

    def begin(self, stage: Stage) -> None:
        """Note that a stage runs."""
        self._running[stage.address] = self._waiting.pop(stage.address)

    def finish(self, stage: Stage) -> None:
        """Note that a stage is up to date, whether it had to run or not."""
        self._waiting.pop(stage.address, None)
        self._running.pop(stage.address, None)
        self._done.add(stage.address)

    def fail(self, stage: Stage) -> None:
        """Note that a stage failed; what needs it never becomes a candidate."""
        self._waiting.pop(stage.address, None)
        self._running.pop(stage.address, None)
