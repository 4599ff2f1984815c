r"""Matrix completion with a nuclear norm penalty, along a path of penalties.

.. math:: \min_Z \; \tfrac12 \sum_{(i,j) \in \Omega} (Z_{ij} - y_{ij})^2 + \lambda \|Z\|_*
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dmf_utils.problems.completion import MatrixCompletion

__all__ = ["SoftImpute", "soft_impute", "soft_impute_path"]

_RATIO = 0.8  # of a penalty to the one before
_LEAST = 1e-3  # of the penalties, over that which makes the solution zero
_PATIENCE = 4  # penalties without a smaller error after which a path ends


@dataclass(frozen=True)
class SoftImpute:
    r"""The solution :math:`Z = U \operatorname{diag}(s) V^\top` at one penalty.

    Attributes
    ----------
    penalty : float
    U, s, V : Tensor, shapes (d, k), (k,), (d', k)
    sweeps : int
        Of alternating steps, since the penalty before.
    """

    penalty: float
    U: Tensor
    s: Tensor
    V: Tensor
    sweeps: int

    @property
    def factors(self) -> list[Tensor]:
        """``[W_1, W_2]`` with the product `Z`."""
        return [self.V.T.contiguous(), self.U * self.s]


def soft_impute(
    problem: MatrixCompletion,
    penalty: float,
    rank: int,
    before: SoftImpute | None = None,
    *,
    tolerance: float = 1e-4,
    max_sweeps: int = 200,
    dtype: torch.dtype = torch.float64,
) -> SoftImpute:
    """Solve at one penalty, by alternating ridge regressions on the filled-in matrix.

    A sweep costs products of a sparse residual with `rank` vectors and of tall factors; no matrix
    of the full size is formed.

    Parameters
    ----------
    problem : MatrixCompletion
        Its values and places; its own scale of the loss is not used.
    penalty : float
    rank : int
        Bound of the rank of the solution.
    before : SoftImpute, optional
        The solution at a larger penalty, to start from.
    tolerance : float
        Relative change of `Z` in a sweep at which it ends.
    dtype : torch.dtype
        Precision of the sweeps.

    References
    ----------
    R. Mazumder, T. Hastie, R. Tibshirani, *Spectral regularization algorithms for learning large
    incomplete matrices*, JMLR 11 (2010); T. Hastie, R. Mazumder, J. D. Lee, R. Zadeh, *Matrix
    completion and low-rank SVD via fast alternating least squares*, JMLR 16 (2015).
    """
    entries = problem.observed_entries(dtype)
    U, s, V = (part.to(dtype) for part in _start(problem.shape, rank, before, penalty))
    sweeps, change = 0, math.inf
    while sweeps < max_sweeps and change > tolerance:
        old = U, s, V
        residual = entries.values - entries.at(U * s, V.T)
        M = (entries.transpose(residual) @ U + V * s) * (s / (s + penalty))
        V, s, Q = torch.linalg.svd(M, full_matrices=False)
        U = U @ Q.T
        residual = entries.values - entries.at(U * s, V.T)
        M = (entries.matrix(residual) @ V + U * s) * (s / (s + penalty))
        U, s, Q = torch.linalg.svd(M, full_matrices=False)
        V = V @ Q.T
        sweeps, change = sweeps + 1, _change(old, (U, s, V))
    residual = entries.values - entries.at(U * s, V.T)
    U, s, Q = torch.linalg.svd(entries.matrix(residual) @ V + U * s, full_matrices=False)
    parts = U, (s - penalty).clamp_min(0.0), V @ Q.T
    return SoftImpute(penalty, *(part.to(torch.float64) for part in parts), sweeps)


def _start(
    shape: tuple[int, int], rank: int, before: SoftImpute | None, penalty: float
) -> tuple[Tensor, Tensor, Tensor]:
    if before is None:
        generator = np.random.default_rng(0)
        U, V = (
            torch.linalg.qr(torch.from_numpy(generator.standard_normal((size, rank))))[0]
            for size in shape
        )
        return U, torch.full((rank,), penalty, dtype=U.dtype), V
    # What was zero could not grow from zero.
    return before.U, before.s.clamp_min(0.1 * penalty), before.V


def _change(old: tuple[Tensor, Tensor, Tensor], new: tuple[Tensor, Tensor, Tensor]) -> float:
    """Relative distance of two products, by their factors alone."""
    inner = float((((old[0].T @ new[0]) * new[1]) * (old[1][:, None] * (old[2].T @ new[2]))).sum())
    sizes = [float(s.square().sum()) for s in (old[1], new[1])]
    return math.sqrt(max(sum(sizes) - 2 * inner, 0.0) / max(sizes[0], 1e-300))


def soft_impute_path(
    problem: MatrixCompletion,
    rank: int,
    error: Callable[[SoftImpute], float],
    dtype: torch.dtype = torch.float64,
) -> Iterator[tuple[SoftImpute, float]]:
    """Solutions at falling penalties, each from the one before, with their errors.

    The path ends when the error has not fallen for some penalties, or at a thousandth of the
    penalty that makes the solution zero.

    Parameters
    ----------
    problem : MatrixCompletion
    rank : int
        Bound of the rank.
    error : callable
        Error of a solution, on entries that the problem does not see.
    """
    largest = _largest_penalty(problem)
    penalty, found = _RATIO * largest, None
    best, since = math.inf, 0
    while penalty >= _LEAST * largest and since < _PATIENCE:
        found = soft_impute(problem, penalty, rank, found, tolerance=1e-3, dtype=dtype)
        seen = error(found)
        yield found, seen
        best, since = (seen, 0) if seen < best else (best, since + 1)
        penalty *= _RATIO


def _largest_penalty(problem: MatrixCompletion) -> float:
    """The spectral norm of the observed entries: at this penalty the solution is zero."""
    entries = problem.observed_entries()
    sparse, back = entries.matrix(entries.values), entries.transpose(entries.values)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((problem.shape[1], 2)))
    size = 0.0
    for _ in range(30):
        x = torch.linalg.qr(back @ (sparse @ x))[0]
        size = float(torch.linalg.matrix_norm(sparse @ x, 2))
    return size
