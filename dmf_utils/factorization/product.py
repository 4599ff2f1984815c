r"""Deep matrix factorizations :math:`W = W_N \cdots W_1`: starts, product, gradients, balancedness.

Factors are listed first to last, ``[W_1, ..., W_N]``: ``W_1`` has shape ``(hidden, d')``, ``W_N``
shape ``(d, hidden)``, those between ``(hidden, hidden)``; at depth 1 there is one, ``(d, d')``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dmf_utils._support.blas import BY_TORCH, Products

__all__ = ["balancedness_gap", "factor_gradients", "product_matrix"]


def product_matrix(
    factors: Sequence[Tensor], multiply: Callable[[Tensor, Tensor], Tensor] = torch.matmul
) -> Tensor:
    r"""Product matrix :math:`W = W_N \cdots W_1`.

    Parameters
    ----------
    factors : sequence of Tensor
        ``[W_1, ..., W_N]``, each of shape ``(..., d_j, d_{j-1})``.
    multiply : callable
        How two are multiplied.

    Returns
    -------
    Tensor, shape (..., d_N, d_0)
    """
    if factors[-1].shape[-2] < factors[0].shape[-1]:  # beginning where the products are smaller
        return functools.reduce(multiply, reversed(factors))
    return functools.reduce(lambda W, factor: multiply(factor, W), factors)


def factor_gradients(factors: Sequence[Tensor], gradient: Tensor) -> list[Tensor]:
    r"""Gradients of :math:`\varphi(W_1, \dots, W_N) = \ell(W_N \cdots W_1)`.

    .. math:: \partial\varphi/\partial W_j
        = (W_N \cdots W_{j+1})^\top \, \nabla\ell(W) \, (W_{j-1} \cdots W_1)^\top

    from the prefix products and one sweep back: 3N - 3 matrix products in all, the product matrix
    included.

    Parameters
    ----------
    factors : sequence of Tensor
        ``[W_1, ..., W_N]``, each of shape ``(..., d_j, d_{j-1})``.
    gradient : Tensor, shape (..., d_N, d_0)
        :math:`\nabla\ell` at the product matrix.

    Returns
    -------
    list of Tensor
        One gradient a factor, of the factor's shape.
    """
    out = [torch.empty_like(W) for W in factors]
    flat = [[W.reshape(-1, *W.shape[-2:]) for W in several] for several in (factors, out)]
    prefixes = prefix_products(flat[0])
    sweep_back(flat[0], prefixes, gradient.reshape(prefixes[-1].shape), flat[1])
    return out


def balancedness_gap(factors: Sequence[Tensor]) -> Tensor:
    r"""Largest :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F` over :math:`j`; 0 at depth 1.

    Gradient flow conserves every one of these matrices from any start; the start is called
    balanced if they all vanish (section 3 of the paper).

    Parameters
    ----------
    factors : sequence of Tensor
        ``[W_1, ..., W_N]``, each of shape ``(..., d_j, d_{j-1})``.

    Returns
    -------
    Tensor, shape (...)
    """
    if len(factors) < 2:
        return factors[0].new_zeros(factors[0].shape[:-2])
    gaps = [
        torch.linalg.matrix_norm(upper.mT @ upper - lower @ lower.mT)
        for lower, upper in pairwise(factors)
    ]
    return torch.stack(gaps).amax(0)


def prefix_products(
    factors: Sequence[Tensor],
    out: Sequence[Tensor] | None = None,
    products: Products = BY_TORCH,
) -> list[Tensor]:
    """``[W_1, W_2 W_1, ..., W_N ... W_1]`` of factors ``(B, d_j, d_{j-1})``.

    All but the first are written into `out`, if that is given: it saves an allocation each.
    """
    prefixes = [factors[0]]
    for W, place in zip(factors[1:], out or [None] * (len(factors) - 1), strict=True):
        prefixes.append(products.plain(W, prefixes[-1], out=place))
    return prefixes


def sweep_back(
    factors: Sequence[Tensor],
    prefixes: Sequence[Tensor],
    gradient: Tensor,
    out: Sequence[Tensor],
    products: Products = BY_TORCH,
) -> None:
    """Write the gradients into `out`, given the prefix products; the engine's inner loop.

    Parameters
    ----------
    factors, out : sequence of N Tensor, shape (B, d_j, d_{j-1})
    prefixes : sequence of N Tensor, shape (B, d_j, d_0)
        From `prefix_products`; the last one is not used, and those between are overwritten.
    gradient : Tensor, shape (B, d_N, d_0)
        Of the loss at the product matrices.
    products : Products
        How they are multiplied.
    """
    for j in range(len(factors) - 1, 0, -1):
        products.by_transposed(gradient, prefixes[j - 1].mT, out=out[j])
        # The last of these products is the first factor's gradient, and goes where it belongs; the
        # others go where a prefix stood that is needed no more.
        place = out[0] if j == 1 else prefixes[j - 1]
        gradient = products.plain(factors[j].mT, gradient, out=place)
    if len(factors) == 1:
        out[0].copy_(gradient)
