"""A command that ends, with all that it started, when whoever asked for it is gone.

This file is run as a script, between the one who asks and the command. Its standard input is a pipe
that nobody writes to: it ends when the asker does, however that was, and so does the command then.
A process group would not do: Jupyter starts each kernel in a session of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

import psutil

_ADOPT, _SIGNAL_OF_PARENTS_DEATH = 36, 1  # of Linux's prctl
_SECONDS_TO_END = 3


def main(command: list[str]) -> int:
    """Run the command; its exit status."""
    _ask_linux(_ADOPT, 1)  # so that what its children leave behind is ours to end
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_this)
    threading.Thread(target=_wait_for_end_of_input, args=[over], daemon=True).start()
    threading.Thread(target=lambda: (process.wait(), over.set()), daemon=True).start()
    over.wait()
    status = process.poll()
    _end_all()
    return 128 + signal.SIGTERM if status is None else status if status >= 0 else 128 - status


def _ask_linux(what: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(what, value, 0, 0, 0)


def _die_with_this() -> None:
    """In the child: should this process be killed outright, the command is too."""
    _ask_linux(_SIGNAL_OF_PARENTS_DEATH, signal.SIGKILL)


def _wait_for_end_of_input(over: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    over.set()


def _end_all() -> None:
    """End every process below this one: asked first, then at once."""
    for ask in ("terminate", "kill"):
        family = psutil.Process().children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.Error):
                getattr(member, ask)()
        psutil.wait_procs(family, timeout=_SECONDS_TO_END)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
