"""Which chapters are executed beside which: those that take all cores alone, others in pairs."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import nbformat
import pytest

from dmf_utils._support.errors import InputError
from dmf_utils.publishing import build, execution
from dmf_utils.publishing.chapter import Chapter, read_chapters
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.terminal import Display

SECONDS = {"short": 10, "alone": 60, "long": 50, "middle": 20, "also_alone": 5}


@pytest.fixture
def project(make_book) -> Project:
    """Chapters with the expected seconds above; "alone" in a name says that it takes all cores."""
    made = make_book("1")
    small = nbformat.read(made.book / "small.ipynb", as_version=4)
    contents = made.book / "_toc.yml"
    for name, seconds in SECONDS.items():
        small.metadata["dmf"] = {"expected_seconds": seconds, "uses_all_cores": "alone" in name}
        nbformat.write(small, made.book / f"{name}.ipynb")
        contents.write_text(contents.read_text() + f"- file: {name}\n")
    return made


def executed(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """For each chapter, in the order of their ends: those that were at work with it."""
    at_work: dict[str, set[str]] = {}
    ended, lock = [], threading.Lock()

    def pretend(chapter: Chapter, *_: object) -> None:
        with lock:
            at_work[chapter.name] = set()
            for beside in at_work.values():
                beside |= set(at_work)
        time.sleep(SECONDS[chapter.name] / 100)
        with lock:
            ended.append(at_work.pop(chapter.name))

    monkeypatch.setattr(build, "execute", pretend)
    chapters = {name: c for name, c in read_chapters(project).items() if name in SECONDS}
    book = build._Build(project, chapters, {}, force=True, patience=1.0)
    book.display = Display(dict(SECONDS))
    book._execute_all(list(chapters.values()), dict.fromkeys(chapters, ""))
    return ended


def test_those_that_take_all_cores_are_executed_alone_the_others_longest_first(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = executed(project, monkeypatch)
    # "middle" ends first, then "short", that began beside "long" at its end.
    assert beside[:3] == [{"long", "middle"}, {"long", "short"}, {"long", "middle", "short"}]
    assert sorted(map(sorted, beside[3:])) == [["alone"], ["also_alone"]]


def test_at_the_quick_size_none_takes_all_cores(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Project(project.root, quick=True)
    assert any({"alone", "long"} <= beside for beside in executed(quick, monkeypatch))


def test_beside_another_chapter_large_products_have_one_thread(project: Project) -> None:
    chapters, loop = read_chapters(project), Path("loop")
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = {
        name: execution._environment(chapters[name], loop)["DMF_THREADS"]
        for name in ("alone", "short")
    }
    assert threads == {"alone": os.environ.get("DMF_THREADS", str(count)), "short": "1"}


def test_what_a_notebook_says_of_its_cores_must_be_true_or_false(project: Project) -> None:
    path = project.book / "short.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["dmf"]["uses_all_cores"] = "yes"
    nbformat.write(notebook, path)
    with pytest.raises(InputError, match=r"short\.ipynb: uses_all_cores .* got 'yes'"):
        _ = read_chapters(project)["short"].uses_all_cores
