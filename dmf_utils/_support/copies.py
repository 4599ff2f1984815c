"""Programs that begin as copies of a process that has imported what they need.

A chapter is executed by a kernel that spends two seconds on the import of torch and pandas, before
it computes anything. `copies` starts one process that imports them once. A program that finds it
in its environment asks it for a copy of itself, which takes over the program's work, its files and
its environment. The program stays and waits: the copy ends when it does, and it ends as the copy
did.

The process is this file, run as a script. It starts no thread and computes nothing: a copy holds
the thread that asked for it alone. Only Linux's libraries are known to bear it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["VARIABLE", "as_copy", "copies"]

VARIABLE = "DMF_COPIES"
"""Where the environment of a program says at which address it may ask for a copy."""

_SECONDS_TO_LISTEN = 30.0


@contextlib.contextmanager
def copies(module: str, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A process that has imported a module, while it lasts; none where it would not be safe.

    Parameters
    ----------
    module
        It imports what programs need. A warning on its way ends the process: each program is to
        say so itself.
    environment
        Of the process: what modules read when they are imported.

    Yields
    ------
    dict
        To be added to the environment of programs that `as_copy` begins; empty if there is none.
    """
    if sys.platform != "linux":
        yield {}
        return
    from dmf_utils._support.processes import Leashed

    with tempfile.TemporaryDirectory(prefix="dmf-") as folder:
        address = Path(folder) / "copies"
        command = [sys.executable, "-P", str(Path(__file__)), str(address), module]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with Leashed(command, env=dict(environment), **silent) as process:
            end = time.monotonic() + _SECONDS_TO_LISTEN
            while not address.exists() and time.monotonic() < end:
                if process.wait(0.01) is not None:  # such as an address that is too long
                    break
            yield {VARIABLE: str(address)} if address.exists() else {}


def as_copy(program: str, arguments: Sequence[str]) -> int | None:
    """Run a program as a copy of the process that the environment names.

    Parameters
    ----------
    program
        As `program.run` takes it.
    arguments
        What it finds in ``sys.argv``.

    Returns
    -------
    int, optional
        Its exit status; None if there is no such process, and the caller is to run it itself.
    """
    with contextlib.suppress(KeyError, OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[VARIABLE])
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        wish = [program, list(arguments), str(Path.cwd()), dict(os.environ)]
        connection.sendall(json.dumps(wish).encode() + b"\n")
        answers = connection.makefile()
        if not (number := answers.readline()):
            return None
        signal.signal(signal.SIGINT, lambda *_: os.kill(int(number), signal.SIGINT))
        with contextlib.suppress(OSError):
            connection.sendall(b"\n")  # so that no interrupt finds only one of the two ready
            return int(answers.readline() or 1)
        return 1
    return None


def _serve(address: str, module: str) -> socket.socket:
    """Import the module and wait for who asks; return in the copy alone, with the connection."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address + ".new")
    listening.listen(64)
    os.rename(address + ".new", address)  # nobody sees it before it listens
    with warnings.catch_warnings(record=True) as seen:
        importlib.import_module(module)
    if seen:
        sys.exit()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Arrow's allocator has a thread, and sets it up anew in a copy.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    while True:
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return connection
        connection.close()


def _become(connection: socket.socket, status: list[int]) -> None:
    """Do what the one who asked is to do, as if it had been started so; keep the exit status."""
    from dmf_utils._support.program import found

    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.setsid()
    program, sys.argv, folder, environment = json.loads(connection.makefile().readline())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    connection.sendall(f"{os.getpid()}\n".encode())
    connection.recv(1)
    threading.Thread(target=_end_with, args=[connection], daemon=True).start()
    try:
        found(program)()
    except SystemExit as end:
        status[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    status[0] = 0


def _tell(connections: Sequence[socket.socket], status: Sequence[int]) -> None:
    """At the end of a copy: to the one who asked for it, who has nothing left to wait for."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if not connections:  # the process itself, which nobody asked
        return
    with contextlib.suppress(OSError):
        connections[0].sendall(f"{status[0]}\n".encode())
    os._exit(status[0])  # to give back memory that is shared would copy it first


def _end_with(connection: socket.socket) -> None:
    """End this process and all that it started when the one who asked for it is gone."""
    import psutil

    with contextlib.suppress(OSError):
        connection.recv(1)
    for member in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            member.kill()
    os._exit(1)


def _main(address: str, module: str) -> None:
    from dmf_utils._support import program as program  # for what it does when imported

    connections: list[socket.socket] = []
    status = [1]
    atexit.register(_tell, connections, status)  # before any that a module registers: it comes last
    connections.append(_serve(address, module))
    _become(connections[0], status)


if __name__ == "__main__":
    _main(*sys.argv[1:])
