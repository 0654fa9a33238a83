"""What code a stage runs, as hashes that a comment does not change.

A stage depends on the modules that it imports, inside functions too, and on theirs in turn. A module's hash is taken of
its syntax tree without docstrings, so that comments, docstrings and layout of the source make no stage stale. What only
records or describes is left out; see `LEFT_OUT`.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from hscc.errors import ParamsError
from hscc.files import file_sha256

STAGES = "hscc.pipeline.stages"

LEFT_OUT = {
    "hscc": "the names of the public functions",
    "hscc.errors": "exceptions and their messages",
    "hscc.plugins": "finds methods, backbones and metrics by name",
    "hscc.pipeline.known_names": "names alone; what uses the objects imports them",
    "hscc.pipeline.layout": "where files are; dvc.yaml names those of each stage",
    "hscc.pipeline.params": "the schema of params.yaml; dvc.yaml names the values that a stage reads",
    "hscc.pipeline.redaction": "hides secrets in messages",
    "hscc.pipeline.tracking": "records in MLflow",
}
"""Packages and modules, with their submodules, that alter no result; the value says why."""

_READ_AS_FILES = {"register": ("hscc.pipeline.serving.served_model",)}  # MLflow gets the source of this module
_TAKE_PLUGINS = {"hscc.methods", "hscc.networks.backbones"}  # a stage that imports one may run a plugin


@dataclass(frozen=True)
class _Module:
    path: Path
    digest: str
    names: frozenset[str]  # of what it may import: modules, and things in them

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


def stage_names() -> list[str]:
    """List the stages of the graph that depend on code: the modules of `STAGES` but the stage ``code`` itself."""
    folder = _path(STAGES)
    assert folder is not None
    return sorted(path.stem for path in folder.parent.glob("*.py") if path.stem not in ("__init__", "code"))


def stage_code(stage: str, plugins: Collection[str] = ()) -> dict[str, str]:
    """Hash all that a stage runs or reads of the package.

    Parameters
    ----------
    stage : str
        Name of the stage and of its module.
    plugins : collection of str
        Modules of other packages that register methods or backbones, or hold the user's network.

    Returns
    -------
    dict of str to str
        Dotted names of modules, and paths of other files below the package's folder, to SHA-256, sorted.

    Raises
    ------
    ParamsError
        If a plugin cannot be found.
    """
    modules = _closure({f"{STAGES}.{stage}", *_READ_AS_FILES.get(stage, ())})
    if _TAKE_PLUGINS & modules.keys():
        for name in plugins:
            if _path(name) is None:
                raise ParamsError(
                    f"params.yaml names the module {name} (plugins or train.backbone), which cannot be found; put it "
                    "beside params.yaml, or install its package."
                )
        modules |= _closure(plugins)
    folders = {module.path.parent for name, module in modules.items() if "." in name or module.is_package}
    files = {path for folder in folders for path in _data_files(folder)}  # beside a lone module lies the workspace
    found = {name: module.digest for name, module in modules.items()}
    return dict(sorted({**found, **{_shown(path): file_sha256(path) for path in files}}.items()))


def is_left_out(name: str) -> bool:
    """Whether a module alters no result."""
    # The package itself is left out, not all that is in it.
    return name == "hscc" or any(name == left or name.startswith(f"{left}.") for left in LEFT_OUT if left != "hscc")


def code_digest(tree: ast.Module) -> str:
    """Hash parsed Python without comments, docstrings and layout, in the same way under all versions of Python."""
    return hashlib.sha256("".join(_canonical(tree)).encode()).hexdigest()


def _closure(roots: Collection[str]) -> dict[str, _Module]:
    found: dict[str, _Module] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = None if name in found or is_left_out(name) else _path(name)
        if path is None:
            continue
        found[name] = module = _read(path, name)
        tops = {name.partition(".")[0], "hscc"}
        waiting += [other for other in module.names if other.partition(".")[0] in tops]
        waiting += [name.rpartition(".")[0]] if "." in name else []  # importing it runs its package
    return found


@cache
def _read(path: Path, name: str) -> _Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _Module(path, code_digest(tree), frozenset(_names(tree, package)))


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parts = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        base = ".".join([*parts, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield from _names(child, package)


def _canonical(node: object) -> Iterator[str]:
    if isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for name, value in ast.iter_fields(node):
            if value is not None and value != []:  # newer versions of Python have more fields, empty ones
                yield f"{name}="
                yield from _canonical(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            if not (isinstance(item, ast.Expr) and _is_text(item.value)):
                yield from _canonical(item)
                yield ","
    else:
        yield repr(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@cache
def _path(name: str) -> Path | None:
    """Source of a module, found without importing its packages, which may take seconds; None where there is none."""
    top, *inner = name.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return None
    if not inner:
        return Path(spec.origin)
    base = Path(spec.origin).parent.joinpath(*inner)
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


@cache
def _data_files(folder: Path) -> tuple[Path, ...]:
    """Files that are not Python of a package, those in plain folders of it too."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").is_file():
            found += _data_files(path)
        elif path.is_file() and not path.name.endswith((".py", ".pyc")):
            found.append(path)
    return tuple(found)


def _shown(path: Path) -> str:
    package = _path("hscc")
    assert package is not None
    return path.relative_to(package.parent.parent).as_posix() if path.is_relative_to(package.parent) else path.name
