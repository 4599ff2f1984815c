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

_MOST_UNKNOWNS = 1500  # rank times rows and columns, for which the tangent space is computed


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
    flexible : ndarray of bool, shape (d, d'), or None
        Entries that can move while the observed ones stay, within matrices of this rank; None for
        matrices so large that it was not computed.
    """

    rank: int
    n_components: int
    rows: np.ndarray
    columns: np.ndarray
    flexible: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray:
        """(d, d'): whether an entry is determined."""
        together = (self.rows[:, None] == self.columns) & (self.rows >= 0)[:, None]
        return together if self.flexible is None else together & ~self.flexible


def determined_entries(
    i: np.ndarray, j: np.ndarray, shape: tuple[int, int], rank: int
) -> Determined:
    r"""Find what the places of the observed entries can determine of a matrix of this rank.

    Rows and columns with fewer than `rank` observations are taken away until none is left, and what
    remains is parted into components. These conditions are necessary, not sufficient: two groups
    that one entry ties together are a component. So, where the matrix is not too large, the tangent
    space is looked at as well. At factors :math:`U, V` an entry moves by
    :math:`\dot U_i \cdot V_j + U_i \cdot \dot V_j`; it is flexible if some motion moves it and no
    observed entry. For almost all :math:`U, V` the answer is the same, so random ones are taken.

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
    return Determined(
        rank,
        n_components,
        np.where(few[0], -1, rows),
        np.where(few[1], -1, columns),
        _flexible(i, j, shape, rank) if rank * sum(shape) <= _MOST_UNKNOWNS else None,
    )


def _flexible(i: np.ndarray, j: np.ndarray, shape: tuple[int, int], rank: int) -> np.ndarray:
    """Entries that a random motion moves which leaves all observed ones where they are."""
    d, n = shape[0], rank * sum(shape)
    generator = np.random.default_rng(0)
    U, V = (generator.standard_normal((size, rank)) for size in shape)
    m, steps = len(i), np.arange(rank)
    at = np.repeat(np.arange(m), rank)
    of_rows, of_columns = ((x[:, None] * rank + steps).ravel() for x in (i, d + j))
    values = np.concatenate([V[j].ravel(), U[i].ravel()])
    places = np.concatenate([at, at]), np.concatenate([of_rows, of_columns])
    J = coo_array((values, places), shape=(m, n)).tocsr()
    curvature, motions = np.linalg.eigh((J.T @ J).toarray())
    free = motions[:, curvature < 1e-10 * curvature[-1]]
    motion = free @ generator.standard_normal(free.shape[1])
    dU, dV = motion[: rank * d].reshape(d, rank), motion[rank * d :].reshape(-1, rank)
    moved = np.abs(dU @ V.T + U @ dV.T)
    moved[i, j] = 0.0
    return moved > 1e-6  # of motions of length one, which rounding knows to about 1e-9


def _components(
    i: np.ndarray, j: np.ndarray, shape: tuple[int, int]
) -> tuple[int, np.ndarray, np.ndarray]:
    edges = coo_array((np.ones(len(i)), (i, shape[0] + j)), shape=(sum(shape),) * 2)
    count, labels = connected_components(edges, directed=False)
    return count, labels[: shape[0]], labels[shape[0] :]
