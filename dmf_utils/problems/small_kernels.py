"""Products of measurement matrices in pieces for which numpy's library has kernels of their own.

A product of a few rows with a large matrix is limited by reading that. Libraries copy what they
multiply into an order that suits them, which takes longer than to multiply. OpenBLAS does without
for products of up to a million multiplications, on processors with AVX-512.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from dmf_utils._support.blas import outruns_torch

__all__ = ["bases_measured", "serve", "squares_and_slopes", "squares_and_slopes_of_one"]

_MULTIPLICATIONS = 1_000_000  # of a product that OpenBLAS takes for a small one, at most
_CACHED_BYTES = 1_300_000  # of rows that are read twice, once for a residual and once for slopes
_MOST_ROWS = 16  # of a batch: with more, the copies pay


def serve(operator: Tensor, *others: Tensor) -> bool:
    """Whether these products are to be had, with so few rows, and without autograd."""
    if operator.device.type != "cpu" or not operator.is_contiguous():
        return False
    if any(one.requires_grad for one in (operator, *others)):
        return False
    are_few = all(len(one) <= _MOST_ROWS for one in others)
    is_short = operator.shape[1] <= _MULTIPLICATIONS // _MOST_ROWS
    return are_few and is_short and outruns_torch()


def squares_and_slopes(
    operator: np.ndarray, values: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Sums of squares ``(B,)`` of the residuals :math:`R = X A^\top - y`, and `R A`, ``(B, p)``.

    Parameters
    ----------
    operator : array, shape (m, p)
    values : array, shape (m,)
    at : array, shape (B, p)
        The matrices `X`, as rows; two or more, and few.
    """
    count, size = at.shape
    # Measured for 2 to 16 rows of 10,000: in three parts there is less of each to add to.
    width = -(-size // min(3, 1 + count // 5))
    parts = [slice(first, first + width) for first in range(0, size, width)]
    rows = max(1, _MULTIPLICATIONS // (count * width))
    squares, slopes = np.zeros(count, at.dtype), np.zeros_like(at)
    for first in range(0, len(operator), rows):
        A = operator[first : first + rows]
        residual = at[:, parts[0]] @ A[:, parts[0]].T - values[first : first + rows]
        for part in parts[1:]:
            residual += at[:, part] @ A[:, part].T
        squares += np.einsum("ij,ij->i", residual, residual)
        for part in parts:
            slopes[:, part] += residual @ A[:, part]
    return squares, slopes


def squares_and_slopes_of_one(
    operator: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Sum of squares ``()`` of :math:`r = A x`, and :math:`A^\top r`, ``(p,)``.

    Parameters
    ----------
    operator : array, shape (m, p)
    at : array, shape (p,)
        `x`.
    """
    rows = max(1, _CACHED_BYTES // (len(at) * operator.itemsize))
    squares, slopes = np.zeros((), at.dtype), np.zeros_like(at)
    for first in range(0, len(operator), rows):
        A = operator[first : first + rows]
        residual = A @ at
        squares += residual @ residual
        slopes += residual @ A
    return squares, slopes


def bases_measured(
    operator: np.ndarray, left: np.ndarray, right: np.ndarray, out: np.ndarray
) -> None:
    r"""Write :math:`A_i V` and :math:`U^\top A_i` of every measurement matrix into a row of `out`.

    Parameters
    ----------
    operator : array, shape (m, d·d')
    left, right : arrays, shapes (d, k) and (d', k)
    out : array, shape (m, k (d + d'))
    """
    (d, k), d_prime = left.shape, len(right)
    above = np.ascontiguousarray(left.T)
    rows = max(1, _MULTIPLICATIONS // (k * d * d_prime))
    for first in range(0, len(operator), rows):
        A, to = operator[first : first + rows].reshape(-1, d, d_prime), out[first : first + rows]
        to[:, : k * d] = (A.reshape(-1, d_prime) @ right).reshape(len(A), -1)
        to[:, k * d :] = (above @ A).reshape(len(A), -1)
