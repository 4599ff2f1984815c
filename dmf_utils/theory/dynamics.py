r"""The equations of motion of a balanced deep matrix factorization.

A factorization of depth :math:`N` writes the product matrix as :math:`W = W_N \cdots W_1`. Gradient
flow moves the factors, :math:`\dot W_j = -\partial \varphi / \partial W_j` with
:math:`\varphi(W_1, \dots, W_N) = \ell(W_N \cdots W_1)`. Started balanced, it moves the product
matrix, its singular values and its singular vectors by equations in which the factors no longer
appear. Each function here is one of those equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils.theory.checks import balanced_factors_of, chain, thin_decomposition

__all__ = [
    "conserved_matrices",
    "product_dynamics",
    "singular_value_rates",
    "singular_vector_rates",
]

# Two squared singular values closer than this, relative to the larger, are called equal: the
# rates of their vectors divide by the difference and would keep fewer than six digits.
_EQUAL = 1e-10


def conserved_matrices(factors: Sequence[Any]) -> list[Tensor]:
    r"""Compute what gradient flow on the factors conserves, from any start.

    .. math:: D_j = W_{j+1}^\top W_{j+1} - W_j W_j^\top, \qquad j = 1, \dots, N - 1.

    The factors are balanced when every :math:`D_j` is zero.

    Parameters
    ----------
    factors : sequence of N matrices
        ``W_1`` first: ``W_j`` has shape ``(d_j, d_{j-1})``.

    Returns
    -------
    list of N - 1 tensors
        ``D_j`` of shape ``(d_j, d_j)``; empty for depth 1.

    Raises
    ------
    ValueError
        If there is no factor, or two neighbours do not fit.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), section 3; Arora, Cohen and Hazan (2018).
    """
    matrices = chain(factors)
    return [following.T @ following - factor @ factor.T for factor, following in pairwise(matrices)]


def product_dynamics(
    W: Any, gradient: Any, depth: int, *, factors: Sequence[Any] | None = None
) -> Tensor:
    r"""Compute the velocity of the product matrix under balanced gradient flow.

    .. math::
        \dot W = -\sum_{j=1}^{N} (W W^\top)^{\frac{j-1}{N}} \, \nabla \ell(W) \,
                 (W^\top W)^{\frac{N-j}{N}}

    The 0-th power is the identity, on the null space too. Powers come from the singular value
    decomposition of :math:`W`: an eigendecomposition of :math:`W W^\top` would lose half of the
    digits of the small singular values.

    Parameters
    ----------
    W : (d, d') matrix
        The product matrix. It may be singular, or zero.
    gradient : (d, d') matrix
        The gradient of the loss at ``W``.
    depth : int
        The number of factors, at least 1.
    factors : sequence of matrices, optional
        The factors behind ``W``. The equation does not use them; if they are given, they are
        checked to multiply to ``W`` and to be balanced.

    Returns
    -------
    (d, d') tensor
        The time derivative of ``W``.

    Raises
    ------
    ValueError
        If shapes differ, ``depth`` is below 1, or the given factors are not balanced or do not
        belong to ``W``.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), product matrix dynamics; Arora, Cohen and Hazan (2018).
    """
    W = checks.matrix(W, "W")
    gradient = checks.matrix(gradient, "gradient", tuple(W.shape))
    depth = checks.whole_number(depth, "depth", 1)
    balanced_factors_of(factors, W, depth)
    left, s, right = torch.linalg.svd(W, full_matrices=False)
    right = right.T
    # A rounding error of 1e-16 would become 1e-6 in the power 2/5: it is a zero.
    s = torch.where(s > max(W.shape) * torch.finfo(s.dtype).eps * s[0], s, 0.0)
    velocity = torch.zeros_like(W)
    for j in range(1, depth + 1):
        term = gradient
        if j > 1:
            term = (left * (s**2) ** ((j - 1) / depth)) @ (left.T @ term)
        if j < depth:
            term = (term @ right * (s**2) ** ((depth - j) / depth)) @ right.T
        velocity -= term
    return velocity


def singular_value_rates(
    U: Any,
    s: Any,
    V: Any,
    gradient: Any,
    depth: int,
    *,
    factors: Sequence[Any] | None = None,
) -> Tensor:
    r"""Compute the velocities of the singular values under balanced gradient flow.

    .. math::
        \dot\sigma_r = -N \, (\sigma_r^2)^{1 - 1/N} \,
                       \langle \nabla \ell(W), u_r v_r^\top \rangle

    The singular values are those of an analytic decomposition: they are signed and in no order.
    For depth 2 and more a zero stays zero and signs persist; for depth 1 a value can cross zero.

    Parameters
    ----------
    U : (d, k) matrix
        Left singular vectors, orthonormal columns.
    s : (k,) vector
        Signed singular values, in any order. They may be equal or zero.
    V : (d', k) matrix
        Right singular vectors, orthonormal columns.
    gradient : (d, d') matrix
        The gradient of the loss at ``W = U diag(s) V^T``.
    depth : int
        The number of factors, at least 1.
    factors : sequence of matrices, optional
        If given, checked to multiply to ``W`` and to be balanced.

    Returns
    -------
    (k,) tensor
        The time derivatives of the singular values.

    Raises
    ------
    ValueError
        If shapes do not fit, columns are not orthonormal, ``depth`` is below 1, or the given
        factors are not balanced or do not belong to ``W``.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), Theorem 3.
    """
    U, s, V, gradient = thin_decomposition(U, s, V, gradient)
    depth = checks.whole_number(depth, "depth", 1)
    balanced_factors_of(factors, (U * s) @ V.T, depth)
    return value_rates(U, s, V, gradient, depth)


def singular_vector_rates(
    U: Any,
    s: Any,
    V: Any,
    gradient: Any,
    depth: int,
    *,
    factors: Sequence[Any] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Compute the velocities of the singular vectors under balanced gradient flow.

    With :math:`M = U^\top \nabla \ell(W) V`, :math:`S = \mathrm{diag}(\sigma_r)`,
    :math:`F_{rr} = 0` and :math:`F_{rr'} = 1 / ((\sigma_{r'}^2)^{1/N} - (\sigma_r^2)^{1/N})`,

    .. math::
        \dot U &= -U (F \odot [M S + S M^\top]) - (I - U U^\top) \, \nabla \ell \, V P, \\
        \dot V &= -V (F \odot [S M + M^\top S]) - (I - V V^\top) \, \nabla \ell^\top U P,

    where :math:`P = \mathrm{diag}(\mathrm{sign}(\sigma_r) (\sigma_r^2)^{1/2 - 1/N})`. For a square
    matrix both projections vanish.

    Parameters
    ----------
    U : (d, k) matrix
        Left singular vectors, orthonormal columns, ``k = min(d, d')``.
    s : (k,) vector
        Signed singular values, in any order, with distinct and non-zero squares.
    V : (d', k) matrix
        Right singular vectors, orthonormal columns.
    gradient : (d, d') matrix
        The gradient of the loss at ``W = U diag(s) V^T``.
    depth : int
        The number of factors, at least 1.
    factors : sequence of matrices, optional
        If given, checked to multiply to ``W`` and to be balanced.

    Returns
    -------
    (d, k) tensor, (d', k) tensor
        The time derivatives of ``U`` and ``V``.

    Raises
    ------
    ValueError
        If two squared singular values are equal or one is zero (the vectors are then not
        determined), if fewer than ``min(d, d')`` are given, or as in `singular_value_rates`.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), Lemma 2.
    """
    U, s, V, gradient = thin_decomposition(U, s, V, gradient)
    depth = checks.whole_number(depth, "depth", 1)
    if s.shape[0] != min(gradient.shape):
        raise ValueError(
            f"s must hold all min(d, d') = {min(gradient.shape)} singular values, "
            f"got {s.shape[0]}: a left-out one also turns the vectors"
        )
    balanced_factors_of(factors, (U * s) @ V.T, depth)
    return vector_rates(U, s, V, gradient, depth)


def value_rates(U: Tensor, s: Tensor, V: Tensor, gradient: Tensor, depth: int) -> Tensor:
    """Evaluate Theorem 3 without checks: rates (k,) of k singular values."""
    # (s**2) ** x and not s ** (2 * x), which is NaN for a negative singular value.
    return -depth * (s**2) ** (1 - 1 / depth) * ((gradient @ V) * U).sum(dim=0)


def vector_rates(
    U: Tensor, s: Tensor, V: Tensor, gradient: Tensor, depth: int
) -> tuple[Tensor, Tensor]:
    """Evaluate Lemma 2; only distinct singular values are checked.

    The stages of an integrator are orthonormal only up to its error, so that is not asked here.
    """
    _check_distinct(s, max(gradient.shape))
    powers = (s**2) ** (1 / depth)
    difference = powers[None, :] - powers[:, None]
    difference.fill_diagonal_(torch.inf)  # so that F is zero there
    M = U.T @ gradient @ V
    MS, SM = M * s, s[:, None] * M
    P = torch.sign(s) * (s**2) ** (1 / 2 - 1 / depth)
    outside_left, outside_right = outside_spans(U, V, gradient)
    dU = -U @ ((MS + MS.T) / difference) - outside_left * P
    dV = -V @ ((SM + SM.T) / difference) - outside_right * P
    return dU, dV


def outside_spans(U: Tensor, V: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the parts of ``gradient V`` (d, k) and ``gradient^T U`` (d', k) outside the spans."""
    GV, GtU = gradient @ V, gradient.T @ U
    # A square orthogonal matrix spans everything: the exact zero, not its rounding error.
    left = GV - U @ (U.T @ GV) if U.shape[0] > U.shape[1] else torch.zeros_like(GV)
    right = GtU - V @ (V.T @ GtU) if V.shape[0] > V.shape[1] else torch.zeros_like(GtU)
    return left, right


def _check_distinct(s: Tensor, size: int) -> None:
    squares = torch.sort(s**2).values
    zero = (size * torch.finfo(s.dtype).eps) ** 2 * squares[-1]
    if squares[0] <= zero:
        raise ValueError(
            f"s must have no zero singular value, got {s.tolist()}: its singular vectors are not "
            "determined; use product_dynamics, which allows it"
        )
    if torch.any(squares[1:] - squares[:-1] <= _EQUAL * squares[1:]):
        raise ValueError(
            f"the squares of s must be distinct, got singular values {s.tolist()}: their vectors "
            "are not determined; use product_dynamics, or perturb the start"
        )
