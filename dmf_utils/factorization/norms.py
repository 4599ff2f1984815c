"""Measures of a matrix that depend on its singular values alone, batched.

Every function takes matrices of shape ``(..., d, d')`` and returns a tensor of shape ``(...)``:
a 0-dimensional one for a single matrix.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "effective_rank",
    "nuclear_norm",
    "numerical_rank",
    "schatten_norm",
    "singular_values",
]


def singular_values(W: Tensor, relative_floor: float | None = None) -> Tensor:
    r"""Singular values in descending order, those lost in rounding set to exactly zero.

    Parameters
    ----------
    W : Tensor, shape (..., d, d')
    relative_floor : float, optional
        Singular values at most ``relative_floor`` times the largest become 0. Default:
        :math:`\max(d, d')\,\varepsilon` with the machine's :math:`\varepsilon` of the dtype.
        Without it a rank-2 matrix has a Schatten-0.01 norm wrong by 37 orders of magnitude,
        since :math:`(10^{-16})^{0.01} = 0.69`.

    Returns
    -------
    Tensor, shape (..., min(d, d'))

    Raises
    ------
    ValueError
        If `W` is not a matrix, or has NaN or infinite entries, or `relative_floor` is negative.
    """
    if relative_floor is not None and not relative_floor >= 0:
        raise ValueError(f"relative_floor must be at least 0, got {relative_floor!r}")
    W = _as_matrix(W)
    sigma = torch.linalg.svdvals(W)
    if relative_floor is None:
        relative_floor = max(W.shape[-2:]) * torch.finfo(sigma.dtype).eps
    return torch.where(sigma > relative_floor * sigma[..., :1], sigma, 0.0)


def nuclear_norm(W: Tensor) -> Tensor:
    r"""Nuclear norm :math:`\|W\|_* = \sum_r \sigma_r`.

    Parameters
    ----------
    W : Tensor, shape (..., d, d')

    Returns
    -------
    Tensor, shape (...)
    """
    return torch.linalg.svdvals(_as_matrix(W)).sum(-1)


def schatten_norm(W: Tensor, p: float) -> Tensor:
    r"""Schatten-p norm :math:`(\sum_r \sigma_r^p)^{1/p}`; a quasi-norm for :math:`0 < p < 1`.

    Computed in logarithms, so that small `p` neither overflows nor loses the small values.

    Parameters
    ----------
    W : Tensor, shape (..., d, d')
    p : float
        Exponent, positive; ``math.inf`` gives the spectral norm.

    Returns
    -------
    Tensor, shape (...)

    Raises
    ------
    ValueError
        If `p` is not positive.
    """
    if not p > 0:
        raise ValueError(f"p must be positive, got {p!r}; use numerical_rank for the limit p -> 0")
    sigma = singular_values(W)
    if math.isinf(p):
        return sigma[..., 0]
    # log 0 = -inf is what logsumexp needs for absent singular values.
    return torch.exp(torch.logsumexp(p * torch.log(sigma), dim=-1) / p)


def effective_rank(W: Tensor) -> Tensor:
    r"""Effective rank :math:`\exp(-\sum_r \rho_r \ln \rho_r)`, :math:`\rho_r = \sigma_r / \|W\|_*`.

    The exponential of the entropy of the normalized singular values: ``k`` for `k` equal ones,
    between 1 and the rank otherwise. It is undefined at ``W = 0``, where this returns 0.

    Parameters
    ----------
    W : Tensor, shape (..., d, d')

    Returns
    -------
    Tensor, shape (...)

    References
    ----------
    O. Roy and M. Vetterli, *The effective rank: a measure of effective dimensionality*,
    EUSIPCO 2007.
    """
    sigma = singular_values(W)
    total = sigma.sum(-1, keepdim=True)
    share = sigma / torch.where(total > 0, total, 1.0)
    entropy = -torch.special.xlogy(share, share).sum(-1)
    return torch.where(total.squeeze(-1) > 0, torch.exp(entropy), 0.0)


def numerical_rank(W: Tensor, tolerance: float | None = None) -> Tensor:
    r"""Number of singular values above `tolerance` times the largest.

    Parameters
    ----------
    W : Tensor, shape (..., d, d')
    tolerance : float, optional
        Relative threshold; default :math:`\max(d, d')\,\varepsilon`.

    Returns
    -------
    Tensor of int64, shape (...)

    Raises
    ------
    ValueError
        If `tolerance` is negative.
    """
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance!r}")
    return (singular_values(W, tolerance) > 0).sum(-1)


def _as_matrix(W: Tensor) -> Tensor:
    if not isinstance(W, Tensor):
        W = torch.as_tensor(np.asarray(W))  # torch would round Python's floats to single precision
    if W.is_complex():
        raise TypeError(f"W must be real, got {W.dtype}; pass its real part")
    if not W.is_floating_point():
        W = W.to(torch.float64)
    if W.dtype not in (torch.float64, torch.float32):
        raise TypeError(f"W must be of double or single precision, got {W.dtype}; use W.double()")
    if W.ndim < 2 or 0 in W.shape[-2:]:
        raise ValueError(f"W must be a matrix of shape (..., d, d'), got shape {tuple(W.shape)}")
    if not torch.isfinite(W).all():
        raise ValueError("W has NaN or infinite entries; look at the run's status before measuring")
    return W
