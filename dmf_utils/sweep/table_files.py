"""Tables as files that say where they come from, written whole."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["read_provenance", "write_table"]

_KEY = b"dmf_provenance"


def write_table(table: pd.DataFrame, path: Path, about: Mapping[str, Any]) -> None:
    """Write a table, with its provenance, beside its place and then rename it.

    Parameters
    ----------
    table : DataFrame
    path : Path
        Ends in ``.parquet``, whose metadata hold the provenance, or in ``.csv``, which gets a
        second file ``NAME.csv.json`` for it.
    about : mapping
        Whatever JSON can hold.

    Raises
    ------
    ValueError
        For another ending.
    OSError
        If it cannot be written; what was there before is still there.
    """
    text = json.dumps(about, ensure_ascii=False)
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        if path.suffix == ".parquet":
            whole = pa.Table.from_pandas(table, preserve_index=False)
            metadata = (whole.schema.metadata or {}) | {_KEY: text.encode()}
            pq.write_table(whole.replace_schema_metadata(metadata), beside)
        elif path.suffix == ".csv":
            beside.write_text(text + "\n", encoding="utf-8")
            beside.replace(_sidecar(path))
            table.to_csv(beside, index=False)
        else:
            raise ValueError(f"{path} must end in .parquet or .csv")
        beside.replace(path)
    finally:  # also when interrupted
        beside.unlink(missing_ok=True)


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Where a table comes from: parameters, versions, source, machine, command, times.

    Parameters
    ----------
    path : path
        A file that `write_table` wrote, such as those of ``dmf sweep``.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it says nothing of where it comes from.
    """
    path = Path(path)
    if path.suffix == ".csv":
        if not path.exists() or not _sidecar(path).exists():
            raise FileNotFoundError(f"{path} or {_sidecar(path)} is not there")
        return json.loads(_sidecar(path).read_text(encoding="utf-8"))
    metadata = pq.read_schema(path).metadata or {}
    if _KEY not in metadata:
        raise ValueError(f"{path} does not say where it comes from: `dmf sweep` did not write it")
    return json.loads(metadata[_KEY])


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
