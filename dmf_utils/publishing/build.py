"""From sources to pages: execute what changed, judge the claims, build the site."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import filelock

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils.claims import measured
from dmf_utils.claims.ledger import Claim, load
from dmf_utils.publishing import figures, pages, site
from dmf_utils.publishing.chapter import LEDGER_CHAPTER, Chapter, read_chapters
from dmf_utils.publishing.execution import PATIENCE, Stopped, execute, shared_environment
from dmf_utils.publishing.launch import repository
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.terminal import Display

__all__ = ["LedgerError", "build_book", "locked"]

_SECONDS_FOR_PAGES = 8.0
_AT_ONCE = 2  # chapters: more would want more memory


class LedgerError(RuntimeError):
    """A verdict is worse than the ledger accepts, or a chapter's records do not fit the ledger."""


def build_book(
    project: Project,
    only: list[str] | None = None,
    *,
    force: bool = False,
    patience: float = PATIENCE,
) -> Path:
    """Execute the chapters whose key changed, write ``claims.json``, and build the pages.

    What an earlier build left is used as far as it is whole; what is missing, damaged or changed is
    made again.

    Parameters
    ----------
    project
        Where, and at which size.
    only
        Chapters to execute; the others show their last execution. All by default.
    force
        Execute them even if nothing changed.
    patience
        How many times its expected seconds a chapter may take before it is given up.

    Returns
    -------
    Path
        The first page.

    Raises
    ------
    InputError
        If a chapter, its parameters or the ledger are not in order; nothing has run then.
    ChapterError, LedgerError, SiteError
        If a chapter, the ledger or the pages fail; the previous pages are in place then.
    """
    chapters = read_chapters(project)
    for name in only or []:
        project.chapter_path(name)
    try:
        claims = load(project.ledger)
        repository(project.root)
    except ValueError as error:
        raise InputError(str(error)) from error
    with locked(project):
        rows = _Build(project, chapters, claims, force, patience).run(only)
    return _told(project, rows)


def _told(project: Project, rows: list[dict[str, Any]]) -> Path:
    print(measured.summary(rows))
    return project.html / "index.html"


@contextlib.contextmanager
def locked(project: Project) -> Iterator[None]:
    """Keep a second build of the same size from writing into this one.

    Raises
    ------
    InputError
        If another one does, or nothing can be written there.
    """
    path = project.build / ".lock"
    try:
        files.folder(project.build)
        if path.is_dir() or path.is_symlink():
            files.clear(path)
        lock = filelock.FileLock(path, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise InputError(
            f"{project.build}: another build is writing there; wait until it is done"
        ) from None
    except OSError as error:
        raise InputError(f"{project.build}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


class _Build:
    """One build: what it goes by, and its steps."""

    def __init__(
        self,
        project: Project,
        chapters: dict[str, Chapter],
        claims: dict[str, Claim],
        force: bool,
        patience: float,
    ) -> None:
        self.project, self.claims = project, claims
        self.force, self.patience, self.at_once = force, patience, 1
        self.chapters = chapters
        self.measuring = [c for name, c in chapters.items() if name != LEDGER_CHAPTER]
        self.ledger = chapters.get(LEDGER_CHAPTER)

    def run(self, only: list[str] | None) -> list[dict[str, Any]]:
        """All steps; the rows of the ledger as measured."""
        keys = {chapter.name: chapter.key() for chapter in self.measuring}
        due = [chapter for chapter in self.measuring if self._is_due(chapter, keys, only)]
        steps = {chapter.name: chapter.expected_seconds for chapter in due}
        if self.ledger:
            steps[LEDGER_CHAPTER] = self.ledger.expected_seconds
        self.at_once = min(_AT_ONCE, max(1, len(due)))
        self.display = Display(steps | {"pages": _SECONDS_FOR_PAGES}, at_once=self.at_once)
        if unchanged := [c.name for c in self.measuring if c not in due]:
            self.display.say(f"not executed again: {', '.join(unchanged)}")
        self._execute_all(due, keys)
        rows = self._measure()
        if self.ledger:
            self._print_ledger(self.ledger)
        self._refuse_worse(rows)
        self._build_pages()
        return rows

    def _is_due(self, chapter: Chapter, keys: dict[str, str], only: list[str] | None) -> bool:
        if only and chapter.name not in only:
            return not chapter.executed  # refused if there is none
        return chapter.is_due(keys[chapter.name], force=self.force)

    def _execute(
        self,
        chapter: Chapter,
        key: str,
        stop: threading.Event,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if stop.is_set():
            raise Stopped
        self.display.begin(chapter.name)
        execute(chapter, key, self.display, stop, self.patience, environment)
        self.display.end("executed")

    def _execute_all(self, due: list[Chapter], keys: dict[str, str]) -> None:
        """Execute what is due; the first that fails, or Ctrl-C, stops the others.

        Two go at a time, the longest first: a long one that begins last would run by itself at the
        end. What of one cannot be shared out, such as the last run of a sweep, leaves no core idle.
        """
        due = sorted(due, key=lambda chapter: -chapter.expected_seconds)
        stop = threading.Event()
        with (
            shared_environment(len(due), self.at_once) as environment,
            ThreadPoolExecutor(self.at_once) as threads,
        ):
            tasks = [
                threads.submit(self._execute, chapter, keys[chapter.name], stop, environment)
                for chapter in due
            ]
            try:
                for task in as_completed(tasks):
                    task.result()
            except BaseException:
                stop.set()
                raise

    def _measure(self) -> list[dict[str, Any]]:
        notebooks = {chapter.name: pages.page(chapter) for chapter in self.measuring}
        try:
            rows = measured.collect(self.claims, notebooks)
        except ValueError as error:
            raise LedgerError(str(error)) from error
        measured.write(rows, self.project.claims)
        return rows

    def _print_ledger(self, ledger: Chapter) -> None:
        key = ledger.key([self.project.claims])
        if ledger.is_due(key, force=self.force):
            self._execute(ledger, key, threading.Event())

    def _refuse_worse(self, rows: list[dict[str, Any]]) -> None:
        """At the quick size verdicts do not count: its problems are too small for them."""
        if not self.project.quick and (lines := measured.worse(rows, self.claims)):
            raise LedgerError(
                "\n".join(lines) + "\n\nthe ledger got worse (values: _build/claims.json): mend "
                "the chapter, or accept the verdict in book/claims.yml and say why"
            )

    def _build_pages(self) -> None:
        pages.assemble(self.project, self.chapters, self.claims)
        figures.write(self.project.executed, self.project.build / "figures")
        if site.is_current(self.project):
            self.display.say("pages unchanged")
            return
        self.display.begin("pages")
        site.build(self.project)
        self.display.end("built")
