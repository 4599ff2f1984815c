"""A partially observed matrix of the reader's own: read from a file, and written back completed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import ArrayLike

from dmf_utils._support.files import write_whole
from dmf_utils.user_data.triplets import DELIMITERS, NAMES, listed, read_triplets, write_triplets

__all__ = ["OwnMatrix", "read_matrix", "write_completed"]


@dataclass(frozen=True)
class OwnMatrix:
    """Observed entries of a matrix, with the names that its rows and columns have in the file.

    Make one with `read_matrix` or `from_array`. Rows and columns without an observed entry are left
    out: nothing says what stands there.

    Attributes
    ----------
    rows, columns : tuple of str
        Their names; lengths d and d'.
    row_index, column_index : ndarray of int, shape (m,)
        Place of each observed entry, counted from 0.
    values : ndarray of float, shape (m,)
    names : (str, str, str)
        What the file calls a row, a column and a value.
    remarks : tuple of str
        What the reader of the file should know: entries given twice, rows without any.
    full_shape : (int, int) or None
        Shape of the array, where the matrix comes from one; `rows` and `columns` count in it.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_index: np.ndarray
    column_index: np.ndarray
    values: np.ndarray
    names: tuple[str, str, str] = NAMES
    remarks: tuple[str, ...] = ()
    full_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        d, d_prime = self.shape
        if self.n_observed == d * d_prime:
            raise ValueError(
                f"all {d} × {d_prime} entries are observed: there is nothing to complete; leave "
                "out, or set to NaN, those that are not known"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows d and of columns d'."""
        return len(self.rows), len(self.columns)

    @property
    def n_observed(self) -> int:
        """Number m of observed entries."""
        return len(self.values)

    @classmethod
    def from_array(cls, array: ArrayLike, where: str = "array") -> OwnMatrix:
        """A matrix in which NaN marks what is unobserved.

        Parameters
        ----------
        array : array of numbers, shape (d, d')
        where : str
            What errors call it.

        Raises
        ------
        TypeError
            If the array does not hold real numbers.
        ValueError
            If it is no matrix, has an infinite entry, or has none observed, or all.
        """
        array = np.asarray(array)
        if array.dtype.kind not in "fiu":
            raise TypeError(
                f"{where}: must hold real numbers, got dtype {array.dtype}; convert it with "
                "astype(float)"
            )
        if array.ndim != 2:
            raise ValueError(
                f"{where}: must be a matrix, got shape {array.shape}; give it rows and columns"
            )
        array = array.astype(float)
        infinite = np.argwhere(np.isinf(array))
        if len(infinite):
            i, j = infinite[0]
            raise ValueError(
                f"{where}: the entry in row {i}, column {j} (from 0) is infinite; put NaN where "
                "nothing is observed"
            )
        seen = ~np.isnan(array)
        if not seen.any():
            raise ValueError(f"{where}: has no observed entry, only NaN; give some")
        kept = [np.flatnonzero(seen.any(axis=1 - axis)) for axis in (0, 1)]
        remarks = [
            f"{where}: {listed(name, sorted(set(range(size)) - set(at.tolist())))} (from 0) "
            "without an observed entry: left out, NaN in the completed matrix"
            for name, size, at in zip(("row", "column"), array.shape, kept, strict=True)
            if len(at) < size
        ]
        part = array[np.ix_(*kept)]
        i, j = np.nonzero(~np.isnan(part))
        return cls(
            *(tuple(map(str, at.tolist())) for at in kept),
            row_index=i,
            column_index=j,
            values=part[i, j],
            remarks=tuple(remarks),
            full_shape=array.shape,
        )


def read_matrix(path: str | os.PathLike[str], header: bool = True) -> OwnMatrix:
    """Read a partially observed matrix from a file.

    Parameters
    ----------
    path : path
        A text file of triplets, ``.csv`` parted by commas or ``.tsv`` by tabs, or an ``.npy`` array
        in which NaN marks what is unobserved. A line of triplets has a row's name, a column's name
        and a value, in the columns that the header calls ``row``, ``column`` and ``value``, else in
        the first three; what else it has is not used. Names are words or numbers. Rows and columns
        are put in the order of their numbers if all names are whole numbers, else in that of their
        first appearance.
    header : bool
        Whether the first line of triplets names the columns.

    Returns
    -------
    OwnMatrix

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError, ValueError
        For another kind of file, a missing header, a line that is not such a triplet, or one entry
        with two values: the message names the line.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; check its name")
    ending = path.suffix.lower()
    if ending == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError):
            # NumPy's own words would advise to unpickle the file.
            raise ValueError(
                f"{path.name}: is not an array of numbers as numpy.save writes it; save one, with "
                "NaN where nothing is observed"
            ) from None
        return OwnMatrix.from_array(array, path.name)
    if ending not in DELIMITERS:
        raise ValueError(
            f"{path.name}: must end in .csv or .tsv (a line for each observed entry: row, column, "
            "value) or .npy (an array with NaN)"
        )
    triplets = read_triplets(path, header)
    try:
        return OwnMatrix(**vars(triplets))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def write_completed(own: OwnMatrix, matrix: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write a completed matrix: an array as an array, triplets as triplets of all entries.

    The file is written beside its place and then put there whole.

    Parameters
    ----------
    own : OwnMatrix
        Whose names, order and full shape to use.
    matrix : array, shape (d, d')
    path : path
        ``.npy``, ``.csv`` or ``.tsv``. Triplets get a fourth column that says whether the entry was
        observed.

    Raises
    ------
    ValueError
        If the shape is another, or the ending.
    """
    path, matrix = Path(path), np.asarray(matrix, dtype=float)
    if matrix.shape != own.shape:
        raise ValueError(f"matrix must have shape {own.shape}, got {matrix.shape}")
    if path.suffix.lower() not in (".npy", *DELIMITERS):
        raise ValueError(f"path must end in .npy, .csv or .tsv, got {path.name!r}")

    def write(file: IO[bytes]) -> None:
        if path.suffix.lower() == ".npy":
            full = np.full(own.full_shape or own.shape, np.nan)
            kept = (own.rows, own.columns) if own.full_shape else map(range, own.shape)
            full[np.ix_(*([int(k) for k in names] for names in kept))] = matrix
            np.save(file, full)
            return
        seen = np.zeros(own.shape, dtype=bool)
        seen[own.row_index, own.column_index] = True
        lines = (
            (row, column, float(matrix[i, j]), bool(seen[i, j]))
            for i, row in enumerate(own.rows)
            for j, column in enumerate(own.columns)
        )
        write_triplets(file, DELIMITERS[path.suffix.lower()], own.names, lines)

    write_whole(path, write)
