"""Finished chunks of a sweep as files: written whole, checked when read, never unpickled."""

from __future__ import annotations

import hashlib
import json
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

__all__ = ["read", "write"]

Rows = list[dict[str, Any]]
_WITHOUT_NUMBERS = ("claims", "_rules", "plotting", "progress")  # modules that decide none


def write(folder: Path, runs: Rows, rows: Rows) -> None:
    """Store the `rows` of a chunk of `runs`, under a key made of the runs and the source.

    The file is written beside its place, then renamed, so no reader ever sees a part of it, and of
    two sweeps that write the same chunk the last one wins with the same contents.
    """
    key = _key(runs)
    about = {"key": key, "digest": _digest(rows), "runs": json.dumps(runs)}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(about)
    beside = folder / f"{key}.{uuid.uuid4().hex}.part"
    try:
        pq.write_table(table, beside)
        beside.replace(folder / f"{key}.parquet")
    finally:  # also when interrupted
        beside.unlink(missing_ok=True)


def read(folder: Path, runs: Rows) -> Rows | None:
    """The stored rows of a chunk; None if there are none, or, with a warning, damaged ones.

    Warns
    -----
    RuntimeWarning
        If the file is damaged; it names the file.
    """
    key = _key(runs)
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
        stacklevel=3,
    )
    return None


def _key(runs: Rows) -> str:
    text = json.dumps([runs, _SOURCE], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _digest(rows: Rows) -> str:
    """Checksum of the values, to the last bit: JSON holds the shortest digits that give it back."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _source_hash(folder: Path) -> str:
    """Hash of the source that decides the numbers, and of the libraries beneath it."""
    digest = hashlib.sha256(f"torch {torch.__version__} numpy {np.__version__}".encode())
    for path in sorted(folder.glob("*.py")):
        if path.stem not in _WITHOUT_NUMBERS:
            digest.update(path.read_bytes())
    return digest.hexdigest()


# Of the source as imported: a session whose files change afterwards goes on with what it loaded.
_SOURCE = _source_hash(Path(__file__).parent)
