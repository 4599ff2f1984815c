"""A chapter: its source, read once, and its last execution, as long as that holds."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils._support.fingerprint import PACKAGE, deciding_files, imported_modules
from dmf_utils._support.notebooks import read_notebook, title
from dmf_utils._support.provenance import installed_versions
from dmf_utils.publishing import parameters
from dmf_utils.publishing.project import Project

__all__ = ["LEDGER_CHAPTER", "Chapter", "Execution", "read_chapters"]

LEDGER_CHAPTER = "claims"
_SECONDS_UNKNOWN = 10.0
_LEAST_LIMIT = 600.0  # seconds: a busy machine takes long to start a kernel


@dataclass(frozen=True)
class Execution:
    """What is kept of a chapter's execution, beside the notebook that papermill wrote.

    Attributes
    ----------
    key
        Of all that decided it, see `Chapter.key`.
    parameters
        The values that were given, where they are not the defaults.
    seconds
        How long it took.
    date, versions, hardware
        When, with what, and where.
    digest
        Of the notebook's file: one that was damaged or changed since is not what was written.
    """

    key: str
    parameters: dict[str, Any]
    seconds: float
    date: str
    versions: dict[str, str]
    hardware: str
    digest: str = ""


class Chapter:
    """A chapter of the book at one size.

    Parameters
    ----------
    project
        Whose chapter, and at which size.
    name
        Its file name without ending.

    Attributes
    ----------
    source : NotebookNode
        The notebook as it stands in the book; nobody changes it.
    parameters : dict of Parameter
        What its parameters cell offers, by name.
    values : dict
        What this size gives instead of the defaults.

    Raises
    ------
    InputError
        If there is no such chapter, or its notebook, its parameters cell or its quick size are not
        in order.
    """

    def __init__(self, project: Project, name: str) -> None:
        self.project, self.name = project, name
        self.source = read_notebook(project.chapter_path(name))
        self.parameters = parameters.read(self.source, f"{name}.ipynb")
        self.values: dict[str, Any] = {}
        if project.quick:
            self.values = parameters.quick_values(project, name, self.parameters)

    @property
    def title(self) -> str:
        """Its first heading, else its name."""
        return title(self.source) or self.name

    @property
    def code(self) -> list[str]:
        """Its code cells."""
        return [cell.source for cell in self.source.cells if cell.cell_type == "code"]

    @property
    def notebook_path(self) -> Path:
        """Where the executed notebook is kept, and beside it the record."""
        return self.project.runs / f"{self.name}.ipynb"

    @property
    def _record_path(self) -> Path:
        return self.notebook_path.with_suffix(".json")

    @functools.cached_property
    def _kept(self) -> tuple[Execution, NotebookNode] | None:
        """The last execution and its notebook, unless either is absent, damaged or changed."""
        try:
            stated = json.loads(self._record_path.read_text(encoding="utf-8"))
            execution = Execution(**stated)
            if execution.digest != files.file_digest(self.notebook_path):
                return None
            clean = isinstance(execution.key, str) and isinstance(execution.parameters, dict)
            if not clean or not execution.seconds >= 0 or not isinstance(execution.versions, dict):
                return None
            return execution, read_notebook(self.notebook_path)
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    @property
    def last(self) -> Execution | None:
        """The last complete execution at this size, if there is one."""
        return self._kept[0] if self._kept else None

    @property
    def executed(self) -> NotebookNode:
        """The notebook of the last execution; nobody changes it.

        Raises
        ------
        InputError
            If there is none.
        """
        if self._kept is None:
            raise InputError(
                f"chapter {self.name!r} was never executed; run `dmf book` without names"
            )
        return self._kept[1]

    def keep(self, written: Path, execution: Execution) -> None:
        """Keep an execution, and the notebook that papermill wrote of it."""
        files.folder(self.project.runs)
        content = written.read_bytes()
        record = asdict(execution) | {"digest": hashlib.sha256(content).hexdigest()}
        for path in (self.notebook_path, self._record_path):
            if path.is_dir():
                files.clear(path)
        with files.together(self.notebook_path, self._record_path) as (notebook, about):
            notebook.write_bytes(content)
            about.write_text(json.dumps(record, indent=1), encoding="utf-8")
        self.__dict__.pop("_kept", None)  # to be read again

    def is_due(self, key: str, *, force: bool = False) -> bool:
        """Whether it has to be executed."""
        return force or self.last is None or self.last.key != key

    @property
    def expected_seconds(self) -> float:
        """From the last execution; else, for the paper's size, what the notebook states."""
        if self.last:
            return self.last.seconds
        return _SECONDS_UNKNOWN if self.project.quick else self._stated_seconds

    @property
    def _stated_seconds(self) -> float:
        stated = self.source.metadata.get("dmf", {}).get("expected_seconds", _SECONDS_UNKNOWN)
        if isinstance(stated, bool) or not isinstance(stated, (int, float)) or not stated > 0:
            raise InputError(
                f"{self.name}.ipynb: expected_seconds in its metadata must be a positive number, "
                f"got {stated!r}"
            )
        return float(stated)

    def seconds_allowed(self, patience: float) -> float:
        """After how long an execution is given up: so many times what is expected."""
        return max(_LEAST_LIMIT, patience * max(self.expected_seconds, self._stated_seconds))

    def key(self, read: Iterable[Path] = ()) -> str:
        """A digest of all that decides what the code cells give out.

        That is these cells, the values of this size, the modules that they import and all that
        those import, the versions of Python and of the pinned packages, whether there is a data
        set, and the files `read`. Text cells are not among them: a page takes them from the source,
        without a new execution.

        Raises
        ------
        InputError
            If a cell imports from this package what it does not have.
        """
        data = os.environ.get("DMF_DATA", "")
        pinned = _pinned(self.project.root / "requirements.txt")
        stated = [self.code, self.values, sys.version, pinned, bool(data) and Path(data).is_dir()]
        digest = hashlib.sha256(json.dumps(stated).encode())
        for path in [*self._modules(), *read]:
            name = path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path.name
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
        return digest.hexdigest()

    def _modules(self) -> list[Path]:
        """The files of this package that decide what the cells compute."""
        roots: set[str] = set()
        try:
            for cell in self.code:
                with contextlib.suppress(SyntaxError):  # it will fail, and say where
                    roots |= imported_modules(cell, PACKAGE, self.name)
            return deciding_files(sorted(roots), PACKAGE)
        except ImportError as error:
            raise InputError(f"{self.name}.ipynb: {error}") from error


@functools.lru_cache(maxsize=4)
def _pinned(path: Path) -> dict[str, str]:
    """The installed versions of the packages that requirements.txt pins."""
    if not path.is_file():
        return {}
    names = re.findall(r"^([\w.-]+)==", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return installed_versions(names)


def read_chapters(project: Project) -> dict[str, Chapter]:
    """All chapters by name, in the order in which they are executed: the ledger comes last.

    Raises
    ------
    InputError
        As `Chapter` does.
    """
    return {name: Chapter(project, name) for name in project.chapters()}
