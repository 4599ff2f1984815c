r"""Problems whose limit of small starts is not a local minimum of any Schatten quasi-norm.

The measurements are symmetric and commute. The flow from :math:`W_j(0) = \alpha I` tends to
a minimum nuclear norm solution as alpha shrinks; from there a feasible direction lowers
every Schatten-p quasi-norm with :math:`0 < p < 1`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmf_utils._support import checks

__all__ = ["SchattenCounterexample", "rank_two_counterexample"]


@dataclass(frozen=True)
class SchattenCounterexample:
    """A sensing problem, the limit of its flow, and the direction that escapes from the limit."""

    measurements: Tensor
    """(m, d, d): symmetric, commuting."""
    values: Tensor
    """(m,): the measured values."""
    limit: Tensor
    """(d, d): the limit of the flow as the start shrinks, a minimum nuclear norm solution."""
    certificate: Tensor
    """(m,): ``nu`` with ``A* nu`` at most the identity and ``<values, nu> = trace(limit)``."""
    direction: Tensor
    """(d, d): symmetric, measured as zero: ``E_12 + E_21``, rotated with the problem."""

    def escape(self, epsilon: float) -> Tensor:
        r"""Return :math:`W_\epsilon = \bar W + \epsilon (E_{12} + E_{21})`, rotated.

        It fits the values, and two eigenvalues 1 of the limit have become
        :math:`1 \pm \epsilon`; so it is positive semidefinite for :math:`|\epsilon| \le 1`, and
        has the nuclear norm of the limit.

        Parameters
        ----------
        epsilon : float
            From -1 to 1.

        Returns
        -------
        (d, d) tensor

        Raises
        ------
        ValueError
            If ``epsilon`` is not in [-1, 1].
        """
        return self.limit + _epsilon(epsilon) * self.direction


def rank_two_counterexample(d: int, rotation: Any | None = None) -> SchattenCounterexample:
    r"""Make the problem of Proposition 1, for any size from 3 on.

    .. math::
        A_1 = \mathrm{diag}(1, 0, \tfrac12, \dots, \tfrac12), \quad
        A_2 = \mathrm{diag}(0, 1, \tfrac14, \dots, \tfrac14), \quad y = (1, 1),

    all conjugated by the rotation. With :math:`\nu = (1, 1)` the matrix :math:`A^* \nu =
    \mathrm{diag}(1, 1, \frac34, \dots)` is at most the identity, so every feasible
    :math:`W \succeq 0` has trace at least 2. Equality forces the rest of the diagonal to zero:
    the limit of the flow is :math:`\bar W = \mathrm{diag}(1, 1, 0, \dots, 0)`.

    Parameters
    ----------
    d : int
        Rows and columns, at least 3.
    rotation : (d, d) matrix, optional
        An orthogonal ``Q``: every matrix ``X`` of the problem becomes ``Q X Q^T``.

    Returns
    -------
    SchattenCounterexample
        The problem, with two measurements.

    Raises
    ------
    ValueError
        If ``d`` is below 3 or ``rotation`` is not orthogonal.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), Proposition 1.
    """
    d = checks.whole_number(d, "d", 3, "two modes are learned and at least one is left")
    diagonals = torch.zeros(2, d, dtype=torch.float64)
    diagonals[0, 2:], diagonals[1, 2:] = 1 / 2, 1 / 4
    diagonals[0, 0] = diagonals[1, 1] = 1
    Q = torch.eye(d, dtype=torch.float64)
    if rotation is not None:
        Q = checks.matrix(rotation, "rotation", (d, d))
        gap = (Q.T @ Q - torch.eye(d, dtype=Q.dtype)).abs().max()
        if gap > 1e-10:
            raise ValueError(
                f"rotation must be orthogonal, Q^T Q differs from the identity by {gap:.1e}; "
                "take the Q of a QR decomposition"
            )
    direction = torch.zeros(d, d, dtype=Q.dtype)
    direction[0, 1] = direction[1, 0] = 1
    return SchattenCounterexample(
        measurements=Q @ torch.diag_embed(diagonals) @ Q.T,
        values=torch.ones(2, dtype=Q.dtype),
        limit=Q[:, :2] @ Q[:, :2].T,
        certificate=torch.ones(2, dtype=Q.dtype),
        direction=Q @ direction @ Q.T,
    )


def _epsilon(epsilon: float) -> float:
    return checks.number(epsilon, "epsilon", lambda x: -1 <= x <= 1, "from -1 to 1")
