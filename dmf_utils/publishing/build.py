"""From sources to pages: execute what changed, judge the claims, build the site."""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat

from dmf_utils._support.errors import InputError
from dmf_utils.claims import measured
from dmf_utils.claims.ledger import Claim, load
from dmf_utils.publishing import (
    execution,
    figures,
    pages,
    parameters,
    site,
)
from dmf_utils.publishing.launch import write_notebooks
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.terminal import Progress

__all__ = ["LedgerError", "build_book"]

_LEDGER_CHAPTER = "claims"
_SECONDS_UNKNOWN = 10.0
_SECONDS_FOR_PAGES = 8.0


class LedgerError(RuntimeError):
    """A verdict is worse than the ledger accepts, or a chapter's records do not fit the ledger."""


def build_book(project: Project, only: list[str] | None = None, *, force: bool = False) -> Path:
    """Execute the chapters whose key changed, write ``claims.json``, and build the pages.

    Parameters
    ----------
    project
        Where, and at which size.
    only
        Chapters to execute; the others show their last run. All by default.
    force
        Execute them even if nothing changed.

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
    chapters = project.chapters()
    for name in only or []:
        project.chapter_path(name)
    known = {name: parameters.read(project.chapter_path(name)) for name in chapters}
    values = {
        name: parameters.quick_values(project, name, known[name]) if project.quick else {}
        for name in chapters
    }
    try:
        claims = load(project.ledger)
    except ValueError as error:
        raise InputError(str(error)) from error

    with _lock(project):
        write_notebooks(project)
        measuring = [name for name in chapters if name != _LEDGER_CHAPTER]
        keys = {name: execution.key(project, name, values[name], read=[]) for name in measuring}
        due = [name for name in measuring if _is_due(project, name, keys[name], only, force)]
        steps = {name: _expected_seconds(project, name) for name in due}
        if _LEDGER_CHAPTER in chapters:
            steps[_LEDGER_CHAPTER] = _expected_seconds(project, _LEDGER_CHAPTER)
        # The small chapters keep one core each busy; at the paper's size one keeps them all.
        at_once = 2 if project.quick else 1
        progress = Progress(steps | {"pages": _SECONDS_FOR_PAGES}, at_once=at_once)
        if unchanged := [name for name in measuring if name not in due]:
            progress.say(f"not executed again: {', '.join(unchanged)}")
        _execute_all(project, due, values, keys, progress, at_once)
        rows = _measure(project, measuring, claims)
        if _LEDGER_CHAPTER in chapters:
            key = execution.key(project, _LEDGER_CHAPTER, values[_LEDGER_CHAPTER], [project.claims])
            if _is_due(project, _LEDGER_CHAPTER, key, None, force):
                _execute(project, _LEDGER_CHAPTER, values[_LEDGER_CHAPTER], key, progress)
        _refuse_worse(project, rows, claims)
        _build_pages(project, chapters, known, claims, progress)
        progress.say(measured.summary(rows))
    return project.html / "index.html"


@contextlib.contextmanager
def _lock(project: Project) -> Iterator[None]:
    """Keep a second build of the same size from writing into this one."""
    project.build.mkdir(parents=True, exist_ok=True)
    with (project.build / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{project.build}: another build is writing there; wait until it is done"
            ) from None
        yield


def _is_due(project: Project, name: str, key: str, only: list[str] | None, force: bool) -> bool:
    last = execution.last_run(project, name)
    if only and name not in only:
        if last is None:
            raise InputError(f"chapter {name!r} was never executed; run `dmf book` without names")
        return False
    return force or last is None or last.key != key


def _expected_seconds(project: Project, name: str) -> float:
    """From the last run; else, for the paper's size, what the notebook states."""
    if last := execution.last_run(project, name):
        return last.seconds
    notebook = nbformat.read(project.chapter_path(name), as_version=4)
    stated = notebook.metadata.get("dmf", {}).get("expected_seconds", _SECONDS_UNKNOWN)
    return _SECONDS_UNKNOWN if project.quick else float(stated)


def _execute(
    project: Project,
    name: str,
    values: dict[str, Any],
    key: str,
    progress: Progress,
    stop: threading.Event | None = None,
) -> None:
    if stop is not None and stop.is_set():
        raise execution.Stopped
    progress.begin(name)
    execution.execute(project, name, values, key, progress, stop)
    progress.end("executed")


def _execute_all(
    project: Project,
    due: list[str],
    values: dict[str, dict[str, Any]],
    keys: dict[str, str],
    progress: Progress,
    at_once: int,
) -> None:
    """Execute the chapters that are due; the first that fails, or Ctrl-C, stops the others."""
    stop = threading.Event()
    with ThreadPoolExecutor(at_once) as threads:
        tasks = [
            threads.submit(_execute, project, name, values[name], keys[name], progress, stop)
            for name in due
        ]
        try:
            for task in as_completed(tasks):
                task.result()
        finally:
            stop.set()


def _measure(
    project: Project, chapters: list[str], claims: dict[str, Claim]
) -> list[dict[str, Any]]:
    notebooks = {name: pages.page(project, name) for name in chapters}
    try:
        rows = measured.collect(claims, notebooks)
    except ValueError as error:
        raise LedgerError(str(error)) from error
    measured.write(rows, project.claims)
    return rows


def _refuse_worse(project: Project, rows: list[dict[str, Any]], claims: dict[str, Claim]) -> None:
    """At the quick size verdicts do not count: its problems are too small for them."""
    if not project.quick and (lines := measured.worse(rows, claims)):
        raise LedgerError(
            "\n".join(lines) + "\n\nthe ledger got worse (values: _build/claims.json): mend the "
            "chapter, or accept the verdict in book/claims.yml and say why"
        )


def _build_pages(
    project: Project,
    chapters: list[str],
    known: dict[str, dict[str, parameters.Parameter]],
    claims: dict[str, Claim],
    progress: Progress,
) -> None:
    done = {name: run for name in chapters if (run := execution.last_run(project, name))}
    pages.assemble(project, done, known, claims)
    figures.write(project.executed, project.build / "figures")
    if site.is_current(project):
        progress.say("pages unchanged")
        return
    progress.begin("pages")
    site.build(project)
    progress.end("built")
