"""Which observed entries hang together: the bipartite graph of rows and columns.

Rows and columns are the vertices, and each observed entry joins its row to its column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

__all__ = ["Component", "observation_components"]


@dataclass(frozen=True)
class Component:
    """A connected component of the observed entries."""

    rows: Tensor
    """(a,): indices of its rows, increasing."""
    columns: Tensor
    """(b,): indices of its columns, increasing."""
    n_observed: int
    """Observed entries within it."""

    @property
    def is_complete(self) -> bool:
        """Whether every entry of its rows and columns is observed: complete bipartite."""
        return self.n_observed == len(self.rows) * len(self.columns)


def observation_components(mask: Tensor) -> list[Component]:
    """Find the connected components of the graph of the observed entries.

    A row or a column without observed entries is a component of its own, with no columns or rows.

    Parameters
    ----------
    mask : Tensor of bool, shape (d, d')
        True where an entry is observed.

    Returns
    -------
    list of Component
        Ordered by their first row, those without rows last.

    Raises
    ------
    TypeError, ValueError
        If `mask` is no matrix of truth values.

    References
    ----------
    Z. Bai, J. Zhao, Y. Zhang, *Connectivity Shapes Implicit Regularization in Matrix Factorization
    Models for Matrix Completion*, NeurIPS 2024.
    """
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be of dtype bool, got {mask.dtype}; use `mask != 0`")
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"mask must be a non-empty matrix (d, d'), got shape {tuple(mask.shape)}")
    d, d_prime = mask.shape
    i, j = (index.numpy() for index in mask.nonzero(as_tuple=True))
    edges = coo_array((np.ones(len(i)), (i, d + j)), shape=(d + d_prime,) * 2)
    count, labels = connected_components(edges, directed=False)
    found = []
    for label in range(count):
        rows = torch.from_numpy(np.flatnonzero(labels[:d] == label))
        columns = torch.from_numpy(np.flatnonzero(labels[d:] == label))
        found.append(Component(rows, columns, int(mask[rows][:, columns].sum())))
    return sorted(found, key=lambda part: int(part.rows[0]) if len(part.rows) else d)
