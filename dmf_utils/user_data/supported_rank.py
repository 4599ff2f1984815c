"""The rank that test entries support: what noise adds to a completion does not count."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dmf_utils.factorization.product import product_matrix
from dmf_utils.user_data.methods import Prediction, Values

__all__ = ["supported_rank"]

_FEWEST = 30  # test entries from which a standard error is worth something
_SHARE = 0.01  # of the mean squared error: by how much a further rank must at least lower it
_SMALL = 1e-4  # of the test values' variance, likewise: without noise there is hardly an error
_AT_ONCE = 20_000  # entries


def supported_rank(found: Prediction, values: Values, test: np.ndarray) -> int:
    r"""Smallest rank to which the matrix of low rank can be cut without a loss on test entries.

    Let :math:`e_k` be the squared errors with the `k` largest singular values kept, :math:`e` those
    with all. The rank is the smallest `k` for which the mean of :math:`e_k - e` is at most its
    standard error, or a hundredth of the mean of :math:`e`, or 1e-4 of the variance of the test
    values: what the others add is not clear, or not worth speaking of. A noisy completion has many
    small singular values that help hardly anybody; they would make the rank large, and then entries
    that are determined would count as open.

    With fewer than 30 test entries it is :math:`(\sum\sigma)^2 / \sum\sigma^2` of the singular
    values, rounded, which needs no test entry.

    Parameters
    ----------
    found : Prediction
        Fitted without the test entries.
    values : Values
        All observed entries.
    test : ndarray of int
        Positions of the test entries in them.

    Returns
    -------
    int
        At least 1.

    References
    ----------
    After the rule of one standard error: T. Hastie, R. Tibshirani, J. Friedman, *The Elements of
    Statistical Learning*, second edition (2009), Section 7.10.
    """
    if not found.factors:
        return 1
    if len(test) < _FEWEST:
        sigma = found.singular_values()
        return max(1, round(float(sigma.sum() ** 2 / sigma.square().sum().clamp_min(1e-300))))
    i, j, z = values.i[test], values.j[test], values.z[test]
    left = z - found.offsets.at(i, j)
    squares = _squares_by_rank(found.factors, found.unit, i, j, left)
    more = squares - squares[:, -1:]
    unclear = more.std(0) / math.sqrt(len(test))
    enough = more.mean(0) <= np.maximum(
        unclear, max(_SHARE * squares[:, -1].mean(), _SMALL * z.var())
    )
    return max(1, int(np.argmax(enough)))


def _squares_by_rank(
    factors: list[Tensor], unit: float, i: np.ndarray, j: np.ndarray, left: np.ndarray
) -> np.ndarray:
    """Squared errors ``(m, h + 1)`` at entries, with 0 to h singular values kept."""
    if len(factors) == 1:
        U, sigma, Vt = torch.linalg.svd(factors[0], full_matrices=False)
        V = Vt.T
    else:
        of_rows, of_columns = (
            torch.linalg.qr(x) for x in (factors[-1], product_matrix(factors[:-1]).T)
        )
        U, sigma, Vt = torch.linalg.svd(of_rows.R @ of_columns.R.T, full_matrices=False)
        U, V = of_rows.Q @ U, of_columns.Q @ Vt.T
    U, V = (unit * U * sigma).numpy(), V.numpy()
    squares = np.empty((len(i), len(sigma) + 1))
    for at in range(0, len(i), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        squares[part, 0] = left[part] ** 2
        known = np.cumsum(U[i[part]] * V[j[part]], axis=1)
        squares[part, 1:] = (left[part, None] - known) ** 2
    return squares
