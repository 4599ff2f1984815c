"""Finished chunks of a sweep as files: written whole, checked when read, never unpickled."""

from __future__ import annotations

import hashlib
import json
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dmf_utils.sweep.source import SOURCE

__all__ = ["chunk_key", "read", "write"]

Rows = Sequence[Mapping[str, Any]]


def write(folder: Path, runs: Rows, rows: Rows, options: Mapping[str, Any] | None = None) -> None:
    """Store the `rows` of a chunk of `runs`, under a key made of runs, options and the source.

    The file is written beside its place, then renamed, so no reader ever sees a part of it, and of
    two sweeps that write the same chunk the last one wins with the same contents.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is still there, and nothing beside it.
    """
    key = chunk_key(runs, options)
    about = {"key": key, "digest": _digest(rows), "runs": json.dumps(list(runs))}
    table = pa.Table.from_pylist(list(rows)).replace_schema_metadata(about)
    beside = folder / f"{key}.{uuid.uuid4().hex}.part"
    try:
        pq.write_table(table, beside)
        beside.replace(folder / f"{key}.parquet")
    finally:  # also when interrupted
        beside.unlink(missing_ok=True)


def read(
    folder: Path,
    runs: Rows,
    options: Mapping[str, Any] | None = None,
    *,
    stacklevel: int = 2,
) -> list[dict[str, Any]] | None:
    """The stored rows of a chunk; None if there are none, or, with a warning, damaged ones.

    Warns
    -----
    RuntimeWarning
        If the file is damaged; it names the file.
    """
    key = chunk_key(runs, options)
    path = folder / f"{key}.parquet"
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        about = table.schema.metadata or {}
        rows = table.to_pylist()
        whole = about.get(b"key") == key.encode() and len(rows) == len(runs)
        if whole and about.get(b"digest") == _digest(rows).encode():
            return rows
        reason = "its contents do not match their checksum"
    except Exception as error:  # what a damaged file makes a reader raise is anyone's guess
        reason = (str(error) or type(error).__name__).splitlines()[0]
    warnings.warn(
        f"{path} is damaged ({reason}); its {len(runs)} runs are computed again",
        RuntimeWarning,
        stacklevel=stacklevel,
    )
    return None


def chunk_key(runs: Rows, options: Mapping[str, Any] | None = None) -> str:
    """Name of a chunk's file: a hash of its runs, of what else is asked, and of the source."""
    about = [list(runs), _SOURCE, *([dict(options)] if options else [])]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _digest(rows: Rows) -> str:
    """Checksum of the values, to the last bit: JSON holds the shortest digits that give it back."""
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()


_SOURCE = SOURCE
