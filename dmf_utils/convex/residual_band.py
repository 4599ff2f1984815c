r"""Measurements that may be missed by a width: :math:`|A(W) - y| \le w` for each of them.

For the Douglas–Rachford method the unknown is the pair :math:`Z = (W, z)`, one vector, on the
subspace :math:`A(W) = \sqrt\delta\, z`. Its two halves are simple: soft threshold on `W`, clamp on
`z`; and the projection onto the subspace is one solve with :math:`A A^* + \delta`. The scale
:math:`\delta` changes the path to the solution, not the solution.

Of observed entries each has its place, so the matrices in the band are a box, and the unknown is
`W` alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmf_utils.convex.douglas_rachford import soft_threshold
from dmf_utils.convex.measurement_operator import AffineConstraint

__all__ = ["Box", "ResidualBand", "into_band"]

_RIDGE = 0.1  # of the mean of A A*'s diagonal; ten times more or less takes more iterations


def into_band(constraint: AffineConstraint, W: Tensor, width: float) -> Tensor:
    """`W`, moved by the least that brings each of its measurements to where the band is nearest."""
    if width == 0:
        return constraint.project(W)
    missed = constraint.apply(W) - constraint.values
    too_far = missed - missed.clamp(-width, width)
    return W - constraint.adjoint(constraint.solve_gram(too_far))


class Box:
    """The matrices in the band, where the closest of them is known: of entries, or of width 0.

    Parameters
    ----------
    constraint : AffineConstraint
    width : float
    """

    def __init__(self, constraint: AffineConstraint, width: float) -> None:
        self.constraint, self.width, self.rank = constraint, width, constraint.rank
        self.adjoint, self.coefficients = constraint.adjoint, constraint.coefficients

    def project(self, Z: Tensor) -> Tensor:
        """The closest matrix ``(d, d')`` in the band."""
        return into_band(self.constraint, Z, self.width)


class ResidualBand:
    """The pairs of a matrix and its measurements, and the band that these must lie in.

    Parameters
    ----------
    constraint : AffineConstraint
        The measurements, and the values in the middle of the band.
    width : float
        How much each value may be missed by, positive.
    """

    def __init__(self, constraint: AffineConstraint, width: float) -> None:
        self.constraint, self.width, self.rank = constraint, width, constraint.rank
        ridge, self._solve = constraint.ridge_solver(_RIDGE)
        self._root = math.sqrt(ridge)
        self._low = (constraint.values - width) / self._root
        self._high = (constraint.values + width) / self._root

    def first(self) -> Tensor:
        """The least squares solution and the values, shape (d·d' + m,)."""
        W = self.constraint.project(torch.zeros(self.constraint.shape, dtype=torch.float64))
        return torch.cat([W.reshape(-1), self.constraint.values / self._root])

    def matrix(self, Z: Tensor) -> Tensor:
        """The matrix of a pair, moved into the band."""
        return into_band(self.constraint, self._matrix(Z), self.width)

    def shrink(self, Z: Tensor, threshold: float) -> Tensor:
        """The proximal map of the nuclear norm of `W`, and of the band of `z`."""
        W = soft_threshold(self._matrix(Z), threshold)
        z = Z[W.numel() :].clamp(self._low, self._high)
        return torch.cat([W.reshape(-1), z])

    def adjoint(self, dual: Tensor) -> Tensor:
        """Of the map `(W, z) ↦ A(W) - √δ z`."""
        return torch.cat([self.constraint.adjoint(dual).reshape(-1), -self._root * dual])

    def project(self, Z: Tensor) -> Tensor:
        """The closest pair with `A(W) = √δ z`."""
        return Z - self.adjoint(self.coefficients(Z))

    def coefficients(self, D: Tensor) -> Tensor:
        """The `v` whose image under the adjoint is closest to `D`."""
        W = self._matrix(D)
        return self._solve(self.constraint.apply(W) - self._root * D[W.numel() :])

    def _matrix(self, Z: Tensor) -> Tensor:
        return Z[: math.prod(self.constraint.shape)].view(self.constraint.shape)
