"""Closed terminals and killed commands: nothing of theirs goes on, and a limit of time holds."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dmf_utils._support.fingerprint import PACKAGE
from dmf_utils.cli.main import main
from dmf_utils.publishing import chapter as chapter_module
from dmf_utils.publishing.project import Project
from dmf_utils.teaching.pdf import find_chromium

MakeBook = Callable[..., Project]
# A kernel with a child of its own, as a sweep has.
SLEEPING = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({note!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""


def started(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A command in the foreground of a terminal of its own."""
    heed = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # it may be ignored here
    program = f"{heed}; import sys; from dmf_utils.cli.main import main; sys.exit(main())"
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_until(holds: Callable[[], object], seconds: float = 90) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def living_below(number: int) -> list[psutil.Process]:
    return psutil.Process(number).children(recursive=True)


def all_gone(family: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(family, timeout=30)[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "n_chapters"),
    [(["book"], 1), (["book"], 2), (["run", "small"], 1), (["handouts"], 1)],
)
def test_no_kernel_outlives_its_command(
    make_book: MakeBook, tmp_path: Path, command: list[str], n_chapters: int, number: int
) -> None:
    note = tmp_path / "note"
    project = make_book("import time; time.sleep(600)")
    if n_chapters == 2:  # their kernels are copies
        shutil.copy(project.book / "small.ipynb", project.book / "other.ipynb")
    make_book(SLEEPING.format(note=str(note)))
    if n_chapters == 2:
        contents = project.book / "_toc.yml"
        contents.write_text(contents.read_text() + "- file: other\n")
    process = started(project.root, *command)
    try:
        assert wait_until(lambda: note.exists() and len(note.read_text().split()) == 2)
        family = living_below(process.pid)
        assert {int(one) for one in note.read_text().split()} <= {one.pid for one in family}
        process.send_signal(number)
        process.wait(30)
        assert all_gone(family)
    finally:
        process.kill()
        process.wait()
    # The lock is free: the next command begins anew, and one finds nothing half done.
    make_book("1 + 1")
    assert subprocess.run(
        [sys.executable, "-m", "dmf_utils.cli.main", "parameters", "small"],
        cwd=project.root,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        check=False,
        stdout=subprocess.DEVNULL,
    ).returncode == 0  # fmt: skip
    assert not list(project.build.rglob("*.part*"))


@pytest.mark.slow
def test_the_builder_of_pages_does_not_outlive_its_command(make_book: MakeBook) -> None:
    project = make_book("1 + 1")
    process = started(project.root, "book")
    try:
        name = "jupyter-book"

        def builders() -> list[psutil.Process]:
            found = []
            for one in living_below(process.pid):
                with contextlib.suppress(psutil.Error):  # it ended meanwhile
                    found += [one] if name in " ".join(one.cmdline()) else []
            return found

        assert wait_until(builders)
        family = living_below(process.pid)
        process.kill()
        process.wait(30)
        assert all_gone(family)
    finally:
        process.kill()
        process.wait()
    assert not project.html.exists()


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium: install it")
def test_the_browser_that_prints_does_not_outlive_its_command(make_book: MakeBook) -> None:
    project = make_book("1 + 1")
    process = started(project.root, "handouts", "--version", "instructor")
    try:

        def browsers() -> list[psutil.Process]:
            found = []
            for one in living_below(process.pid):
                with contextlib.suppress(psutil.Error):
                    found += [one] if "chrom" in one.name() else []
            return found

        assert wait_until(browsers, 240)
        family = living_below(process.pid)
        process.kill()
        process.wait(30)
        assert all_gone(family)
    finally:
        process.kill()
        process.wait()


def test_a_chapter_that_hangs_is_given_up_and_says_so(
    make_book: MakeBook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    note = tmp_path / "note"
    project = make_book(SLEEPING.format(note=str(note)))
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(chapter_module, "_LEAST_LIMIT", 0.0)
    assert main(["book", "--patience", "1"]) == 1  # ten seconds are expected
    told = capsys.readouterr().err
    assert "small: was given up at" in told
    assert "after 0:10" in told
    assert "--patience" in told
    if note.exists():  # on a busy machine the kernel may not have come so far
        assert not any(psutil.pid_exists(int(one)) for one in note.read_text().split())


def test_patience_is_ten_times_what_is_expected(make_book: MakeBook) -> None:
    chapter = chapter_module.Chapter(make_book("1"), "small")
    chapter.source.metadata["dmf"] = {"expected_seconds": 120}
    assert chapter.seconds_allowed(10.0) == 1200
    assert chapter.seconds_allowed(1.0) == 600  # a busy machine is given that in any case
