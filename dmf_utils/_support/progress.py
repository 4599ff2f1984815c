"""Progress of long work: a bar for a person, lines in a file for a driver."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

__all__ = ["Progress", "progress_bar"]


class Progress:
    """Tells how much of `total` is done; without a place to tell it, silently."""

    def __init__(self, label: str, total: int, bar: tqdm | None, path: str | None) -> None:
        self.label, self.total, self.done = label, total, 0
        self._bar, self._path, self._told = bar, path, -1.0

    def update_to(self, done: int) -> None:
        """Say that `done` of `total` are done."""
        step, self.done = done - self.done, done
        if self._bar is not None:
            self._bar.update(step)
        # A driver reads no faster than this; a line a step would be thousands a second.
        if self._path is not None and (time.monotonic() - self._told > 0.3 or done >= self.total):
            self._told = time.monotonic()
            with open(self._path, "a", encoding="utf-8") as file:
                line = {"done": self.done, "total": self.total, "label": self.label}
                file.write(json.dumps(line) + "\n")


@contextmanager
def progress_bar(label: str, total: int, show: bool = True) -> Iterator[Progress]:
    """A progress bar, or, where the variable ``DMF_PROGRESS`` names a file, lines added to it.

    Parameters
    ----------
    label : str
        What is being done.
    total : int
        Units of work in all.
    show : bool
        If false, nothing is shown or written.
    """
    path = os.environ.get("DMF_PROGRESS") if show else None
    bar = tqdm(total=total, desc=label) if show and path is None else None
    try:
        yield Progress(label, total, bar, path)
    finally:
        if bar is not None:
            bar.close()
