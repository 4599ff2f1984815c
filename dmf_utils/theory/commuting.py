r"""Where gradient flow ends when the measurements are symmetric and commute.

The loss is :math:`\ell(W) = \frac12 \sum_i (\langle A_i, W \rangle - y_i)^2`, or its mean, and
every factor starts at :math:`\alpha I`. The product matrix then stays diagonal in the common
eigenbasis of the measurements, and its end point solves a convex problem. We write
:math:`A^* \nu = \sum_i \nu_i A_i`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog, minimize, root
from torch import Tensor

from dmf_utils._support import checks

__all__ = [
    "CommutingEndPoint",
    "commuting_eigenbasis",
    "commuting_end_point",
]


def commuting_eigenbasis(measurements: Any) -> tuple[Tensor, Tensor]:
    r"""Diagonalize symmetric commuting matrices together: :math:`Q^\top A_i Q` is diagonal.

    Parameters
    ----------
    measurements : (m, d, d) array
        The matrices :math:`A_i`.

    Returns
    -------
    (d, d) tensor, (m, d) tensor
        The orthogonal ``Q`` and the eigenvalues, one row for each matrix.

    Raises
    ------
    ValueError
        If the matrices are not square, not symmetric, or do not commute.
    """
    A = checks.real_tensor(measurements, "measurements")
    if A.ndim != 3 or A.shape[1] != A.shape[2] or 0 in A.shape:
        raise ValueError(f"measurements must have shape (m, d, d), got {tuple(A.shape)}")
    scale = A.abs().max()
    if (A - A.mT).abs().max() > 1e-12 * scale:
        raise ValueError("measurements must be symmetric; pass (A + A^T) / 2 for a symmetric W")
    generator = np.random.default_rng(0)
    best, basis, eigenvalues = math.inf, A[0], A[0]
    # A random combination separates every two common eigenspaces, unless by bad luck.
    for _ in range(3):
        weights = torch.as_tensor(generator.standard_normal(A.shape[0]))
        Q = torch.linalg.eigh(torch.einsum("i,ikl->kl", weights, A)).eigenvectors
        rotated = Q.T @ A @ Q
        diagonals = rotated.diagonal(dim1=1, dim2=2)
        rest = float((rotated - torch.diag_embed(diagonals)).abs().max())
        if rest < best:
            best, basis, eigenvalues = rest, Q, diagonals
    if best > 1e-9 * scale:
        raise ValueError(
            f"measurements must commute, their common eigenbasis leaves {best:.1e} off the "
            "diagonal; without it the end point has no closed form, use gradient_flow"
        )
    return basis, eigenvalues


@dataclass(frozen=True)
class CommutingEndPoint:
    """The product matrix at which the flow ends, with the proof that its trace is nearly least."""

    W: Tensor
    """(d, d): the product matrix, positive definite, with zero loss."""
    basis: Tensor
    """(d, d): the common eigenvectors of the measurements, in columns."""
    eigenvalues: Tensor
    """(d,): the eigenvalues of ``W`` in that basis."""
    multipliers: Tensor
    """(m,): ``nu``, the residuals integrated over time."""
    certificate: Tensor
    """(m,): ``nu`` scaled to be feasible for the dual of nuclear norm minimization."""
    certificate_eigenvalues: Tensor
    """(d,): the eigenvalues of ``A* certificate`` in the basis, at most 1."""
    gap: Tensor
    """``trace(W) - <y, certificate>``: the trace of ``W`` exceeds the least one by no more."""


def commuting_end_point(
    measurements: Any, values: Any, alpha: float, depth: int
) -> CommutingEndPoint:
    r"""Compute the end point of the flow from :math:`W_j(0) = \alpha I`, exactly, at finite alpha.

    With :math:`s = A^* \nu` in the common eigenbasis the eigenvalues of the end point are

    .. math::
        N = 2 &: \quad \lambda = \alpha^2 e^{2 s}, \\
        N \ge 3 &: \quad \lambda = (\alpha^{-(N-2)} - (N-2) s)^{-N/(N-2)},

    where :math:`\nu` makes the loss zero. It minimizes the convex function
    :math:`\frac12 \sum_k \lambda_k^{2/N} - \langle y, \nu \rangle` of :math:`\nu`. For
    :math:`N \ge 3` that is the dual of minimizing
    :math:`\mathrm{tr}\, W - \frac N2 \alpha^{N-2} \sum_k \lambda_k^{2/N}`; the certificate is
    :math:`\hat\nu = (N-2) \alpha^{N-2} \nu`, with :math:`A^* \hat\nu \prec I` and a duality gap
    of exactly :math:`\alpha^{N-2} \sum_k \lambda_k^{2/N}`. For :math:`N = 2` the certificate is
    :math:`\nu` divided by :math:`\max(\ln(1/\alpha), \max_k s_k)`.

    SciPy minimizes the dual while alpha goes from 1 to its value in steps; then its root finder
    solves for :math:`\ln \lambda` and :math:`\nu` together, which keeps all digits of the small
    eigenvalues.

    Parameters
    ----------
    measurements : (m, d, d) array
        Symmetric matrices that commute.
    values : (m,) vector
        The measured values :math:`y`.
    alpha : float
        The start of every factor is ``alpha`` times the identity; positive. The product matrix
        starts with Frobenius norm ``alpha**depth * sqrt(d)``.
    depth : int
        The number of factors, at least 2.

    Returns
    -------
    CommutingEndPoint
        The end point and its certificate.

    Raises
    ------
    ValueError
        If the measurements are not square, symmetric and commuting, no positive definite matrix
        with the same eigenvectors fits the values, or ``alpha**(depth - 2)`` is below 1e-14.
    RuntimeError
        If the root finder misses the values.

    Notes
    -----
    For depth 3 and more the full flow is unstable around this solution: see
    `transversal_growth_rates`.

    References
    ----------
    The limit of small alpha is in Gunasekar et al. (2017) for depth 2, and is Theorem 2 of Arora,
    Cohen, Hu and Luo (2019) for depth 3 and more. The form at finite alpha is not in the paper.
    """
    Q, eigenvalues = commuting_eigenbasis(measurements)
    values = checks.vector(values, "values", eigenvalues.shape[0])
    alpha = checks.positive(alpha, "alpha")
    depth = checks.whole_number(depth, "depth", 2, "depth 1 does not keep W positive")
    if alpha ** (depth - 2) < 1e-14:
        raise ValueError(
            f"alpha = {alpha:g} is too small for depth {depth}: float64 cannot tell its "
            f"certificate from the limit's; use at least {1e-14 ** (1 / (depth - 2)):.1e}"
        )
    rows, targets, back = independent_rows(eigenvalues.numpy(), values.numpy())
    _check_interior(rows, targets)
    lam, mu = _solve(rows, targets, alpha, depth)
    scaled = torch.as_tensor(back @ mu)  # nu itself for depth 2, (N - 2) alpha^(N - 2) nu above
    if depth == 2:
        scale = max(-math.log(alpha), float((rows.T @ mu).max()))
        multipliers, certificate = scaled, scaled / scale if scale > 0 else torch.zeros_like(scaled)
    else:
        multipliers, certificate = scaled / ((depth - 2) * alpha ** (depth - 2)), scaled
    lam = torch.as_tensor(lam)
    return CommutingEndPoint(
        W=(Q * lam) @ Q.T,
        basis=Q,
        eigenvalues=lam,
        multipliers=multipliers,
        certificate=certificate,
        certificate_eigenvalues=eigenvalues.T @ certificate,
        gap=lam.sum() - values @ certificate,
    )


def independent_rows(
    eigenvalues: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return orthonormal rows R and targets with R lam = targets iff a lam = y; nu = back mu."""
    left, s, right = np.linalg.svd(eigenvalues, full_matrices=False)
    rank = int((s > 1e-12 * s[0]).sum())
    if rank == 0:
        raise ValueError("measurements are all zero; nothing is measured")
    left, s, right = left[:, :rank], s[:rank], right[:rank]
    outside = np.abs(values - left @ (left.T @ values)).max()
    if outside > 1e-10 * max(1.0, np.abs(values).max()):
        raise ValueError(f"values contradict each other by {outside:.1e}: no matrix fits them")
    return right, left.T @ values / s, left / s


def _check_interior(rows: np.ndarray, targets: np.ndarray) -> None:
    """Refuse values that no positive definite matrix fits: the flow then never ends."""
    rank, d = rows.shape
    size = max(float(np.linalg.norm(targets)), np.finfo(float).tiny)
    # Largest t such that some lam >= t has rows lam = targets, targets scaled to norm 1.
    program = linprog(
        np.r_[np.zeros(d), -1.0],
        A_ub=np.c_[-np.eye(d), np.ones(d)],
        b_ub=np.zeros(d),
        A_eq=np.c_[rows, np.zeros(rank)],
        b_eq=targets / size,
        bounds=[(None, None)] * d + [(None, 1.0)],
        method="highs",
    )
    if not program.success or -program.fun < 1e-9:
        raise ValueError(
            "values must be those of a positive definite matrix with the eigenvectors of the "
            "measurements, for the flow keeps W positive definite; none exists"
        )


def _solve(
    rows: np.ndarray, targets: np.ndarray, alpha: float, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues and the multipliers, those scaled by (N-2) alpha^(N-2) for N >= 3."""
    rank, d = rows.shape

    def eigenvalues(mu: np.ndarray, alpha: float) -> np.ndarray:
        """Return the eigenvalues; NaN outside the domain of the dual."""
        with np.errstate(over="ignore"):
            if depth == 2:
                return alpha**2 * np.exp(2 * rows.T @ mu)
            room = 1 - rows.T @ mu
            return alpha**depth * np.where(room > 0, room, np.nan) ** (-depth / (depth - 2))

    def dual(mu: np.ndarray, alpha: float) -> float:
        lam = eigenvalues(mu, alpha)
        scale = 1.0 if depth == 2 else (depth - 2) * alpha ** (depth - 2)
        value = scale * (lam ** (2 / depth)).sum() / 2 - targets @ mu
        return value if np.isfinite(value) else np.inf

    def slope(mu: np.ndarray, alpha: float) -> np.ndarray:
        return np.nan_to_num(rows @ eigenvalues(mu, alpha) - targets)

    def curvature(mu: np.ndarray, alpha: float) -> np.ndarray:
        lam = eigenvalues(mu, alpha)
        change = 2 * lam if depth == 2 else depth / (depth - 2) * lam / (1 - rows.T @ mu)
        # The minimizer asks for it outside the domain too, before it rejects the step.
        return (rows * change) @ rows.T if np.isfinite(change).all() else np.eye(rank)

    mu = np.zeros(rank)
    steps = 1 + math.ceil(abs(math.log(alpha)) / math.log(3))
    for exponent in np.linspace(0, 1, steps + 1):
        options = {"gtol": 1e-8 * np.linalg.norm(targets), "maxiter": 500}
        found = minimize(
            dual, mu, (alpha**exponent,), "trust-exact", slope, curvature, options=options
        )
        mu = found.x
    start = np.concatenate([np.log(eigenvalues(mu, alpha)), mu])
    problem = rows, targets, alpha, depth
    with np.errstate(over="ignore", invalid="ignore"):
        state = root(_conditions, start, problem, jac=True, method="hybr", tol=1e-15).x
    lam, mu = np.exp(state[:d]), state[d:]
    missed = np.abs(_conditions(state, *problem)[0]).max()
    if not missed <= 1e-9 * max(1.0, np.abs(targets).max()):
        raise RuntimeError(
            f"the root finder missed the end point by {missed:.1e}; try a larger alpha"
        )
    return lam, mu


def _conditions(
    state: np.ndarray, rows: np.ndarray, targets: np.ndarray, alpha: float, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the optimality conditions in ln lam and mu, and their Jacobian."""
    rank, d = rows.shape
    log_lam, mu = state[:d], state[d:]
    if depth == 2:
        stationary = log_lam / 2 - math.log(alpha) - rows.T @ mu
        change = np.full(d, 0.5)
    else:
        b = (depth - 2) / depth
        room = np.exp((depth - 2) * math.log(alpha) - b * log_lam)
        stationary = 1 - room - rows.T @ mu
        change = b * room
    lam = np.exp(log_lam)
    jacobian = np.block([[np.diag(change), -rows.T], [rows * lam, np.zeros((rank, rank))]])
    return np.concatenate([stationary, rows @ lam - targets]), jacobian
