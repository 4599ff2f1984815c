r"""How many balanced factorizations a matrix has: the volume of the fibre above it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmf_utils._support import checks

__all__ = ["fibre_log_volume", "fibre_metric"]


def fibre_log_volume(singular_values: Any, depth: int) -> Tensor:
    r"""Logarithm of the volume of all balanced factorizations of a matrix, up to a constant.

    .. math:: S = \frac12 \sum_{i < k} \ln
        \frac{\sigma_i^2 - \sigma_k^2}{\sigma_i^{2/N} - \sigma_k^{2/N}}

    The volume is that of the orbit of :math:`O(d)^{N-1}`, which turns neighbouring factors against
    each other; the constant depends on `d` and `depth` only.

    Parameters
    ----------
    singular_values : (..., d) array
        Not negative; equal ones take the limit :math:`N \sigma^{2 - 2/N}` of the quotient.
    depth : int
        Number of factors N, at least 1.

    Returns
    -------
    Tensor, shape (...)
        Minus infinity where two singular values are zero, for `depth` 2 and more.

    References
    ----------
    G. Menon, T. Yu, *An entropy formula for the deep linear network* (2025), Theorem 4.
    """
    depth = checks.whole_number(depth, "depth", 1)
    s = checks.real_tensor(singular_values, "singular_values")
    if s.ndim == 0 or (s < 0).any():
        raise ValueError("singular_values must be vectors of numbers that are not negative")
    root = s ** (2 / depth)
    # (x^N - y^N) / (x - y) is a sum of powers: no cancellation, and its own limit.
    powers = sum(
        root[..., :, None] ** k * root[..., None, :] ** (depth - 1 - k) for k in range(depth)
    )
    pairs = torch.triu_indices(s.shape[-1], s.shape[-1], offset=1)
    return powers[..., pairs[0], pairs[1]].log().sum(-1) / 2


def fibre_metric(singular_values: Any, depth: int) -> Tensor:
    r"""Inner products of the directions in which a balanced factorization moves along its fibre.

    At :math:`W_j = S^{1/N}` the orbit's tangent directions are, for every hidden space
    :math:`j = 1 \dots N-1` and every plane :math:`i < k`, the rotation of :math:`W_j` from the left
    and of :math:`W_{j+1}` from the right. The square root of the determinant of their inner
    products is the density of the volume: an independent way to `fibre_log_volume`.

    Parameters
    ----------
    singular_values : (d,) array
    depth : int
        At least 2.

    Returns
    -------
    Tensor, shape (n, n), with n = (N-1) d (d-1) / 2
    """
    depth = checks.whole_number(depth, "depth", 2)
    s = checks.vector(singular_values, "singular_values")
    factor = torch.diag(s ** (1 / depth))
    tangents = []
    for j in range(depth - 1):
        for i in range(len(s)):
            for k in range(i + 1, len(s)):
                turn = torch.zeros_like(factor)
                turn[i, k], turn[k, i] = -1.0, 1.0
                moved = torch.zeros(depth, *factor.shape, dtype=factor.dtype)
                moved[j], moved[j + 1] = turn @ factor, -factor @ turn
                tangents.append(moved.flatten())
    stacked = torch.stack(tangents)
    return stacked @ stacked.T
