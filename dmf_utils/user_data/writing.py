"""Write a completed matrix in the form that the given one has."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from dmf_utils._support.files import write_whole
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.text import is_number

__all__ = ["DELIMITERS", "completed_ending", "guarded", "write_completed", "write_triplets"]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # by which a spreadsheet knows a formula


def guarded(name: str) -> str:
    """A name that a spreadsheet takes for text: behind an apostrophe if it looks like a formula."""
    bare = name.lstrip("'")  # one that stood behind an apostrophe already gets one more
    return f"'{name}" if bare.startswith(_FORMULA) and not is_number(name) else name


def completed_ending(path: Path) -> str:
    """The ending of the completed file: text stays text, all others become an array or Parquet."""
    ending = path.suffix.lower()
    if ending in (".npy", ".npz", ".mtx"):
        return ".npy"
    if ending in (".parquet", ".pq"):
        return ".parquet"
    return ".tsv" if ending in (".tsv", ".tab") else ".csv"


def write_completed(
    data: ObservedMatrix, matrix: np.ndarray, path: str | os.PathLike[str]
) -> tuple[str, ...]:
    """Write a completed matrix: an array as an array, a table as a table, triplets of all entries.

    The file is written beside its place and then put there whole.

    Parameters
    ----------
    data : ObservedMatrix
        Whose names, order, layout and full shape to use.
    matrix : array, shape (d, d')
        NaN where an entry is not determined; in a text file it is empty.
    path : path
        ``.npy``, ``.parquet``, ``.csv`` or ``.tsv``. Triplets get a fourth column that says whether
        the entry was observed.

    Returns
    -------
    tuple of str
        What is to be said: names that were put behind an apostrophe.

    Raises
    ------
    ValueError
        If the shape is another, or the ending.
    """
    path, matrix = Path(path), np.asarray(matrix, dtype=float)
    ending = path.suffix.lower()
    if matrix.shape != data.shape:
        raise ValueError(f"matrix must have shape {data.shape}, got {matrix.shape}")
    if ending not in (".npy", ".parquet", *DELIMITERS):
        raise ValueError(f"path must end in .npy, .parquet, .csv or .tsv, got {path.name!r}")
    if ending == ".npy":
        full = np.full(data.full_shape or data.shape, np.nan)
        kept = (data.rows, data.columns) if data.full_shape else map(range, data.shape)
        full[np.ix_(*([int(k) for k in names] for names in kept))] = matrix
        write_whole(path, lambda file: np.save(file, full))
        return ()
    if ending == ".parquet":
        frame = _frame(data, matrix)
        write_whole(path, lambda file: frame.to_parquet(file, index=data.kind == "wide"))
        return ()
    delimiter = DELIMITERS[ending]
    if data.kind == "wide":
        lines = ([row, *map(_text, of_row)] for row, of_row in _by_row(data, matrix))
        header = ["", *data.columns]
        write_whole(path, lambda file: _write(file, delimiter, itertools.chain([header], lines)))
    else:
        seen = np.zeros(data.shape, dtype=bool)
        seen[data.row_index, data.column_index] = True
        entries = (
            (row, column, value, was_seen)
            for k, (row, of_row) in enumerate(_by_row(data, matrix))
            for column, value, was_seen in zip(data.columns, of_row, seen[k], strict=True)
        )
        write_whole(path, lambda file: write_triplets(file, delimiter, data.names, entries))
    names = [*data.names, *data.rows, *data.columns]
    changed = [name for name in names if guarded(name) != name]
    if not changed:
        return ()
    return (
        f"{path.name}: {len(changed)} names, such as {changed[0]!r}, stand behind an apostrophe, "
        "so that a spreadsheet does not run them as formulas",
    )


def write_triplets(
    file: IO[bytes],
    delimiter: str,
    names: Sequence[str],
    entries: Iterable[tuple[str, str, float, bool]],
) -> None:
    """Write row, column, value, and whether the entry was observed, 1 or 0, below a header."""
    lines = ([row, column, _text(value), str(int(seen))] for row, column, value, seen in entries)
    _write(file, delimiter, itertools.chain([[*names, "observed"]], lines))


def _by_row(data: ObservedMatrix, matrix: np.ndarray) -> Iterable[tuple[str, list[float]]]:
    return ((row, matrix[k].tolist()) for k, row in enumerate(data.rows))


def _text(value: float) -> str:
    return "" if value != value else repr(float(value))


def _write(file: IO[bytes], delimiter: str, lines: Iterable[Sequence[str]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    plain, quoted = (
        csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for line in lines:
        fields = [guarded(field) for field in line]
        # Python's writer leaves a carriage return unquoted, and its reader ends a line there.
        (quoted if "\r" in "".join(fields) else plain).writerow(fields)
    text.detach()  # flushes, and leaves the file open


def _frame(data: ObservedMatrix, matrix: np.ndarray) -> pd.DataFrame:
    if data.kind == "wide":
        return pd.DataFrame(matrix, index=list(data.rows), columns=list(data.columns))
    seen = np.zeros(data.shape, dtype=bool)
    seen[data.row_index, data.column_index] = True
    rows, columns = (np.array(names, dtype=object) for names in (data.rows, data.columns))
    parts = (np.repeat(rows, len(columns)), np.tile(columns, len(rows)), matrix.ravel())
    return pd.DataFrame(dict(zip((*data.names, "observed"), (*parts, seen.ravel()), strict=True)))
