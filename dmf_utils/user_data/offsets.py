r"""What rows and columns have of their own: units, means, and biases with shrinkage.

An entry is :math:`y_{ij} = t_k + s_k z_{ij}`, where `k` is its column, its row, or nothing, and

.. math:: z_{ij} = \mu + a_i + b_j + r_{ij} .

The *biases* :math:`a, b` minimize :math:`\sum_\Omega r_{ij}^2 + \lambda_a \|a\|^2 +
\lambda_b \|b\|^2`: they are the regularized means of rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch

__all__ = ["Center", "Offsets", "Scale", "Scaling", "fit_offsets", "fit_scaling", "unlike_axis"]

Center = Literal["none", "mean", "rows", "columns", "both"]
Scale = Literal["none", "rows", "columns"]

_SHRINKAGES = (0.5, 2.0, 5.0, 10.0, 20.0)
_SWEEPS = 30
# Columns cannot share a unit if their spreads, in order, jump by the first factor, or if the
# largest is so many times the lower quartile: some of a matrix of low rank are small by chance.
_JUMP, _FAR = 30.0, 100.0
_ENOUGH = 5  # entries by which a spread is judged


@dataclass(frozen=True)
class Scaling:
    """Shift `t` and unit `s`, each of length d' (columns), d (rows) or 1 (none)."""

    kind: Scale
    shift: np.ndarray
    unit: np.ndarray

    def of(self, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shift and unit of entries."""
        k = {"rows": i, "columns": j}.get(self.kind, np.zeros(len(i), dtype=int))
        return self.shift[k], self.unit[k]

    def put_back(self, z: np.ndarray) -> np.ndarray:
        """A matrix `z` in the unit of the data; it is overwritten."""
        shift, unit = self.shift, self.unit
        if self.kind == "rows":
            shift, unit = shift[:, None], unit[:, None]
        z *= unit
        z += shift
        return z


def fit_scaling(
    i: np.ndarray, j: np.ndarray, y: np.ndarray, shape: tuple[int, int], kind: Scale
) -> Scaling:
    """Mean and standard deviation of each column or row; for ``"none"``, 0 and 1."""
    if kind == "none":
        return Scaling(kind, np.zeros(1), np.ones(1))
    index, size = (i, shape[0]) if kind == "rows" else (j, shape[1])
    mean, spread, _ = _moments(index, y, size)
    # Where nothing varies, its own size is the unit.
    unit = np.where(spread > 1e-12 * np.abs(mean), spread, np.abs(mean))
    return Scaling(kind, mean, np.where(unit > 0, unit, 1.0))


def _moments(
    index: np.ndarray, y: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = np.bincount(index, minlength=size)
    mean = np.bincount(index, y, minlength=size) / np.maximum(counts, 1)
    squares = np.bincount(index, (y - mean[index]) ** 2, minlength=size)
    return mean, np.sqrt(squares / np.maximum(counts, 1)), counts


def unlike_axis(i: np.ndarray, j: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> Scale:
    """Whether columns, or rows, differ so much in spread that they cannot share a unit."""
    ratios = {}
    for kind, index, size in (("columns", j, shape[1]), ("rows", i, shape[0])):
        _, spread, counts = _moments(index, y, size)
        some = np.sort(spread[(counts >= _ENOUGH) & (spread > 0)])
        if len(some) > 1:
            jump = float((some[1:] / some[:-1]).max())
            far = float(some[-1] / np.quantile(some, 0.25))
            ratios[kind] = max(jump / _JUMP, far / _FAR)
    kind = max(ratios, key=ratios.__getitem__, default="none")
    return kind if ratios.get(kind, 0.0) > 1 else "none"


@dataclass(frozen=True)
class Offsets:
    """The sum :math:`\\mu + a_i + b_j`."""

    mean: float
    rows: np.ndarray
    columns: np.ndarray

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """At entries."""
        return self.mean + self.rows[i] + self.columns[j]

    def factors(self) -> list[torch.Tensor]:
        """``[W_1, W_2]`` of hidden size 2 with the matrix of offsets as their product."""
        left = np.stack([self.rows + self.mean, np.ones_like(self.rows)], axis=1)
        right = np.stack([np.ones_like(self.columns), self.columns])
        return [torch.from_numpy(right), torch.from_numpy(left)]

    def add_to(self, W: np.ndarray) -> np.ndarray:
        """Add them to a whole matrix, in place."""
        W += self.rows[:, None]
        W += self.columns + self.mean
        return W


def fit_offsets(
    i: np.ndarray,
    j: np.ndarray,
    z: np.ndarray,
    shape: tuple[int, int],
    center: Center,
    shrinkage: tuple[float, float],
) -> Offsets:
    r"""Fit mean and biases by sweeps of block coordinate descent.

    Parameters
    ----------
    i, j : ndarray of int, shape (m,)
    z : ndarray, shape (m,)
    shape : (int, int)
    center : {"none", "mean", "rows", "columns", "both"}
        What is fitted.
    shrinkage : (float, float)
        :math:`\lambda_a, \lambda_b`.

    References
    ----------
    Y. Koren, *Collaborative filtering with temporal dynamics*, KDD 2009, baseline predictors.
    """
    rows, columns = np.zeros(shape[0]), np.zeros(shape[1])
    mean = 0.0 if center == "none" else float(z.mean())
    counts = [np.bincount(index, minlength=n) for index, n in zip((i, j), shape, strict=True)]
    for _ in range(_SWEEPS if center == "both" else 1):
        if center in ("columns", "both"):
            left = np.bincount(j, z - mean - rows[i], minlength=shape[1])
            columns = left / (counts[1] + shrinkage[1])
        if center in ("rows", "both"):
            left = np.bincount(i, z - mean - columns[j], minlength=shape[0])
            rows = left / (counts[0] + shrinkage[0])
    return Offsets(mean, rows, columns)


def shrinkages(center: Center) -> list[tuple[float, float]]:
    """The pairs that the validation entries choose from."""
    if center in ("none", "mean"):
        return [(0.0, 0.0)]
    if center == "both":
        return list(product(_SHRINKAGES, _SHRINKAGES))
    return [(one, one) for one in _SHRINKAGES]
