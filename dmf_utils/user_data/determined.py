"""Which entries of a matrix of low rank the observed ones can determine at all.

Within a connected component of the graph of the observed entries, rows and columns hang together;
between two components any sign and any scale fits. And a row has as many unknowns as the rank: with
fewer observations, in columns that are determined themselves, it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["Determined", "determined_entries"]


@dataclass(frozen=True)
class Determined:
    """Components of what is determined.

    Attributes
    ----------
    rank : int
        The rank that was asked about.
    n_components : int
        Connected components of all observed entries.
    rows, columns : ndarray of int, shapes (d,), (d',)
        The component of each, -1 where it has too few observations for the rank.
    """

    rank: int
    n_components: int
    rows: np.ndarray
    columns: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(d, d'): whether an entry is determined."""
        return (self.rows[:, None] == self.columns) & (self.rows >= 0)[:, None]


def determined_entries(
    i: np.ndarray, j: np.ndarray, shape: tuple[int, int], rank: int
) -> Determined:
    """Find what the places of the observed entries can determine of a matrix of this rank.

    The conditions are necessary, not sufficient: rows and columns with fewer than `rank`
    observations are taken away until none is left, and what remains is parted into components.

    Parameters
    ----------
    i, j : ndarray of int, shape (m,)
        Rows and columns of the observed entries.
    shape : (int, int)
    rank : int

    References
    ----------
    A. Singer, M. Cucuringu, *Uniqueness of low-rank matrix completion by rigidity theory*,
    SIAM J. Matrix Anal. Appl. 31 (2010).
    """
    n_components, _, _ = _components(i, j, shape)
    kept = np.ones(len(i), dtype=bool)
    while True:
        few = [
            np.bincount(index[kept], minlength=size) < rank
            for index, size in zip((i, j), shape, strict=True)
        ]
        dropped = kept & (few[0][i] | few[1][j])
        if not dropped.any():
            break
        kept &= ~dropped
    _, rows, columns = _components(i[kept], j[kept], shape)
    return Determined(rank, n_components, np.where(few[0], -1, rows), np.where(few[1], -1, columns))


def _components(
    i: np.ndarray, j: np.ndarray, shape: tuple[int, int]
) -> tuple[int, np.ndarray, np.ndarray]:
    edges = coo_array((np.ones(len(i)), (i, shape[0] + j)), shape=(sum(shape),) * 2)
    count, labels = connected_components(edges, directed=False)
    return count, labels[: shape[0]], labels[shape[0] :]
