"""What is started ends with whoever started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from dmf_utils._support.fingerprint import PACKAGE
from dmf_utils._support.processes import PROGRAM, Leashed

# Starts a grandchild in a session of its own, as Jupyter starts a kernel, and one that ignores
# being asked to end.
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(1, flush=True)
time.sleep(600)
"""
FAMILY = f"""
import os, pathlib, subprocess, sys, time
command = [sys.executable, "-c", {DEAF!r}]
child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
pathlib.Path(sys.argv[1]).write_text(f"{{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""
ASKER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have them ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from dmf_utils._support.processes import Leashed
with Leashed([sys.executable, "-c", sys.argv[1], sys.argv[2]]) as family:
    family.wait()
"""


def wait_for(path: Path) -> list[int]:
    end = time.monotonic() + 60
    while not path.exists() or len(path.read_text().split()) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    return [int(number) for number in path.read_text().split()]


def gone(numbers: list[int]) -> bool:
    end = time.monotonic() + 30
    while any(psutil.pid_exists(number) for number in numbers):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_family_ends_when_the_one_who_asked_for_it_is_ended(tmp_path: Path, number: int) -> None:
    note = tmp_path / "note"
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", ASKER, FAMILY, str(note)]
    asker = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        family = wait_for(note)
        assert all(psutil.pid_exists(one) for one in family)
        asker.send_signal(number)
        asker.wait(30)
        assert gone(family)
    finally:
        asker.kill()
        asker.wait()


def test_leaving_ends_the_family(tmp_path: Path) -> None:
    note = tmp_path / "note"
    family = []

    def fail() -> None:
        with Leashed([sys.executable, "-c", FAMILY, str(note)]):
            family.extend(wait_for(note))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(family) == 2
    assert gone(family)


def test_a_leash_that_is_killed_takes_its_command_along(tmp_path: Path) -> None:
    note = tmp_path / "note"
    with Leashed([sys.executable, "-c", FAMILY, str(note)]) as leashed:
        family = wait_for(note)
        leashed._process.kill()
        if sys.platform == "linux":
            assert gone(family[:1])
        psutil.Process(family[1]).kill()


@pytest.mark.parametrize("status", [0, 3])
def test_the_status_and_the_words_are_those_of_the_command(tmp_path: Path, status: int) -> None:
    code = f"import sys; print('said'); print(sys.stdin.read()); sys.exit({status})"
    with (tmp_path / "said").open("w+") as said:
        with Leashed([sys.executable, "-c", code], stdout=said) as leashed:
            assert leashed.wait(60) == status
        said.seek(0)
        assert said.read() == "said\n\n"


def test_a_command_that_a_signal_ends_has_the_status_that_shells_give_it() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with Leashed([sys.executable, "-c", code]) as leashed:
        assert leashed.wait(60) == 128 + signal.SIGKILL


def test_a_leash_that_is_asked_to_end_says_so_by_its_status() -> None:
    with Leashed(
        [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)"],
        stdout=subprocess.PIPE,
    ) as leashed:
        leashed._process.stdout.readline()
        leashed._process.terminate()
        assert leashed.wait(60) == 128 + signal.SIGTERM
        leashed._process.stdout.close()


def test_waiting_has_an_end() -> None:
    with Leashed([sys.executable, "-c", "import time; time.sleep(60)"]) as leashed:
        assert leashed.wait(0.05) is None


def test_a_program_is_the_command_of_its_package() -> None:
    told = subprocess.run(
        [*PROGRAM, "papermill", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith(version("papermill"))


@pytest.mark.parametrize(
    "module",
    ["dmf_utils.cli.main", "dmf_utils._support.program", "dmf_utils.publishing.kernel"],
)
def test_commands_compile_no_grammar_and_refuse_what_is_no_notebook(module: str) -> None:
    code = (
        f"import sys, {module}, nbformat\n"
        "assert 'lark' not in sys.modules\n"
        "import gc; assert gc.get_threshold()[0] == 20_000\n"
        "nbformat.validate(nbformat.v4.new_notebook())\n"
        "nbformat.validate({'nbformat': 4, 'nbformat_minor': 5, 'metadata': 3, 'cells': []})"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "3 is not of type 'object'" in told.stderr
