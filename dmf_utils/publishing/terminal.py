"""Progress of a build: which chapter, which cell, how long, how long still."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

__all__ = ["Display", "clock", "read_loop"]

_SECONDS_BETWEEN_LOG_LINES = 15.0


def clock(seconds: float) -> str:
    """A duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display:
    """One line that is rewritten on a terminal, and now and then a new line in a log.

    Parameters
    ----------
    expected
        The seconds that each piece of work is expected to take, by name, in order.
    stream
        Where to write; standard output by default.
    at_once
        How many pieces are done at a time, each in a thread of its own.
    """

    def __init__(
        self,
        expected: dict[str, float],
        stream: TextIO | None = None,
        at_once: int = 1,
    ) -> None:
        self._expected, self._at_once = expected, at_once
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._start = self._last_line = time.monotonic()
        self._here = threading.local()  # the piece that this thread does
        self._line = threading.Lock()

    def begin(self, name: str) -> None:
        """Start a piece of work."""
        self._here.name, self._here.start = name, time.monotonic()
        self._here.loop_start = ("", 0, self._here.start)
        if not self._terminal:
            self._print(f"{self._head()} · {self._time()}")

    def show(self, where: str, loop: tuple[int, int, str] | None = None) -> None:
        """Say where the present piece of work is.

        Parameters
        ----------
        where
            The cell or figure.
        loop
            Of a long loop in it: how many are done, of how many, and of what.
        """
        now = time.monotonic()
        if loop is not None and loop[2] != self._here.loop_start[0]:
            self._here.loop_start = (loop[2], loop[0], now)
        if not self._terminal and now - self._last_line < _SECONDS_BETWEEN_LOG_LINES:
            return
        text = f"{self._head()} · {where}"
        if loop is not None:
            text += f" · {loop[2]} {loop[0]}/{loop[1]}"
        self._print(f"{text} · {self._time(loop)}", rewrite=True)

    def end(self, outcome: str) -> None:
        """Close the present piece of work with one line that stays."""
        seconds = clock(time.monotonic() - self._here.start)
        self._print(f"{self._head()} · {outcome} · {seconds}")
        self._expected[self._here.name] = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        self._print(text)

    def _head(self) -> str:
        names = list(self._expected)
        return f"[{names.index(self._here.name) + 1}/{len(names)}] {self._here.name}"

    def _time(self, loop: tuple[int, int, str] | None = None) -> str:
        now, here = time.monotonic(), self._here
        rest = sum(  # what is done counts 0
            seconds for name, seconds in self._expected.items() if name != here.name
        )
        left = max(self._expected[here.name] - (now - here.start), 0.0)
        if loop is not None and (steps := loop[0] - here.loop_start[1]) > 0:
            # The loop's own speed knows better than the last run, if it says that more is to come,
            # but a sweep begins with its longest runs: it is trusted in full after a quarter.
            by_speed = (loop[1] - loop[0]) * (now - here.loop_start[2]) / steps
            left += max(by_speed - left, 0.0) * min(4 * loop[0] / loop[1], 1.0)
        left += rest / self._at_once
        told = f"about {clock(left)} left" if left >= 1 else "nearly done"
        return f"{clock(now - self._start)} elapsed, {told}"

    def _print(self, text: str, rewrite: bool = False) -> None:
        with self._line:
            self._last_line = time.monotonic()
            if self._terminal:
                self._stream.write(f"\r\x1b[K{text}" + ("" if rewrite else "\n"))
            else:
                self._stream.write(f"{text}\n")
            self._stream.flush()


def read_loop(path: Path) -> tuple[int, int, str] | None:
    """The last line that a long loop wrote to its progress file, if any and whole."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8").strip().rpartition("\n")[2])
        return int(entry["done"]), int(entry["total"]), str(entry["label"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not begun, or a line still being written: the next look will find it
