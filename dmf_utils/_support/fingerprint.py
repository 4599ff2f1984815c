"""A hash of all that decides a result: the key to what is stored of it.

That is the source of some modules and of all that they import from this package, and the versions
of the libraries beneath it. An edit anywhere else keeps the key.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from dmf_utils._support.provenance import installed_versions

__all__ = ["PACKAGE", "deciding_files", "imported_modules", "source_hash"]

PACKAGE = Path(__file__).resolve().parents[1]
# Imported by those that compute, but they decide no number: a bar, words about the hardware, a
# refusal for want of memory.
_WITHOUT_NUMBERS = {f"dmf_utils._support.{name}" for name in ("progress", "machine", "errors")}
_LIBRARIES = ("cvxpy", "numpy", "scipy", "torch")
_LAZY = {"lazy_loader", "__getattr__", "__dir__", "__all__"}  # what a lazy face binds


def deciding_files(roots: Iterable[str], package: Path = PACKAGE) -> list[Path]:
    """The files of some modules, and of all that they import from this package.

    Parameters
    ----------
    roots : iterable of str
        Full names of modules, such as ``"dmf_utils.sweep.compute"``.
    package : Path
        The folder of ``dmf_utils``.

    Returns
    -------
    list of Path
        Sorted.

    Raises
    ------
    ImportError
        If one of them imports a name of this package that is not there, or relative to itself.
    """
    found: set[Path] = set()
    waiting = list(roots)
    done = set(_WITHOUT_NUMBERS)
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        path = _file(name, package)
        if path is None:
            raise ImportError(f"module {name!r} is not in {package}")
        if path.name != "__init__.py" or _defined(path) - _LAZY:  # a face holds names, no numbers
            found.add(path)
        text = path.read_text(encoding="utf-8")
        waiting += imported_modules(text, package, where=name)
    return sorted(found)


def imported_modules(text: str, package: Path = PACKAGE, where: str = "the source") -> set[str]:
    """Full names of the modules of this package that a source imports, anywhere in it.

    Parameters
    ----------
    text : str
        Python. ``from dmf_utils import sweep`` names a face, and so may lead to all that the face
        exports; ``from dmf_utils.sweep import grid`` leads to the module that holds `grid`.
    package : Path
        The folder of ``dmf_utils``.
    where : str
        Names the source in errors.

    Raises
    ------
    ImportError
        If a name of this package does not resolve, or an import is relative.
    """
    found: set[str] = set()
    for node in _nodes(text):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "dmf_utils":
                    found |= _whole(alias.name, package, where)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ImportError(f"{where}: relative import in line {node.lineno}; name it fully")
            if (node.module or "").split(".")[0] == "dmf_utils":
                for alias in node.names:
                    found |= _of_name(node.module, alias.name, package, where)
    return found


def _of_name(module: str, name: str, package: Path, where: str) -> set[str]:
    """The modules behind ``from module import name``."""
    if _file(f"{module}.{name}", package) is not None:
        return {module} | _whole(f"{module}.{name}", package, where)
    path = _file(module, package)
    if path is None:
        raise ImportError(f"{where} imports {module}, which is not in {package}")
    exported = _exports(module, path)
    if name in exported:
        return {module, exported[name]}
    if name == "*" or name not in _defined(path):
        raise ImportError(f"{where} imports {name!r} from {module}, which does not have it")
    return {module}


def _whole(module: str, package: Path, where: str) -> set[str]:
    """A module, and, if it is a face, all that it exports."""
    path = _file(module, package)
    if path is None:
        raise ImportError(f"{where} imports {module}, which is not in {package}")
    # The top face exports all; whoever names it alone asks for one of its wings next.
    return {module} if module == "dmf_utils" else {module, *_exports(module, path).values()}


def _file(module: str, package: Path) -> Path | None:
    path = package.joinpath(*module.split(".")[1:])
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file() and path != package.with_suffix(".py"):
            return candidate
    return None


def _exports(module: str, path: Path) -> dict[str, str]:
    """Where the names of a lazy face are, as its stub says."""
    stub = path.with_suffix(".pyi")
    if not stub.is_file():
        return {}
    return {
        alias.asname or alias.name: f"{module}.{node.module}"
        for node in _nodes(stub.read_text(encoding="utf-8"))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }


@functools.lru_cache(maxsize=400)
def _nodes(text: str) -> list[ast.AST]:
    """The parts of a source that bind names or import."""
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Name, ast.Import, ast.ImportFrom)
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]


def _defined(path: Path) -> set[str]:
    """Names that a module binds."""
    return _bound(path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=400)
def _bound(text: str) -> set[str]:
    found: set[str] = set()
    for node in _nodes(text):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def source_hash(roots: Iterable[str], package: Path = PACKAGE) -> str:
    """Hash of the files that decide, by their place in the package, and of the libraries."""
    libraries = " ".join(f"{n} {v}" for n, v in installed_versions(_LIBRARIES).items())
    digest = hashlib.sha256(libraries.encode())
    for path in deciding_files(roots, package):
        place = path.relative_to(package).as_posix()
        digest.update(place.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
