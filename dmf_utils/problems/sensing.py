"""Matrix sensing: linear measurements of a matrix are given."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dmf_utils._support.checks import as_float64, check_finite, whole_number
from dmf_utils._support.machine import memory_in_bytes
from dmf_utils.problems import small_kernels
from dmf_utils.problems.base import (
    OBSERVATION_STREAM,
    Reduction,
    SquaredLoss,
    check_ground_truth,
    loss_scale,
    low_rank_matrix,
)
from dmf_utils.problems.tangent import TangentSensing

__all__ = ["MatrixSensing"]

_CACHED_BYTES = 2**22  # of measurement matrices that are used twice before the next are read
_READ_AHEAD_FROM = 4  # matrices in a batch: a product with so many does not read straight on


class MatrixSensing(SquaredLoss):
    r"""Matrix sensing: measurements :math:`y_i = \langle A_i, W \rangle`, :math:`i = 1 \dots m`.

    .. math:: \ell(W) = c \sum_i (\langle A_i, W \rangle - y_i)^2, \qquad c = 1/m \text{ or } 1/2

    Over a batch the residuals are one matrix–matrix product with the shared measurement matrix.

    Parameters
    ----------
    measurements : Tensor, shape (m, d, d')
    values : Tensor, shape (m,)
    ground_truth : Tensor, shape (d, d'), optional
    reduction : {"mean", "half_sum"}

    Attributes
    ----------
    shape : (int, int)
    n_measurements : int
    operator : Tensor, shape (m, d·d')
        The measurement matrices as rows.

    Raises
    ------
    ValueError
        For shapes that do not fit, NaN or infinite numbers, or no measurement.
    """

    def __init__(
        self,
        measurements: Tensor,
        values: Tensor,
        ground_truth: Tensor | None = None,
        reduction: Reduction = "mean",
        *,
        _is_ours: bool = False,
    ) -> None:
        if isinstance(measurements, Tensor):
            _check_memory("measurements", tuple(measurements.shape))
        A, y = as_float64(measurements, "measurements"), as_float64(values, "values").clone()
        if not _is_ours:  # what the caller does to their arrays later is not to change the problem
            A = A.clone()
        if A.ndim != 3 or 0 in A.shape[1:] or y.shape != A.shape[:1]:
            raise ValueError(
                "measurements must have shape (m, d, d') and values shape (m,), got "
                f"{tuple(A.shape)} and {tuple(y.shape)}"
            )
        if A.shape[0] == 0:
            raise ValueError("measurements is empty: there is nothing to fit; measure something")
        check_finite("measurements", A)
        check_finite("values", y)
        self.n_measurements = A.shape[0]
        self.shape = (A.shape[1], A.shape[2])
        self.data = self.operator = A.reshape(A.shape[0], -1)
        self.values = y
        self.ground_truth = check_ground_truth(ground_truth, self.shape)
        self.reduction = reduction
        self._scale = loss_scale(reduction, self.n_measurements)

    @classmethod
    def random(
        cls,
        shape: tuple[int, int],
        rank: int,
        n_measurements: int,
        seed: int,
        reduction: Reduction = "mean",
    ) -> MatrixSensing:
        r"""Random instance: `low_rank_matrix` measured by Gaussian matrices.

        The entries of the :math:`A_i` are independent with variance :math:`1/(d d')`, so that a
        measurement of the ground truth has mean square one (the paper's :math:`1/n^2`).

        Raises
        ------
        ValueError
            If `n_measurements` or `rank` is out of range, or the measurements do not fit into the
            machine's memory; the message says how much they need.
        """
        truth = low_rank_matrix(shape, rank, seed)
        whole_number(n_measurements, "n_measurements", 1)
        _check_memory(f"n_measurements = {n_measurements}", (n_measurements, *truth.shape))
        rng = np.random.default_rng([seed, OBSERVATION_STREAM])
        A = torch.from_numpy(rng.standard_normal((n_measurements, *shape)))
        A /= math.sqrt(truth.numel())
        return cls(A, A.flatten(1) @ truth.flatten(), truth, reduction, _is_ours=True)

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at once, for the engine: no check of the shape."""
        flat = W.reshape(-1, self.operator.shape[1])
        if len(flat) > 1 and small_kernels.serve(self.operator, flat):
            arrays = (part.numpy() for part in (self.operator, self.values, flat))
            squares, gradient = map(torch.from_numpy, small_kernels.squares_and_slopes(*arrays))
            gradient *= 2 * self._scale
            return self._scale * squares.view(W.shape[:-2]), gradient.view(W.shape)
        squares, gradient = flat.new_zeros(len(flat)), torch.zeros_like(flat)
        # Both products with the same rows while they are in the cache: they are read once.
        reads_ahead = len(flat) >= _READ_AHEAD_FROM
        rows = self._rows_in_cache(2 if reads_ahead else 1)
        for A, y in zip(self.operator.split(rows), self.values.split(rows), strict=True):
            if reads_ahead:
                A.sum()  # brings the rows into the cache, at the speed of memory
            residual = flat @ A.mT - y
            squares += torch.linalg.vecdot(residual, residual)
            gradient.addmm_(residual, A)
        gradient = 2 * self._scale * gradient
        return self._scale * squares.view(W.shape[:-2]), gradient.view(W.shape)

    def unchecked_loss(self, W: Tensor) -> Tensor:
        """Loss alone, for the engine: one product instead of two."""
        residual = W.reshape(-1, self.operator.shape[1]) @ self.operator.mT - self.values
        return self._scale * torch.linalg.vecdot(residual, residual).view(W.shape[:-2])

    def on_tangent_space(
        self, left: Tensor, right: Tensor, memory: Tensor | None = None
    ) -> TangentSensing:
        """What is measured of changes in a tangent space, for the engine.

        Parameters
        ----------
        left, right : Tensor, shapes (d, k) and (d', k)
            Orthonormal bases of a column and a row space, in the precision of this problem.
        memory : Tensor, optional
            That of a `TangentSensing` of before, which is needed no more.
        """
        rows = self._rows_in_cache()
        return TangentSensing(self.operator, left, right, self._scale, rows, memory)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> MatrixSensing:
        """This problem on another device, in another precision, for the engine."""
        operator, values = self.operator.to(device, dtype), self.values.to(device, dtype)
        return self._changed(operator=operator, values=values, data=operator)

    def take(self, indices: Tensor | slice) -> MatrixSensing:
        """All matrices of a batch share this problem, so any choice of them does."""
        return self

    def _rows_in_cache(self, share: int = 1) -> int:
        """How many measurement matrices fit into that part of the cache."""
        of_one = self.operator.shape[1] * self.operator.element_size()
        return max(32, _CACHED_BYTES // share // of_one)


def _check_memory(given: str, shape: tuple[int, ...]) -> None:
    needed, present = 8 * math.prod(shape), memory_in_bytes()
    if needed > 0.8 * present:
        raise ValueError(
            f"{given} of shape {shape[1:]} need {needed / 2**30:.1f} GiB, this machine has "
            f"{present / 2**30:.1f} GiB; take fewer"
        )
