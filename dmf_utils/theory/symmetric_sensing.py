r"""Random symmetric measurements of a positive semidefinite matrix, and spaces of eigenvectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils.problems.sensing import MatrixSensing

__all__ = ["leading_space", "space_angle", "symmetric_gaussian", "symmetric_sensing"]


def symmetric_sensing(
    eigenvalues: Sequence[float], n: int, n_measurements: int, seed: int
) -> MatrixSensing:
    r"""Measure :math:`W^* = \sum_k \lambda_k q_k q_k^\top` by random symmetric matrices.

    Their entries are Gaussian, of variance :math:`1/m` off the diagonal and :math:`2/m` on it, so
    that :math:`\sum_i \langle A_i, W \rangle^2` is :math:`2 \|W\|_F^2` on average: they are nearly
    an isometry on matrices of low rank if there are enough of them. The loss has the factor
    :math:`\tfrac12`.

    Parameters
    ----------
    eigenvalues : sequence of positive numbers
        Those of the ground truth; as many as its rank.
    n : int
        Rows and columns.
    n_measurements : int
    seed : int

    Returns
    -------
    MatrixSensing
    """
    lam = checks.vector(eigenvalues, "eigenvalues")
    n = checks.whole_number(n, "n", len(lam), "the ground truth's rank has to fit")
    m = checks.whole_number(n_measurements, "n_measurements", 1)
    rng = np.random.default_rng(checks.whole_number(seed, "seed", 0))
    basis = torch.from_numpy(np.linalg.qr(rng.standard_normal((n, len(lam))))[0])
    truth = (basis * lam) @ basis.T
    drawn = torch.from_numpy(rng.standard_normal((m, n, n)))
    A = (drawn + drawn.mT) / math.sqrt(2 * m)
    return MatrixSensing(A, A.flatten(1) @ truth.flatten(), truth, reduction="half_sum")


@dataclass(frozen=True)
class symmetric_gaussian:
    r"""Start :math:`W_1 = U^\top`, :math:`W_2 = U`, with :math:`U = \alpha G / \sqrt h`, h hidden.

    The entries of :math:`G` are standard normal. With symmetric measurements the flow keeps
    :math:`W_2 = W_1^\top`, so that it is the flow of :math:`\ell(U U^\top)`.

    Parameters
    ----------
    alpha : float
        Positive.
    seed : int
    """

    alpha: float
    seed: int

    def __post_init__(self) -> None:
        checks.positive(self.alpha, "alpha")
        checks.whole_number(self.seed, "seed", 0)

    def factors(
        self, shape: tuple[int, int], depth: int, hidden: int | None = None
    ) -> list[Tensor]:
        """Factors ``[U^T, U]`` for a square product matrix of this `shape`; depth 2 only."""
        if shape[0] != shape[1] or depth != 2:
            raise ValueError(
                f"symmetric_gaussian needs a square shape and depth 2, got {shape}, depth {depth}"
            )
        width = shape[0] if hidden is None else hidden
        rng = np.random.default_rng(self.seed)
        drawn = torch.from_numpy(rng.standard_normal((shape[0], width)))
        U = drawn * (self.alpha / math.sqrt(width))
        return [U.T.contiguous(), U]


def leading_space(W: Any, rank: int) -> Tensor:
    """Orthonormal basis (n, rank) of the leading eigenvectors of a symmetric W."""
    W = checks.matrix(W, "W")
    rank = checks.whole_number(rank, "rank", 1)
    if W.shape[0] != W.shape[1] or rank > len(W):
        raise ValueError(f"W must be square with at least {rank} rows, got {tuple(W.shape)}")
    return torch.linalg.eigh((W + W.T) / 2).eigenvectors[:, -rank:]


def space_angle(first: Any, second: Any) -> float:
    r"""Sine of the largest angle between two spaces of one dimension, from orthonormal bases.

    .. math:: \|(I - P_1) V_2\|_2
    """
    V1, V2 = checks.matrix(first, "first"), checks.matrix(second, "second")
    if V1.shape != V2.shape:
        raise ValueError(f"bases must be of one shape, got {tuple(V1.shape)}, {tuple(V2.shape)}")
    return float(torch.linalg.matrix_norm(V2 - V1 @ (V1.T @ V2), ord=2))
