"""Build the pages with Jupyter Book: beside the old ones, swapped in only when all is well."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sysconfig
from importlib.metadata import version
from pathlib import Path

from dmf_utils.publishing.project import Project

__all__ = ["SiteError", "build", "is_current"]

_KEY_FILE = ".dmf-key"


class SiteError(RuntimeError):
    """Jupyter Book failed or warned; the message holds its words."""


def _key(project: Project) -> str:
    digest = hashlib.sha256(version("jupyter-book").encode() + version("Sphinx").encode())
    folders = (project.executed, project.book / "_ext")
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for path in [project.root / "_config.yml", *sorted(paths)]:
        if "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(project.root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def is_current(project: Project) -> bool:
    """Whether the pages that are there were built from exactly this tree."""
    stamp = project.html / _KEY_FILE
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == _key(project)


def build(project: Project) -> None:
    """Build ``executed/`` into ``html/`` with warnings as errors.

    Raises
    ------
    SiteError
        If there was a warning or an error; the previous pages are still in place then.
    """
    draft = project.build / "html.draft"
    shutil.rmtree(draft, ignore_errors=True)
    command = [f"{sysconfig.get_path('scripts')}/jupyter-book", "build", str(project.executed)]
    command += ["--config", str(project.root / "_config.yml"), "--path-output", str(draft)]
    command += ["-W", "--keep-going", "-n", "--all"]
    try:
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        pages = draft / "_build" / "html"
        if result.returncode != 0 or not (pages / "index.html").is_file():
            raise SiteError(_complaints(result.stdout, project))
        (pages / _KEY_FILE).write_text(_key(project), encoding="utf-8")
        _swap(pages, project.html)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _complaints(output: str, project: Project) -> str:
    """Jupyter Book's warnings and errors, else all it said."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    lines = [line for line in plain.splitlines() if re.search(r"WARNING|ERROR|CRITICAL", line)]
    return "\n".join(lines).replace(f"{project.executed}/", "book/") or plain


def _swap(new: Path, place: Path) -> None:
    old = place.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
