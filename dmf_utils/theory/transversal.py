r"""The transversal instability of the aligned solution.

With commuting symmetric measurements and :math:`W_j(0) = \alpha I` the product matrix stays
diagonal in the common eigenbasis, in exact arithmetic. This module says how fast it leaves that
solution when it is perturbed off the diagonal. None of it is in the paper.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dmf_utils._support import checks

__all__ = ["TransversalRates", "transversal_growth_rates"]


class TransversalRates(NamedTuple):
    """Growth rates of small off-diagonal perturbations; the diagonals are zero by convention."""

    symmetric: Tensor
    """(d, d): rates of ``E_kl + E_lk``."""
    antisymmetric: Tensor
    """(d, d): rates of ``E_kl - E_lk``."""


def transversal_growth_rates(eigenvalues: Any, residuals: Any, depth: int) -> TransversalRates:
    r"""Compute how fast off-diagonal perturbations of a diagonal product matrix grow.

    Let :math:`W = \mathrm{diag}(\lambda)` and :math:`-\nabla \ell(W) = \mathrm{diag}(q)`, and let
    the measurements be diagonal, so that a perturbation off the diagonal leaves the gradient alone.
    To first order :math:`E_{kl} \pm E_{lk}` then changes at the rate :math:`g^{\pm}_{kl}` times
    itself, where with :math:`x = \lambda_k^{2/N}`, :math:`z = \lambda_l^{2/N}` and
    :math:`h = \sum_{i=0}^{N-1} x^i z^{N-1-i}`

    .. math::
        g^{+}_{kl} &= \frac{q_k (N x^{N-1} - h) + q_l (h - N z^{N-1})}{\lambda_k - \lambda_l}, \\
        g^{-}_{kl} &= \frac{q_k (N x^{N-1} - h) - q_l (h - N z^{N-1})}{\lambda_k + \lambda_l}.

    When mode :math:`k` is learned (:math:`q_k = 0`) and mode :math:`l` is not yet
    (:math:`\lambda_l \to 0`), they become :math:`\pm q_l \lambda_k^{(N-2)/N}`. The wait for mode
    :math:`l` is of the order of :math:`\alpha^{-(N-2)}` for :math:`N \ge 3`, but of
    :math:`\ln (1/\alpha)` for :math:`N = 2`: the deeper flow has time to leave.

    Parameters
    ----------
    eigenvalues : (d,) vector
        :math:`\lambda`, not negative.
    residuals : (d,) vector
        :math:`q`, the diagonal of minus the gradient.
    depth : int
        The number of factors, at least 1; they are balanced.

    Returns
    -------
    TransversalRates
        The two (d, d) matrices of rates, per unit of time.

    Raises
    ------
    ValueError
        If the vectors differ in length or an eigenvalue is negative.

    References
    ----------
    Linearization of the product matrix dynamics of Arora, Cohen, Hu and Luo (2019); ours.
    """
    lam = checks.vector(eigenvalues, "eigenvalues")
    q = checks.vector(residuals, "residuals", lam.shape[0])
    depth = checks.whole_number(depth, "depth", 1)
    if torch.any(lam < 0):
        raise ValueError(
            f"eigenvalues must not be negative, got {lam.min():g}: the aligned solution is "
            "positive semidefinite"
        )
    power = lam ** (2 / depth)
    x, z = power[:, None], power[None, :]
    h = torch.stack([x**i * z ** (depth - 1 - i) for i in range(depth)]).sum(dim=0)
    of_k = q[:, None] * (depth * x ** (depth - 1) - h)
    of_l = q[None, :] * (h - depth * z ** (depth - 1))
    difference = lam[:, None] - lam[None, :]
    total = lam[:, None] + lam[None, :]
    # Equal eigenvalues: the difference quotient is a derivative.
    equal = difference.abs() <= 1e-8 * total
    mean = (total / 2) ** ((depth - 2) / depth) if depth > 1 else torch.zeros_like(total)
    limit = (depth - 1) * (q[:, None] + q[None, :]) * mean
    symmetric = torch.where(equal, limit, (of_k + of_l) / torch.where(equal, 1.0, difference))
    antisymmetric = (of_k - of_l) / torch.where(total == 0, 1.0, total)
    return TransversalRates(symmetric.fill_diagonal_(0), antisymmetric.fill_diagonal_(0))
