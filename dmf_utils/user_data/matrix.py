"""A partially observed matrix of the reader's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from dmf_utils.user_data.columns import NAMES
from dmf_utils.user_data.entries import check_sentinels
from dmf_utils.user_data.text import MatrixFileError, listed

__all__ = ["Kind", "ObservedMatrix"]

Kind = Literal["triplets", "wide", "array"]


@dataclass(frozen=True)
class ObservedMatrix:
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
        What the reader of the file should know: which columns were used, entries given twice.
    full_shape : (int, int) or None
        Shape of the array, where the matrix comes from one; `rows` and `columns` count in it.
    kind : {"triplets", "wide", "array"}
        How the file was laid out.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_index: np.ndarray
    column_index: np.ndarray
    values: np.ndarray
    names: tuple[str, str, str] = NAMES
    remarks: tuple[str, ...] = ()
    full_shape: tuple[int, int] | None = None
    kind: Kind = "triplets"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows d and of columns d'."""
        return len(self.rows), len(self.columns)

    @property
    def n_observed(self) -> int:
        """Number m of observed entries."""
        return len(self.values)

    @classmethod
    def from_array(
        cls, array: ArrayLike, where: str = "array", missing: Sequence[float] | None = ()
    ) -> Self:
        """A matrix in which NaN, or the mask of a masked array, marks what is unobserved.

        Parameters
        ----------
        array : array of numbers, shape (d, d')
        where : str
            What errors call it.
        missing : sequence of float, or None
            As of `without`.

        Raises
        ------
        TypeError
            If the array does not hold real numbers.
        MatrixFileError
            If it is no matrix, has an infinite entry, or has none observed, or all.
        """
        mask = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else False
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise TypeError(
                f"{where}: must hold real numbers, got dtype {array.dtype}; convert it with "
                "astype(float)"
            )
        if array.ndim != 2:
            raise MatrixFileError(
                f"{where}: must be a matrix, got shape {array.shape}; give it rows and columns"
            )
        with np.errstate(over="ignore"):  # of longer numbers: refused below, as infinite
            array = np.where(mask, np.nan, array.astype(float))
        i, j = np.nonzero(~np.isnan(array))
        return cls.from_indices(i, j, array[i, j], array.shape, where, missing)

    @classmethod
    def from_indices(
        cls,
        row_index: np.ndarray,
        column_index: np.ndarray,
        values: np.ndarray,
        full_shape: tuple[int, int],
        where: str = "matrix",
        missing: Sequence[float] | None = (),
    ) -> Self:
        """A matrix by the places and values of its observed entries, as a sparse one has them.

        Raises
        ------
        MatrixFileError
            If a value is infinite or NaN, or if none is observed, or all.
        """
        finite = np.isfinite(values)
        if not finite.all():
            at = int(np.flatnonzero(~finite)[0])
            raise MatrixFileError(
                f"{where}: the entry in row {row_index[at]}, column {column_index[at]} (from 0) is "
                "infinite or NaN; give finite numbers, and NaN only where nothing is observed"
            )
        if not len(values):
            raise MatrixFileError(f"{where}: has no observed entry; give some")
        used, places, remarks = [], [], []
        for of, size, index in zip(
            ("row", "column"), full_shape, (row_index, column_index), strict=True
        ):
            kept, place = np.unique(index, return_inverse=True)
            used.append(kept)
            places.append(place)
            empty = np.setdiff1d(np.arange(size), kept)
            if len(empty):
                remarks.append(
                    f"{where}: {listed(of, empty)} (from 0) without an observed entry: left out, "
                    "NaN in the completed matrix"
                )
        return cls(
            *(tuple(map(str, kept.tolist())) for kept in used),
            row_index=places[0],
            column_index=places[1],
            values=np.asarray(values, dtype=float),
            remarks=tuple(remarks),
            full_shape=(int(full_shape[0]), int(full_shape[1])),
            kind="array",
        ).without(missing, where)

    def without(self, missing: Sequence[float] | None, where: str) -> Self:
        """This matrix without the values that mark a missing entry.

        Parameters
        ----------
        missing : sequence of float, or None
            None to ask where some usual mark may be one; empty to take all as data.
        where : str
            What errors call it.

        Raises
        ------
        MatrixFileError
            If such a mark lies apart from the other values, or if of what is left all entries are
            observed, or none, or there is a single row or column.
        """
        own_units = self.column_index if self.kind != "triplets" else None
        kept = check_sentinels(where, self.values, missing, own_units)
        if kept.all():
            return self._checked(where)
        if not kept.any():
            raise MatrixFileError(f"{where}: every value is one of those that mark a missing one")
        marks = ", ".join(f"{mark:.10g}" for mark in missing or ())
        remarks = [f"{where}: {int((~kept).sum())} entries with the value {marks} are not known"]
        names, places = [], []
        for of, have, index in (
            ("row", self.rows, self.row_index[kept]),
            ("column", self.columns, self.column_index[kept]),
        ):
            used, place = np.unique(index, return_inverse=True)
            names.append(tuple(have[k] for k in used))
            places.append(place)
            empty = [have[k] for k in np.setdiff1d(np.arange(len(have)), used)]
            if empty:
                remarks.append(f"{where}: {listed(of, empty)} without an observed entry: left out")
        return type(self)(
            *names,
            *places,
            self.values[kept],
            self.names,
            (*self.remarks, *remarks),
            self.full_shape,
            self.kind,
        )._checked(where)

    def _checked(self, where: str) -> Self:
        d, d_prime = self.shape
        if min(d, d_prime) < 2:
            one = "row" if d < 2 else "column"
            raise MatrixFileError(
                f"{where}: there is one {one} only: its entries say nothing about each other; give "
                "at least two rows and two columns"
            )
        if self.n_observed == d * d_prime:
            raise MatrixFileError(
                f"{where}: all {d} × {d_prime} entries are observed: there is nothing to complete; "
                "leave out, or set to NaN, those that are not known"
            )
        return self
