"""Finished chunks of a sweep as files: written whole, checked when read, never unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
    table = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)
    about = {"key": key, "digest": _digest(table.to_pandas()), "runs": json.dumps(runs)}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **about})
    beside = folder / f"{key}.{os.getpid()}.part"
    pq.write_table(table, beside)
    beside.replace(folder / f"{key}.parquet")


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
        frame = table.to_pandas()
        whole = about.get(b"key") == key.encode() and len(frame) == len(runs)
        if whole and about.get(b"digest") == _digest(frame).encode():
            return frame.to_dict("records")
        reason = "its contents do not match their checksum"
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
    warnings.warn(
        f"{path} is damaged ({reason}); its {len(runs)} runs are computed again",
        RuntimeWarning,
        stacklevel=3,
    )
    return None


def _key(runs: Rows) -> str:
    text = json.dumps([runs, _source_hash()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _digest(frame: pd.DataFrame) -> str:
    return hashlib.sha256(frame.to_json(double_precision=15).encode()).hexdigest()


@cache
def _source_hash() -> str:
    """Hash of the source that decides the numbers, and of the libraries beneath it."""
    digest = hashlib.sha256(f"torch {torch.__version__} numpy {np.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in _WITHOUT_NUMBERS:
            digest.update(path.read_bytes())
    return digest.hexdigest()
