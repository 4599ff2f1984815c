"""Tables as files that say where they come from, written whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dmf_utils._support.files import file_digest, together

__all__ = ["is_ours", "outputs_of", "read_provenance", "write_tables"]

_KEY = b"dmf_provenance"
_DIGEST = "table_digest"


def write_tables(tables: Mapping[Path, pd.DataFrame], about: Mapping[str, Any]) -> None:
    """Write tables with their provenance: beside their places, then renamed, all or none.

    Parameters
    ----------
    tables : mapping of Path to DataFrame
        A path ends in ``.parquet``, whose metadata hold the provenance, or in ``.csv``, which gets
        a second file ``NAME.csv.json`` for it, with a digest of the table.
    about : mapping
        Whatever JSON can hold.

    Raises
    ------
    ValueError
        For another ending.
    OSError
        If one cannot be written; what was there before is still there.
    """
    text = json.dumps(about, ensure_ascii=False)
    with together(*outputs_of(tables)) as parts:
        rest = iter(parts)
        for path, table in tables.items():
            part = next(rest)
            if path.suffix == ".parquet":
                whole = pa.Table.from_pandas(table, preserve_index=False)
                metadata = (whole.schema.metadata or {}) | {_KEY: text.encode()}
                pq.write_table(whole.replace_schema_metadata(metadata), part)
            else:
                table.to_csv(part, index=False)
                digest = {_DIGEST: file_digest(part)}
                stated = json.dumps(dict(about) | digest, ensure_ascii=False)
                next(rest).write_text(stated + "\n", encoding="utf-8")


def outputs_of(paths: Iterable[Path]) -> list[Path]:
    """All files that tables at these paths consist of.

    Raises
    ------
    ValueError
        For another ending than ``.parquet`` or ``.csv``.
    """
    found = []
    for path in paths:
        if path.suffix not in (".parquet", ".csv"):
            raise ValueError(f"{path} must end in .parquet or .csv")
        found += [path, _sidecar(path)] if path.suffix == ".csv" else [path]
    return found


def is_ours(path: Path) -> bool:
    """Whether a file is a table, or the provenance of one, as `write_tables` wrote it."""
    try:
        if path.suffix == ".json":
            return isinstance(json.loads(path.read_bytes())[_DIGEST], str)
        return bool(read_provenance(path))
    except (OSError, ValueError, TypeError, LookupError, RecursionError, pa.ArrowException):
        return False


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Where a table comes from: parameters, versions, source, machine, command, times.

    Parameters
    ----------
    path : path
        A file that `write_tables` wrote, such as those of ``dmf sweep``.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it says nothing of where it comes from, or what is said is of another table.
    """
    path = Path(path)
    if path.suffix == ".csv":
        if not path.exists() or not _sidecar(path).exists():
            raise FileNotFoundError(f"{path} or {_sidecar(path)} is not there")
        about = json.loads(_sidecar(path).read_bytes())
        if not isinstance(about, dict) or about.pop(_DIGEST, None) != file_digest(path):
            raise ValueError(
                f"{_sidecar(path)} is not of the table {path} as it is now: one of the two was "
                "changed or replaced; run the sweep again"
            )
        return about
    metadata = pq.read_schema(path).metadata or {}
    if _KEY not in metadata:
        raise ValueError(f"{path} does not say where it comes from: `dmf sweep` did not write it")
    return json.loads(metadata[_KEY])


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
