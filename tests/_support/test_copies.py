"""Programs that begin as copies: they are what they would have been, and end with who asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dmf_utils._support.copies import VARIABLE, copies
from dmf_utils._support.fingerprint import PACKAGE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux only")

# Whoever started the tests may have had these signals ignored, and that is inherited.
HEED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
ASK = f"{HEED}\nfrom dmf_utils._support.program import run; import sys; run(sys.argv.pop(1))"
# What the copies find imported, and what some of them are asked to do.
PREPARED = f"""{HEED}
import os, signal, subprocess, sys, threading, time

imported_by = os.getpid()

def tell():
    print(os.getppid() == imported_by, threading.active_count(), os.getcwd(), sys.argv[1:])
    print(os.environ.get("OF_ONE"), sys.stdin.read(), os.getsid(0) == os.getpid())
    print("to standard error", file=sys.stderr)

def end():
    sys.exit(dict(none=None, number=3, words="why it ended")[sys.argv[1]])

def fail():
    1 / 0

def vanish():
    os.kill(os.getpid(), signal.SIGKILL)

def wait():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        print(os.getpid(), child.pid, flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        child.kill()
        sys.exit(7)
"""


def environment(folder: Path) -> dict[str, str]:
    paths = [str(PACKAGE.parent), str(folder)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "prepared.py").write_text(PREPARED)
    with copies("prepared", environment(folder)) as address:
        assert list(address) == [VARIABLE]
        yield environment(folder) | address


def asked(function: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ASK, f"prepared:{function}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def is_alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(numbers: list[int]) -> bool:
    end = time.monotonic() + 30
    while any(map(is_alive, numbers)):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_copy_does_the_work_of_the_one_who_asked(
    prepared: dict[str, str], tmp_path: Path
) -> None:
    own = prepared | {"OF_ONE": "its own"}
    with asked("tell", "an argument", env=own, cwd=tmp_path) as program:
        said, complaint = program.communicate("its input", timeout=60)
    one, other = said.splitlines()
    assert one.startswith("True 2 ")  # one thread beside the first: it waits for the one who asked
    assert one.endswith(f"{tmp_path} ['an argument']")
    assert other == "its own its input True"  # in a session of its own
    assert complaint == "to standard error\n"
    assert program.returncode == 0


def test_two_copies_have_nothing_of_each_other(prepared: dict[str, str]) -> None:
    with asked("tell", env=prepared | {"OF_ONE": "1"}) as program:
        program.communicate("", timeout=60)
    with asked("tell", env=prepared) as program:
        assert "None" in program.communicate("", timeout=60)[0]


@pytest.mark.parametrize(
    ("function", "how", "status", "words"),
    [
        ("end", "none", 0, ""),
        ("end", "number", 3, ""),
        ("end", "words", 1, "why it ended"),
        ("fail", "", 1, "ZeroDivisionError"),
        ("vanish", "", 1, ""),
    ],
)
def test_the_status_and_the_words_are_those_of_the_copy(
    prepared: dict[str, str], function: str, how: str, status: int, words: str
) -> None:
    with asked(function, how, env=prepared) as program:
        _, complaint = program.communicate(timeout=60)
    assert program.returncode == status
    assert words in complaint
    assert words or not complaint


def test_an_interrupt_reaches_the_copy(prepared: dict[str, str]) -> None:
    with asked("wait", env=prepared) as program:
        family = [int(number) for number in program.stdout.readline().split()]
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == 7
    assert gone(family)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_copy_and_what_it_started_end_with_the_one_who_asked(
    prepared: dict[str, str], number: int
) -> None:
    with asked("wait", env=prepared) as program:
        family = [int(one) for one in program.stdout.readline().split()]
        assert all(map(is_alive, family))
        program.send_signal(number)
        program.wait(30)
    assert gone(family)


def test_leaving_ends_the_copies(tmp_path: Path) -> None:
    (tmp_path / "prepared.py").write_text(PREPARED)
    with copies("prepared", environment(tmp_path)) as address:
        program = asked("wait", env=environment(tmp_path) | address)
        family = [int(one) for one in program.stdout.readline().split()]
    with program:
        assert program.wait(30) == 1
    assert gone(family)


@pytest.mark.parametrize(
    "content",
    [
        "import nothing_of_this_name",
        "import warnings; warnings.warn('of an import')",
        "import sys; sys.exit()",
    ],
)
def test_without_the_process_a_program_runs_itself(tmp_path: Path, content: str) -> None:
    first = f"import os\nif {VARIABLE!r} not in os.environ:\n    {content}\n"
    (tmp_path / "prepared.py").write_text(first + PREPARED)
    with (
        copies("prepared", environment(tmp_path)) as address,
        asked("tell", env=environment(tmp_path) | address) as program,
    ):
        said, _ = program.communicate("its input", timeout=60)
    assert said.startswith("False 1 ")
    assert "None its input" in said
    assert program.returncode == 0


def test_an_address_that_is_no_more_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "prepared.py").write_text(PREPARED)
    with asked("tell", env=environment(tmp_path) | {VARIABLE: str(tmp_path / "no")}) as program:
        assert program.communicate("", timeout=60)[0].startswith("False 1 ")


def test_a_folder_with_a_long_name_offers_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with copies("json", environment(tmp_path)) as address:
        assert address == {}
