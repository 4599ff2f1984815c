"""Build the pages with Jupyter Book: beside the old ones, swapped in only when all is well."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from dmf_utils._support import files
from dmf_utils._support.processes import PROGRAM, Leashed
from dmf_utils.publishing.project import Project

__all__ = ["SiteError", "build", "is_current"]

_KEY_FILE = ".dmf-key"
_SECONDS_ALLOWED = 1800


class SiteError(RuntimeError):
    """Jupyter Book failed or warned; the message holds its words."""


def _digest(*folders: Path, others: Iterable[Path] = (), stated: str = "") -> str:
    """A digest of all files of some folders, by their places in them."""
    digest = hashlib.sha256(stated.encode())
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.name != _KEY_FILE:
                name = path.relative_to(folder)
                digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
        digest.update(b"\0")
    for path in others:
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _key(project: Project, pages: Path) -> bytes:
    """What the pages are built from, and what they are: a page that was damaged is not current."""
    made_by = version("jupyter-book") + version("Sphinx")
    config = [project.root / "_config.yml"]
    sources = _digest(project.executed, project.book / "_ext", others=config, stated=made_by)
    return f"{sources} {_digest(pages)}".encode()


def is_current(project: Project) -> bool:
    """Whether the pages that are there were built from exactly this tree, and are whole."""
    try:
        return (project.html / _KEY_FILE).read_bytes() == _key(project, project.html)
    except OSError:
        return False


def build(project: Project) -> None:
    """Build ``executed/`` into ``html/`` with warnings as errors.

    Raises
    ------
    SiteError
        If there was a warning or an error; the previous pages are still in place then.
    """
    draft = project.build / "html.draft"
    files.clear(draft)
    command = [*PROGRAM, "jupyter-book", "build", str(project.executed)]
    command += ["--config", str(project.root / "_config.yml"), "--path-output", str(draft)]
    command += ["-W", "--keep-going", "-n", "--all"]
    try:
        with tempfile.TemporaryFile() as said:
            with Leashed(command, stdout=said, stderr=said) as process:
                status = process.wait(_SECONDS_ALLOWED)
            said.seek(0)
            words = said.read().decode("utf-8", errors="replace")
        if status is None:
            raise SiteError(f"Jupyter Book was given up after {_SECONDS_ALLOWED} s:\n{words}")
        pages = draft / "_build" / "html"
        if status != 0 or not (pages / "index.html").is_file():
            raise SiteError(_complaints(words, project))
        (pages / _KEY_FILE).write_bytes(_key(project, pages))
        _swap(pages, project.html)
    finally:
        files.clear(draft)


def _complaints(output: str, project: Project) -> str:
    """Jupyter Book's warnings and errors, else all it said."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    lines = [line for line in plain.splitlines() if re.search(r"WARNING|ERROR|CRITICAL", line)]
    return "\n".join(lines).replace(f"{project.executed}/", "book/") or plain


def _swap(new: Path, place: Path) -> None:
    old = place.with_name("html.old")
    files.clear(old)
    if place.exists() or place.is_symlink():
        place.rename(old)
    new.rename(place)
    files.clear(old)
