r"""The analytic singular value decomposition along a trajectory.

Along a gradient flow the decomposition :math:`W(t) = U(t) \, \mathrm{diag}(s(t)) \, V(t)^\top` can
be chosen smooth in time if the singular values may change sign and order. This module finds that
choice at one matrix, measures how the vectors are aligned with those of the gradient, and
integrates the decomposition itself, with no product matrix and no factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils.theory.checks import increasing, thin_decomposition
from dmf_utils.theory.dynamics import outside_spans, value_rates, vector_rates

__all__ = [
    "AnalyticSVD",
    "GradientAlignment",
    "SingularFlow",
    "analytic_svd",
    "gradient_alignment",
    "singular_flow",
]


class AnalyticSVD(NamedTuple):
    """A thin decomposition ``W = U diag(s) V^T`` with signed, unordered singular values."""

    U: Tensor
    """(d, k): left singular vectors, ``k = min(d, d')``."""
    s: Tensor
    """(k,): signed singular values."""
    V: Tensor
    """(d', k): right singular vectors."""


def analytic_svd(W: Any, near: tuple[Any, Any, Any] | None = None) -> AnalyticSVD:
    r"""Decompose a matrix, with the order and the signs of a decomposition near by.

    Without ``near`` the singular values are non-negative and descending. With it every new pair
    :math:`(u_r, v_r)` is matched to an old one: the matching maximizes
    :math:`\sum_r |\langle u_r, u_r' \rangle| + |\langle v_r, v_r' \rangle|`, the signs of
    :math:`u_r` and :math:`v_r` are chosen to make both inner products positive, and
    :math:`\sigma_r` takes the sign that is left.

    Parameters
    ----------
    W : (d, d') matrix
        The matrix.
    near : (U, s, V), optional
        The decomposition of a matrix near by, of the same shapes.

    Returns
    -------
    AnalyticSVD
        ``U`` (d, k), ``s`` (k,), ``V`` (d', k) with ``k = min(d, d')``.

    Raises
    ------
    ValueError
        If shapes do not fit or the columns of ``near`` are not orthonormal.

    Notes
    -----
    The vectors of equal singular values are not determined, and neither are those of zero.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), Lemma 1; Bunse-Gerstner, Byers, Mehrmann and Nichols (1991).
    """
    W = checks.matrix(W, "W")
    U, s, Vt = torch.linalg.svd(W, full_matrices=False)
    V = Vt.T
    if near is None:
        return AnalyticSVD(U, s, V)
    old_U, old_s, old_V, _ = thin_decomposition(*near, W)
    if old_s.shape != s.shape:
        raise ValueError(f"near must hold {s.shape[0]} singular values, got {old_s.shape[0]}")
    in_U, in_V = old_U.T @ U, old_V.T @ V
    _, order = linear_sum_assignment((in_U.abs() + in_V.abs()).numpy(), maximize=True)
    old = torch.arange(s.shape[0])
    signs_U = torch.where(in_U[old, order] < 0, -1.0, 1.0).to(s.dtype)
    signs_V = torch.where(in_V[old, order] < 0, -1.0, 1.0).to(s.dtype)
    return AnalyticSVD(U[:, order] * signs_U, s[order] * signs_U * signs_V, V[:, order] * signs_V)


class GradientAlignment(NamedTuple):
    """How far the singular vectors of the product matrix are from those of the gradient."""

    M: Tensor
    """(k, k): ``U^T gradient V``."""
    off_diagonal: Tensor
    """Frobenius norm of ``M`` without its diagonal."""
    left: Tensor
    """Frobenius norm of ``(I - U U^T) gradient V``; zero when W has no more rows than columns."""
    right: Tensor
    """Frobenius norm of ``(I - V V^T) gradient^T U``; zero when W has no more columns than rows."""


def gradient_alignment(U: Any, V: Any, gradient: Any) -> GradientAlignment:
    r"""Measure the alignment of the singular vectors with those of the gradient.

    Singular vectors that stand still make :math:`M = U^\top \nabla \ell(W) V` diagonal. For square
    :math:`W` the converse holds too. A rectangular :math:`W` also needs
    :math:`(I - U U^\top) \nabla \ell \, V = 0` and :math:`(I - V V^\top) \nabla \ell^\top U = 0`;
    these two conditions are not in the paper.

    Parameters
    ----------
    U : (d, k) matrix
        Left singular vectors, orthonormal columns.
    V : (d', k) matrix
        Right singular vectors, orthonormal columns.
    gradient : (d, d') matrix
        The gradient of the loss.

    Returns
    -------
    GradientAlignment
        ``M`` and the norms of the three residuals.

    Raises
    ------
    ValueError
        If shapes do not fit or columns are not orthonormal.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), Corollary 1.
    """
    U = checks.matrix(U, "U")
    U, _, V, gradient = thin_decomposition(U, torch.ones(U.shape[1]), V, gradient)
    M = U.T @ gradient @ V
    left, right = outside_spans(U, V, gradient)
    norm = torch.linalg.matrix_norm
    return GradientAlignment(M, norm(M - torch.diag(M.diagonal())), norm(left), norm(right))


@dataclass(frozen=True)
class SingularFlow:
    """The decomposition of the product matrix at each asked time."""

    times: Tensor
    """(T,): the times."""
    U: Tensor
    """(T, d, k): left singular vectors."""
    s: Tensor
    """(T, k): signed singular values."""
    V: Tensor
    """(T, d', k): right singular vectors."""

    @property
    def product(self) -> Tensor:
        """(T, d, d'): the product matrices ``U diag(s) V^T``."""
        return (self.U * self.s[:, None, :]) @ self.V.mT


def singular_flow(
    gradient: Callable[[Tensor], Tensor],
    decomposition: tuple[Any, Any, Any],
    depth: int,
    times: Any,
    *,
    tolerance: float = 1e-12,
) -> SingularFlow:
    r"""Integrate the singular values and vectors of a balanced gradient flow.

    The unknowns are :math:`U`, :math:`s` and :math:`V` themselves: the right-hand side is
    `singular_value_rates` and `singular_vector_rates`. The eighth-order Runge–Kutta pair of Dormand
    and Prince steps it.

    Parameters
    ----------
    gradient : callable
        Maps a (d, d') tensor ``W`` to the gradient of the loss, for example ``problem.gradient``.
    decomposition : (U, s, V)
        The start: thin, with signed singular values whose squares are distinct and not zero, for
        example ``analytic_svd(W)``.
    depth : int
        The number of factors, at least 1.
    times : (T,) vector
        Increasing times, the first one that of the start.
    tolerance : float
        Relative tolerance of a step; the absolute one is a hundredth of it.

    Returns
    -------
    SingularFlow
        The decomposition at the asked times.

    Raises
    ------
    ValueError
        If an argument does not fit, or two squared singular values become equal, or one becomes
        zero, on the way.
    RuntimeError
        If the integrator gives up.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), Theorem 3 and Lemma 2.
    """
    depth = checks.whole_number(depth, "depth", 1)
    times = increasing(times, "times")
    tolerance = checks.positive(tolerance, "tolerance")
    U, s, V = (checks.real_tensor(x, f"decomposition[{i}]") for i, x in enumerate(decomposition))
    U, s, V, _ = thin_decomposition(U, s, V, torch.zeros(U.shape[0], V.shape[0]))
    sizes = [U.numel(), s.numel(), V.numel()]

    def rates(_: float, state: np.ndarray) -> np.ndarray:
        u, sigma, v = torch.from_numpy(state).split(sizes)
        u, v = u.reshape(U.shape), v.reshape(V.shape)
        at = gradient((u * sigma) @ v.T)
        du, dv = vector_rates(u, sigma, v, at, depth)
        dsigma = value_rates(u, sigma, v, at, depth)
        return torch.cat([du.flatten(), dsigma, dv.flatten()]).numpy()

    solution = solve_ivp(
        rates,
        (float(times[0]), float(times[-1])),
        torch.cat([U.flatten(), s, V.flatten()]).numpy(),
        method="DOP853",
        t_eval=times.numpy(),
        rtol=tolerance,
        atol=tolerance / 100,
    )
    if not solution.success:
        raise RuntimeError(f"the decomposition could not be followed: {solution.message}")
    u, sigma, v = torch.from_numpy(solution.y.T.copy()).split(sizes, dim=1)
    return SingularFlow(times, u.reshape(-1, *U.shape), sigma, v.reshape(-1, *V.shape))
