"""Locks on the chunks of a cache, so that of two sweeps only one computes a chunk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows: there two sweeps may compute a chunk twice
    fcntl = None

__all__ = ["ChunkLocks"]


class ChunkLocks:
    """One byte of one file for each chunk, locked by the process that computes it.

    The system lets go of a lock when its process ends, however it ends, so none outlives its
    owner. Where there are no such locks (a folder that cannot be written, a file system without
    them) every chunk may be taken: two sweeps then do the same work twice, and no harm.
    """

    def __init__(self, folder: Path) -> None:
        self._file: int | None = None
        if fcntl is not None:
            with contextlib.suppress(OSError):
                self._file = os.open(folder / ".locks", os.O_RDWR | os.O_CREAT, 0o666)

    def take(self, key: str) -> bool:
        """Lock the chunk; false if another process has it."""
        return self._lock(key, fcntl.LOCK_EX | fcntl.LOCK_NB) if self._file is not None else True

    def release(self, key: str) -> None:
        """Unlock the chunk."""
        if self._file is not None:
            self._lock(key, fcntl.LOCK_UN)

    def close(self) -> None:
        """Unlock all."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, key: str, how: int) -> bool:
        try:
            fcntl.lockf(self._file, how, 1, int(key[:15], 16))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # no locks here
            self.close()
        return True
