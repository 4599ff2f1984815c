"""Read a partially observed matrix from the files people have."""

from __future__ import annotations

import dataclasses
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse

from dmf_utils.user_data.columns import LayoutChoice, find_layout
from dmf_utils.user_data.entries import Duplicates, entries_of
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.text import MatrixFileError, Table, read_text

__all__ = ["read_matrix"]

_OTHERS = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "a spreadsheet"),
    **dict.fromkeys((".mat", ".h5", ".hdf5", ".pkl", ".pickle", ".pt"), "a kind not read here"),
}


def read_matrix(
    path: str | os.PathLike[str],
    header: bool | None = None,
    *,
    columns: Sequence[str] | None = None,
    layout: LayoutChoice = "auto",
    duplicates: Duplicates = "error",
    missing: Sequence[float] | None = None,
) -> ObservedMatrix:
    """Read a partially observed matrix from a file.

    A text file with columns parted by commas, semicolons, tabs, bars, ``::`` or spaces, or a
    ``.parquet`` file or a structured ``.npy`` array, holds either a line for each observed entry
    (*triplets*: the names of a row and of a column, and a value), or the matrix itself (*wide*: a
    line for each row, names in the first line and column, missing entries empty, NaN, NA or ?).
    Columns of triplets are found by their usual names, such as user, movieId or rating. An ``.npy``
    array has NaN where nothing is observed; of a sparse matrix (``.npz`` by scipy, ``.mtx``) the
    stored entries are the observed ones.

    Parameters
    ----------
    path : path
    header : bool, optional
        Whether the first line names the columns; found out by default.
    columns : three str, optional
        The columns of row, column and value, by name or by number from 1.
    layout : {"auto", "triplets", "wide"}
    duplicates : {"error", "last", "mean"}
        What to do with entries that have several values.
    missing : sequence of float, optional
        Numbers that mark a missing entry, empty if none does. By default the usual marks, such as
        0, -1, 99 or -999, are asked about where they lie apart from the other values.

    Returns
    -------
    ObservedMatrix

    Raises
    ------
    MatrixFileError
        If there is no such file or it cannot be read so; the message names file and line.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise MatrixFileError(f"{path}: is a folder; name a file in it")
    if not path.is_file():
        raise MatrixFileError(f"{path}: there is no such file; check its name")
    ending = path.suffix.lower()
    if ending in _OTHERS:
        raise MatrixFileError(
            f"{path.name}: is {_OTHERS[ending]}; save it as .csv, .parquet, .npy, .npz or .mtx"
        )
    try:
        if ending in (".npz", ".mtx"):
            found = _sparse(path, ending, missing)
        elif ending == ".npy":
            found = _array(path, missing)
        elif ending in (".parquet", ".pq"):
            found = _frame(path.name, _parquet(path))
        else:
            found = read_text(path)
        if isinstance(found, Table):
            table = _matrix(found, header, columns, layout, duplicates)
            return table.without(missing, path.name)
        return found
    except TypeError as error:
        raise MatrixFileError(str(error)) from None
    except OSError as error:
        raise MatrixFileError(f"{path.name}: cannot be read ({error.strerror or error})") from None


def _matrix(
    table: Table,
    header: bool | None,
    columns: Sequence[str] | None,
    layout: LayoutChoice,
    duplicates: Duplicates,
) -> ObservedMatrix:
    how = find_layout(table, header, columns, layout)
    found = entries_of(table, how, duplicates)
    parts = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    parts["remarks"] = (*table.remarks, *how.remarks, *found.remarks)
    return ObservedMatrix(**parts, names=how.names, kind=how.kind)


def _frame(name: str, frame: pd.DataFrame) -> Table:
    """A data frame as a table of text, whose rows are counted from 1."""
    if frame.empty:
        raise MatrixFileError(f"{name}: is empty; give rows of row, column, value")
    named = not isinstance(frame.index, pd.RangeIndex)
    frame = frame.reset_index() if named else frame
    fields = [["" if pd.isna(x) else str(x).strip() for x in frame[c].tolist()] for c in frame]
    lines = [[str(column) for column in frame.columns], *map(list, zip(*fields, strict=True))]
    return Table(name, list(range(len(lines))), lines, "row", has_header=True)


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise MatrixFileError(f"{path.name}: is not a Parquet file ({error})") from None


def _array(path: Path, missing: Sequence[float] | None) -> ObservedMatrix | Table:
    try:
        array = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except Exception:
        # NumPy's own words would advise to unpickle the file.
        raise MatrixFileError(
            f"{path.name}: is not an array of numbers as numpy.save writes it; save one, with NaN "
            "where nothing is observed"
        ) from None
    if getattr(array.dtype, "names", None):
        if array.ndim != 1:
            raise MatrixFileError(f"{path.name}: a structured array must have one dimension")
        try:
            columns = {name: _words(array[name]).tolist() for name in array.dtype.names}
            return _frame(path.name, pd.DataFrame(columns))
        except (ValueError, TypeError):
            raise MatrixFileError(f"{path.name}: has fields that are no columns") from None
    return ObservedMatrix.from_array(array, path.name, missing)


def _words(field: np.ndarray) -> np.ndarray:
    """A field of bytes as text."""
    return np.char.decode(field, "utf-8", "replace") if field.dtype.kind == "S" else field


def _sparse(path: Path, ending: str, missing: Sequence[float] | None) -> ObservedMatrix:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if ending == ".mtx":
                if scipy.io.mminfo(path)[4] == "pattern":
                    raise MatrixFileError(f"{path.name}: has places without values; give values")
                found = scipy.io.mmread(path)
            else:
                found = _npz(path)
    except MatrixFileError:
        raise
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise MatrixFileError(f"{path.name}: cannot be read as {ending} ({error})") from None
    if not scipy.sparse.issparse(found):
        return ObservedMatrix.from_array(found, path.name, missing)
    found = scipy.sparse.coo_array(found)
    if found.dtype.kind not in "fiub":
        raise MatrixFileError(f"{path.name}: must hold real numbers, got dtype {found.dtype}")
    if found.ndim != 2:
        raise MatrixFileError(f"{path.name}: must be a matrix, got shape {found.shape}")
    rows, columns = found.coords
    places = pd.MultiIndex.from_arrays([rows, columns])
    if places.has_duplicates:
        at = int(np.flatnonzero(places.duplicated())[0])
        raise MatrixFileError(
            f"{path.name}: the entry in row {rows[at]}, column {columns[at]} (from 0) is stored "
            "more than once; sum or remove the duplicates"
        )
    return ObservedMatrix.from_indices(rows, columns, found.data, found.shape, path.name, missing)


def _npz(path: Path) -> object:
    # Of the contents: NumPy leaves a damaged file open.
    content = io.BytesIO(path.read_bytes())
    with np.load(content, allow_pickle=False) as file:
        names = set(file.files)
        if "format" in names:
            return scipy.sparse.load_npz(content)
        if {"data", "mask"} == names:
            return np.ma.MaskedArray(file["data"], file["mask"])
        if len(names) == 1:
            return file[names.pop()]
    raise MatrixFileError(
        f"{path.name}: must hold one array, the arrays data and mask, or a sparse matrix as "
        f"scipy.sparse.save_npz writes it; it has {', '.join(sorted(names))[:100]}"
    )
