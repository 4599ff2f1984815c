"""What a sweep has finished: found, claimed, and kept, whatever becomes of the disk."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmf_utils.sweep import chunk_store
from dmf_utils.sweep.chunk_locks import ChunkLocks
from dmf_utils.sweep.run_parameters import Chunk

__all__ = ["ChunkCache", "SweepWarning"]

_ABANDONED = 3600  # seconds after which a half-written file is nobody's any more


class SweepWarning(UserWarning):
    """Something happened on the way that the sweep copes with."""


class ChunkCache:
    """The folder of a sweep's finished chunks, or, without a folder, nothing.

    Parameters
    ----------
    folder : path or None
        Made if it is missing.
    options : mapping
        What else than its runs decides a chunk.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """

    def __init__(self, folder: str | Path | None, options: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        self.options = options
        self._locks: ChunkLocks | None = None
        self._keys: dict[int, str] = {}  # by the first run of a chunk, which is in no other
        self._damaged: set[str] = set()
        self._pending: list[tuple[Chunk, list[dict[str, Any]]]] = []
        self._is_told = False
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._locks = ChunkLocks(self.folder)
            self._tidy(self.folder)

    def find(self, chunk: Chunk, stacklevel: int = 2) -> list[dict[str, Any]] | None:
        """The stored rows of a chunk; what is damaged is told once, and then not there."""
        if self.folder is None or (key := self._key(chunk)) in self._damaged:
            return None
        if not (self.folder / f"{key}.parquet").exists():
            return None
        found = chunk_store.read(self.folder, chunk.runs, self.options, stacklevel=stacklevel + 1)
        if found is None:
            self._damaged.add(key)
        return found

    def take(self, chunk: Chunk) -> bool:
        """Claim a chunk; false if another sweep computes it at this moment."""
        return self._locks is None or self._locks.take(self._key(chunk))

    def keep(self, chunk: Chunk, rows: list[dict[str, Any]]) -> None:
        """Store the rows of a chunk, now or as soon as the folder can be written again.

        Warns
        -----
        SweepWarning
            The first time that the folder cannot be written.
        """
        if self.folder is None:
            return
        self._pending.append((chunk, rows))
        if (error := self._store()) is not None and not self._is_told:
            self._is_told = True
            warnings.warn(
                f"{self.folder} cannot be written ({error}); the sweep goes on, and keeps what it "
                "finishes in memory until it can be stored. If it is stopped before, these chunks "
                "are lost",
                SweepWarning,
                stacklevel=3,
            )

    def release(self, chunk: Chunk) -> None:
        """Give up the claim to a chunk."""
        if self._locks is not None:
            self._locks.release(self._key(chunk))

    def close(self) -> None:
        """Store what could not be stored before, if that is possible now; end all claims."""
        self._store()
        if self._locks is not None:
            self._locks.close()

    def _store(self) -> OSError | None:
        """Write what waits; the error if some of it cannot be written."""
        while self._pending:
            chunk, rows = self._pending[0]
            try:
                chunk_store.write(self.folder, chunk.runs, rows, self.options)
            except OSError as error:
                return error
            del self._pending[0]
            self.release(chunk)
        return None

    def _key(self, chunk: Chunk) -> str:
        if chunk.first not in self._keys:
            self._keys[chunk.first] = chunk_store.chunk_key(chunk.runs, self.options)
        return self._keys[chunk.first]

    @staticmethod
    def _tidy(folder: Path) -> None:
        """Remove what sweeps left that were killed while they wrote."""
        for path in folder.glob("*.part"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()
