"""A hash of everything that decides the numbers of a run: the key to what is stored of it."""

from __future__ import annotations

import ast
import hashlib
from importlib.metadata import version
from pathlib import Path

__all__ = ["SOURCE", "deciding_modules", "source_hash"]

_ROOTS = ("sweep_chunk", "sweep_runs")  # what computes a chunk, and what makes chunks of runs
_WITHOUT_NUMBERS = {"progress"}  # imported by those that compute, but decides nothing
_LIBRARIES = ("cvxpy", "numpy", "scipy", "torch")


def deciding_modules(folder: Path) -> list[Path]:
    """The modules that compute a run: those of `_ROOTS`, and all that they import from here."""
    found: dict[str, Path] = {}
    waiting = list(_ROOTS)
    while waiting:
        name = waiting.pop()
        path = folder / f"{name}.py"
        if name not in found and name not in _WITHOUT_NUMBERS and path.is_file():
            found[name] = path
            waiting += _imported(path.read_text(encoding="utf-8"))
    return [found[name] for name in sorted(found)]


def _imported(text: str) -> list[str]:
    """Names that may be modules of this package, wherever in the text they are imported."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "dmf_utils":
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dmf_utils."):
            names.append(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names += [a.name.split(".")[1] for a in node.names if a.name.startswith("dmf_utils.")]
    return names


def source_hash(folder: Path) -> str:
    """Hash of the source that decides the numbers, and of the libraries beneath it."""
    libraries = " ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    digest = hashlib.sha256(libraries.encode())
    for path in deciding_modules(folder):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


#: Of the source as imported: a session whose files change afterwards goes on with what it loaded.
SOURCE = source_hash(Path(__file__).parent)
