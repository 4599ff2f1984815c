"""Programs that end with the one who started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["PROGRAM", "Leashed"]

PROGRAM = [sys.executable, "-P", str(Path(__file__).with_name("program.py"))]
"""Before the command of another package and its arguments, see `program`."""

_LEASH = [sys.executable, str(Path(__file__).with_name("leash.py"))]
_SECONDS_TO_END = 15


class Leashed:
    """A command in a session of its own, which ends with all that it started when this one does.

    Whether this process ends by itself, by Ctrl-C, by the end of its terminal or by SIGKILL: what
    the command started ends too. As a context manager it ends the command on leaving.

    Parameters
    ----------
    command
        Program and arguments.
    **options
        As `subprocess.Popen` takes them, without ``stdin``.
    """

    def __init__(self, command: list[str], **options: Any) -> None:
        self._process = subprocess.Popen(
            [*_LEASH, *command],
            stdin=subprocess.PIPE,
            start_new_session=True,
            **options,
        )

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit status, or None if the command has not ended after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """End the command and all that it started."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self.wait(_SECONDS_TO_END) is None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Leashed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
