"""What other packages add: methods, backbones and metrics by name, and modules that enter some when imported.

A package names what it adds in its own ``pyproject.toml``; nothing needs to be imported::

    [project.entry-points."hscc.methods"]
    mine = "my_package.methods:MyMethod"

The groups are ``hscc.methods``, ``hscc.backbones``, ``hscc.metrics`` and ``hscc.resources``, one entry per name, and
``hscc.plugins`` for modules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from hscc.errors import HSCCError, first_line

MODULES = "hscc.plugins"  # the group of modules that are imported for what they enter

T = TypeVar("T")


class Registry(MutableMapping[str, T], Generic[T]):
    """Objects by name: those entered here, and the entry points of a group.

    An entry point is imported when its name is looked up, or with all others by ``values`` and ``items``; listing the
    names imports none.

    Parameters
    ----------
    group : str
        Group of entry points, such as "hscc.methods".
    entries : mapping of str to object, optional
        What this package brings; more can be assigned later.
    read : callable, optional
        Makes the object from what an entry point refers to; a ``TypeError`` that it raises says what is wrong with it.
        By default it is taken as it is.

    Raises
    ------
    KeyError
        On lookup, if the name is unknown.
    HSCCError
        On lookup, if the name is entered twice, or its entry point cannot be loaded.
    """

    def __init__(
        self, group: str, entries: Mapping[str, T] | None = None, read: Callable[[Any], T] = lambda value: value
    ) -> None:
        self.group, self._read = group, read
        self._entries: dict[str, T] = dict(entries or {})
        self._loaded: dict[EntryPoint, T] = {}

    def __getitem__(self, name: str) -> T:
        """Return an object, from its entry point if need be."""
        found = _entry_points(self.group, tuple(sys.path)).get(name, ())
        if not found:
            return self._entries[name]
        if len(found) > 1 or name in self._entries:
            others = " and ".join(sorted(map(_package, found)))
            here = ", and is in the registry already" if name in self._entries else ""
            raise HSCCError(
                f"{self.group}: the name {name!r} is an entry point of {others}{here}; rename one of them, or "
                "uninstall its package."
            )
        (entry,) = found
        if entry not in self._loaded:
            self._loaded[entry] = self._load(entry)
        return self._loaded[entry]

    def __setitem__(self, name: str, value: T) -> None:
        """Enter an object, or replace one."""
        self._entries[name] = value

    def __delitem__(self, name: str) -> None:
        """Remove what was entered here; an entry point stays as long as its package is installed."""
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """List names: those entered here, then those of entry points, sorted."""
        yield from self._entries
        yield from sorted(_entry_points(self.group, tuple(sys.path)).keys() - self._entries.keys())

    def __len__(self) -> int:
        """Count the names."""
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Whether a name is known; imports nothing."""
        return name in self._entries or name in _entry_points(self.group, tuple(sys.path))

    def name_of(self, value: T) -> str | None:
        """Name that an equal object has here, or None; of entry points, only those of its own package are loaded."""
        package = type(value).__module__.partition(".")[0]
        for name, entry in self._entries.items():
            if entry == value:
                return name
        for name, found in _entry_points(self.group, tuple(sys.path)).items():
            if found[0].module.partition(".")[0] == package and self[name] == value:
                return name
        return None

    def _load(self, entry: EntryPoint) -> T:
        try:
            return self._read(entry.load())
        except Exception as error:  # a plugin's import may raise anything
            raise HSCCError(
                f"{self.group}: {entry.name!r} of {_package(entry)} cannot be used ({first_line(error)}); fix its "
                f"entry point {entry.value!r}, or uninstall the package."
            ) from error


def load_plugins(names: Iterable[str] = (), folder: Path | None = None) -> None:
    """Import modules that enter methods, backbones or metrics, and those of the group ``hscc.plugins``.

    Parameters
    ----------
    names : iterable of str
        Of modules, such as ``plugins`` in ``params.yaml`` names them.
    folder : Path, optional
        Where modules that are not installed are looked for: the workspace.

    Raises
    ------
    HSCCError
        If one is missing or fails.
    """
    installed = [entry for entries in _entry_points(MODULES, tuple(sys.path)).values() for entry in entries]
    for entry in installed:
        _import(entry.module, f"the plugin {entry.name!r} of {_package(entry)}", "fix or uninstall the package")
    if folder is not None:
        sys.path.insert(0, str(folder.resolve()))
    try:
        for name in names:
            _import(name, f"plugins: the module {name!r}", "install its package, or take it out of plugins")
    finally:
        if folder is not None:
            sys.path.remove(str(folder.resolve()))


def import_from(folder: Path) -> None:
    """Let modules of a folder be imported by name from now on, as `python -m` does for the current one."""
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.insert(0, path)


def _import(module: str, what: str, fix: str) -> None:
    try:
        import_module(module)
    except Exception as error:  # a plugin's import may raise anything
        raise HSCCError(f"{what} cannot be imported ({first_line(error)}); {fix}.") from error


def entry_point_names(group: str) -> list[str]:
    """List the names of the entry points of a group, sorted; imports none of them."""
    return sorted(_entry_points(group, tuple(sys.path)))


@lru_cache(maxsize=64)
def _entry_points(group: str, path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Find the entry points of a group by name. They are looked up again when `sys.path` has changed."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=group):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
