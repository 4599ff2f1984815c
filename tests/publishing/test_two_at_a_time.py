"""Which chapters are executed beside which, and what of the machine each has."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from dmf_utils.publishing import build, execution
from dmf_utils.publishing.chapter import Chapter, read_chapters
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.terminal import Display

SECONDS = {"short": 10, "longest": 60, "long": 45, "middle": 20}
COUNT = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def project(make_book) -> Project:
    """Chapters with the expected seconds above."""
    made = make_book("1")
    small = nbformat.read(made.book / "small.ipynb", as_version=4)
    contents = made.book / "_toc.yml"
    for name, seconds in SECONDS.items():
        small.metadata["dmf"] = {"expected_seconds": seconds}
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
    book.display, book.at_once = Display(dict(SECONDS)), build._AT_ONCE
    book._execute_all(list(chapters.values()), dict.fromkeys(chapters, ""))
    return ended


def test_two_are_executed_at_a_time_the_longest_first(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = executed(project, monkeypatch)
    # "long" ends first, then "middle", that began when it ended beside "longest", then the rest.
    assert beside[0] == {"longest", "long"}
    assert all({"longest", "middle"} <= names for names in beside[1:3])


def test_chapters_side_by_side_share_the_threads_of_large_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DMF_THREADS", raising=False)
    threads = []
    for at_once in (1, 2, 10 * COUNT):
        with execution.shared_environment(1, at_once) as environment:
            threads.append(int(environment["DMF_THREADS"]))
    assert threads == [COUNT, max(1, COUNT // 2), 1]


def test_a_chapter_that_is_executed_by_itself_has_all_cores(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DMF_THREADS", raising=False)
    shares = {}

    def pretend(chapter: Chapter, *rest: object) -> None:
        shares[chapter.name] = int(rest[-1]["DMF_THREADS"])

    monkeypatch.setattr(build, "execute", pretend)
    chapters = {name: c for name, c in read_chapters(project).items() if name in SECONDS}
    for names in (["short"], ["short", "long", "middle"]):
        book = build._Build(project, chapters, {}, force=True, patience=1.0)
        monkeypatch.setattr(book, "_is_due", lambda chapter, *_, names=names: chapter.name in names)
        monkeypatch.setattr(book, "_measure", list)
        monkeypatch.setattr(book, "_refuse_worse", lambda rows: None)
        monkeypatch.setattr(book, "_build_pages", lambda: None)
        book.run(None)
        assert {shares.pop(name) for name in names} == {max(1, COUNT // min(2, len(names)))}


@pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux only")
def test_a_kernel_that_is_a_copy_computes_and_shows_the_same(
    make_book: Callable[..., Project], tmp_path: Path
) -> None:
    project = make_book(
        "import os, psutil\n'copies.py' in ' '.join(psutil.Process(os.getppid()).cmdline())",
        "import matplotlib, pandas, torch\n"
        "options = [pandas.get_option(f'display.{name}') for name in ('max_columns', 'width')]\n"
        "print(options, matplotlib.get_backend(), torch.get_num_threads())\n"
        "pandas.DataFrame(torch.arange(60).view(2, 30).numpy())",
        "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);",
    )
    chapter, found = read_chapters(project)["small"], []
    for n_chapters in (1, 2):
        output = tmp_path / f"{n_chapters}.ipynb"
        with execution.shared_environment(n_chapters, 1) as environment:
            execution.run_papermill(
                chapter, {}, output, Display({"small": 10}), environment=environment
            )
        cells = nbformat.read(output, as_version=4).cells
        found.append([cell.outputs for cell in cells if cell.cell_type == "code"])
    (alone, *by_itself), (copied, *as_copy) = found
    assert (alone[0].data["text/plain"], copied[0].data["text/plain"]) == ("False", "True")
    assert by_itself == as_copy
    assert "image/png" in as_copy[1][0].data
