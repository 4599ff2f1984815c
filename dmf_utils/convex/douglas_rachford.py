r"""Minimum nuclear norm by the Douglas–Rachford method, one decomposition an iteration.

With the soft threshold :math:`S_\gamma` of the singular values and the projection :math:`P` onto
:math:`\{A(W) = y\}`,

.. math:: X = S_\gamma(Z), \qquad V = P(2X - Z), \qquad Z \leftarrow Z + \rho\,(V - X).

At a fixed point :math:`X = V` solves the problem and :math:`(Z - X)/\gamma = A^*\nu` is its dual
certificate. In `residual_band`, pairs of a matrix and its measurements take the matrix's place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dmf_utils.convex.measurement_operator import Constraint

__all__ = ["douglas_rachford", "soft_threshold"]

_RELAXATION = 1.7  # between 1 (none) and 2 (where convergence ends)
_FIRST_THRESHOLD = 0.025  # in units of the Frobenius norm; balanced below
_CHECKED_EVERY = 20
_MEMORY = 30  # differences that the extrapolation keeps,
_MEMORY_IN_NUMBERS = 20_000_000  # or as many as this holds
_REGULARIZATION = 1e-10


def soft_threshold(Z: Tensor, threshold: float) -> Tensor:
    r"""Subtract `threshold` from the singular values of `Z` (d, d'), and drop those below it.

    From the eigenvectors of the smaller Gram matrix: half the work of a singular value
    decomposition. What that loses, :math:`\varepsilon\,\sigma_1^2/\text{threshold}`, is in the
    singular values near the threshold at most, since smaller ones are dropped.
    """
    if Z.shape[0] < Z.shape[1]:
        return soft_threshold(Z.mT, threshold).mT
    squares, vectors = torch.linalg.eigh(Z.mT @ Z)
    kept = squares > threshold**2
    vectors = vectors[:, kept]
    return (Z @ (vectors * (1 - threshold / squares[kept].sqrt()))) @ vectors.mT


class _Extrapolation:
    """Anderson's extrapolation of the iterates, from the last few differences."""

    def __init__(self, size: int) -> None:
        length = max(5, min(_MEMORY, _MEMORY_IN_NUMBERS // (2 * size)))
        self._points = torch.zeros(length, size, dtype=torch.float64)
        self._residuals = torch.zeros(length, size, dtype=torch.float64)
        self._gram = torch.zeros(length, length, dtype=torch.float64)
        self.forget()

    def forget(self) -> None:
        """Start anew, as one must when the map changes."""
        self._count, self._last = 0, None

    def next(self, Z: Tensor, residual: Tensor) -> Tensor:
        """Where to go from `Z` ``(d, d')``, whose image under the map is ``Z + residual``."""
        z, f = Z.reshape(-1), residual.reshape(-1)
        known = min(self._count + (self._last is not None), len(self._points))
        if self._last is not None:
            at = self._count % len(self._points)
            self._points[at], self._residuals[at] = z - self._last[0], f - self._last[1]
            products = self._residuals[:known] @ self._residuals[at]
            self._gram[at, :known] = self._gram[:known, at] = products
            self._count += 1
        self._last = (z, f)
        gram = self._gram[:known, :known].clone()
        size = gram.diagonal().sum()
        if known == 0 or size == 0:
            return Z + residual
        # Slightly regularized: the differences become parallel as the iterates converge.
        gram.diagonal().add_(_REGULARIZATION * size)
        weights = torch.linalg.solve(gram, self._residuals[:known] @ f)
        step = f - weights @ self._points[:known] - weights @ self._residuals[:known]
        return Z + step.view(Z.shape)


def douglas_rachford(
    constraint: Constraint,
    first: Tensor,
    finished: Callable[[int, Tensor, Tensor], bool],
    max_iterations: int,
    shrink: Callable[[Tensor, float], Tensor] = soft_threshold,
) -> int:
    r"""Iterate until ``finished(iteration, W, nu)``; return the number of iterations made.

    It is asked every 20 iterations or a little later. `W` is feasible, and `nu` is the dual vector
    before it is scaled to feasibility. Three things quicken the plain method and change no fixed
    point: relaxation, :math:`\rho = 1.7`; a threshold that is moved, ever more rarely, until
    :math:`X` misses the measurements by as much as :math:`(Z - X)/\gamma` misses the range of
    :math:`A^*`, both relative; and Anderson's extrapolation, whose step is taken back when it
    lengthens the residual.

    Parameters
    ----------
    constraint : Constraint
    first : Tensor
        Where to begin, not zero: the least squares solution.
    finished : callable
    max_iterations : int
    shrink : callable
        The proximal map :math:`S_\gamma` of what is minimized, of `Z` and the threshold.

    References
    ----------
    J. Eckstein and D. Bertsekas, *On the Douglas–Rachford splitting method and the proximal point
    algorithm for maximal monotone operators*, 1992. H. Walker and P. Ni, *Anderson acceleration for
    fixed-point iterations*, 2011.
    """
    norm, Z = torch.linalg.vector_norm, first
    # The least squares solution shows the part rank(A)/(d d') of a matrix's squared norm.
    threshold = _FIRST_THRESHOLD * float(norm(Z)) * (Z.numel() / constraint.rank) ** 0.5
    extrapolation, plain, shortest = _Extrapolation(Z.numel()), None, float("inf")
    look_at = balance_at = interval = _CHECKED_EVERY
    for iteration in range(1, max_iterations + 1):
        X = shrink(Z, threshold)
        residual = _RELAXATION * (constraint.project(2 * X - Z) - X)
        length = float(norm(residual))
        # An extrapolated point is judged by the residual before it; a plain one always passes.
        if plain is not None and length > 1.5 * shortest and iteration < max_iterations:
            Z, plain = plain, None
            extrapolation.forget()
            continue
        if iteration >= look_at or iteration == max_iterations:
            look_at = iteration + _CHECKED_EVERY
            W, D = constraint.project(X), (Z - X) / threshold
            nu = constraint.coefficients(D)
            if finished(iteration, W, nu):
                return iteration
            if iteration >= balance_at:
                factor = _balance(W - X, W, D - constraint.adjoint(nu), D)
                if factor != 1:
                    threshold *= factor
                    Z, plain = X + threshold * D, None
                    extrapolation.forget()
                    interval = int(1.3 * interval) + 1
                    balance_at = iteration + interval
                    continue
        plain, shortest = Z + residual, length
        Z = extrapolation.next(Z, residual)
    return max_iterations


def _balance(infeasibility: Tensor, W: Tensor, outside: Tensor, D: Tensor) -> float:
    """Factor of the threshold: up where the dual lags, down where the primal does."""
    norm = torch.linalg.vector_norm
    primal, dual = float(norm(infeasibility) / norm(W)), float(norm(outside) / norm(D))
    if min(primal, dual) == 0:
        return 1.0
    factor = (dual / primal) ** 0.5
    return min(max(factor, 1 / 3), 3.0) if not 1 / 1.5 < factor < 1.5 else 1.0
