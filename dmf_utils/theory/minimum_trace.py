r"""The limit of small starts, when the measurements are symmetric and commute.

The flow of `commuting_end_point` then tends to a positive semidefinite solution of least trace.
When that is a non-degenerate vertex of the set of solutions, linear programming finds it and its
certificate, and the certificate gives the rate of the approach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils.theory.commuting import commuting_eigenbasis, independent_rows

__all__ = ["MinimumTraceVertex", "minimum_trace_vertex"]


@dataclass(frozen=True)
class MinimumTraceVertex:
    """The limit of small alpha: the positive semidefinite solution of least trace, if a vertex."""

    W: Tensor
    """(d, d): the solution of least trace."""
    basis: Tensor
    """(d, d): the common eigenvectors of the measurements, in columns."""
    eigenvalues: Tensor
    """(d,): the eigenvalues of ``W`` in that basis; as many are positive as the rank of A."""
    certificate: Tensor
    """(m,): the dual solution ``nu*``."""
    certificate_eigenvalues: Tensor
    """(d,): ``z* = A* nu*`` in the basis: 1 where ``W`` has an eigenvalue, below 1 elsewhere."""

    def error_exponent(self, depth: int) -> float:
        r"""Return the exponent of alpha with which the end point approaches the limit.

        :math:`\|W_\alpha - W_0\|` is of the order of :math:`\alpha^{2 \min_k (1 - z^*_k)}` for
        :math:`N = 2`, the minimum over the zero eigenvalues, and of :math:`\alpha^N` for
        :math:`N \ge 3`. It is infinite when no eigenvalue is zero. Not in the paper.
        """
        depth = checks.whole_number(depth, "depth", 2)
        slack = 1 - self.certificate_eigenvalues[self.eigenvalues == 0]
        if slack.numel() == 0:
            return math.inf
        return 2 * float(slack.min()) if depth == 2 else float(depth)


def minimum_trace_vertex(measurements: Any, values: Any) -> MinimumTraceVertex:
    r"""Find the limit of small alpha at a non-degenerate vertex, by linear programming.

    .. math:: \min \, \mathrm{tr}\, W \quad \text{over } W \succeq 0, \;
              \langle A_i, W \rangle = y_i .

    Parameters
    ----------
    measurements : (m, d, d) array
        Symmetric matrices that commute.
    values : (m,) vector
        The measured values.

    Returns
    -------
    MinimumTraceVertex
        The solution, its certificate, and the exponents of the approach.

    Raises
    ------
    ValueError
        If the measurements are not square, symmetric and commuting, no solution exists, or the
        solution or its certificate is not unique (a degenerate vertex, or a face).

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), Theorems 1 and 2; the exponents are not in the paper.
    """
    Q, eigenvalues = commuting_eigenbasis(measurements)
    values = checks.vector(values, "values", eigenvalues.shape[0])
    rows, targets, back = independent_rows(eigenvalues.numpy(), values.numpy())
    rank, d = rows.shape
    program = linprog(np.ones(d), A_eq=rows, b_eq=targets, bounds=(0, None), method="highs")
    if not program.success:
        raise ValueError(f"values fit no positive semidefinite matrix: {program.message}")
    active = program.x > 1e-8 * program.x.max()
    degenerate = "values lead to a degenerate vertex or a face of least trace, which has no rate"
    if active.sum() != rank or np.linalg.cond(rows[:, active]) > 1e10:
        raise ValueError(f"{degenerate}; use commuting_end_point at small alpha")
    # The vertex and its certificate again, from the active eigenvalues alone, to full accuracy.
    lam = np.zeros(d)
    lam[active] = np.linalg.solve(rows[:, active], targets)
    mu = np.linalg.solve(rows[:, active].T, np.ones(rank))
    if np.any(rows.T @ mu > 1 - 1e-8, where=~active):
        raise ValueError(f"{degenerate}; use commuting_end_point at small alpha")
    certificate = torch.as_tensor(back @ mu)
    lam = torch.as_tensor(lam)
    return MinimumTraceVertex((Q * lam) @ Q.T, Q, lam, certificate, eigenvalues.T @ certificate)
