r"""What all problems share: the protocol, the ground truth, and squared losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from dmf_utils._support.checks import as_float64, check_finite, whole_number

__all__ = ["Problem", "Reduction", "SquaredLoss", "low_rank_matrix"]

Reduction = Literal["mean", "half_sum"]


class Problem(Protocol):
    """What flow and descent ask of a problem; any loss with a gradient can be written as one."""

    shape: tuple[int, int]

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss ``(B,)`` and gradient ``(B, d, d')`` at `W` of shape ``(B, d, d')``."""
        ...


TRUTH_STREAM, OBSERVATION_STREAM = 2, 3  # a seed's streams of random numbers, kept apart


def low_rank_matrix(shape: tuple[int, int], rank: int, seed: int) -> Tensor:
    r"""Random ground truth :math:`W^* = c\,U V^\top` with :math:`\|W^*\|_F = \sqrt{d d'}`.

    `U` and `V` have `rank` columns of independent standard normal entries; `c` makes the entries
    of :math:`W^*` have mean square one.

    Parameters
    ----------
    shape : (int, int)
        ``(d, d')``.
    rank : int
        From 0 (the zero matrix) to ``min(d, d')``.
    seed : int
        Seed of the draw.

    Returns
    -------
    Tensor, shape (d, d')

    Raises
    ------
    ValueError
        If `shape` or `rank` is out of range.

    References
    ----------
    The paper's experiments, where :math:`d = d' = 100` and the rank is 5.
    """
    rows, columns = check_shape(shape)
    if whole_number(rank, "rank", 0) > min(rows, columns):
        raise ValueError(
            f"rank must be between 0 and min(d, d') = {min(rows, columns)}, got {rank!r}"
        )
    rng = np.random.default_rng([whole_number(seed, "seed", 0), TRUTH_STREAM])
    left, right = rng.standard_normal((rows, rank)), rng.standard_normal((columns, rank))
    W = torch.from_numpy(left @ right.T)
    return W if rank == 0 else W * (math.sqrt(rows * columns) / torch.linalg.matrix_norm(W))


class SquaredLoss:
    """What the squared losses share: checks, scale of the loss, error, choice within a stack."""

    shape: tuple[int, int]
    ground_truth: Tensor | None
    data: Tensor  # in whose precision and on whose device the loss is computed

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:
            raise AttributeError(
                f"{name} of a {type(self).__name__} cannot change; make another problem"
            )
        super().__setattr__(name, value)

    def loss(self, W: Tensor) -> Tensor:
        """Loss at `W`: of shape ``()`` for ``(d, d')``, of shape ``(B,)`` for ``(B, d, d')``."""
        return self.loss_and_gradient(self._checked(W).to(self.data))[0]

    def gradient(self, W: Tensor) -> Tensor:
        r"""Gradient :math:`\nabla\ell(W)`, of the shape of `W`."""
        return self.loss_and_gradient(self._checked(W).to(self.data))[1]

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss ``(B,)`` and gradient ``(B, d, d')`` at `W` of shape ``(B, d, d')``."""
        raise NotImplementedError

    def unchecked_gradient(self, W: Tensor) -> Tensor:
        """Gradient alone at `W` ``(B, d, d')``, for the engine; overridden where cheaper."""
        return self.loss_and_gradient(W)[1]

    def unchecked_loss(self, W: Tensor) -> Tensor:
        """Loss alone, likewise."""
        return self.loss_and_gradient(W)[0]

    def error(self, W: Tensor) -> Tensor:
        r"""Mean squared error over all entries, :math:`\|W - W^*\|_F^2 / (d d')`.

        Parameters
        ----------
        W : Tensor, shape (d, d') or (B, d, d')

        Returns
        -------
        Tensor, shape () or (B,)

        Raises
        ------
        ValueError
            If the problem has no ground truth.
        """
        if self.ground_truth is None:
            raise ValueError(
                "the problem has no ground truth to compare with; pass ground_truth=... when "
                "making it, or judge by held-out entries"
            )
        return (self._checked(W).to(self.ground_truth) - self.ground_truth).square().mean((-2, -1))

    def _checked(self, W: Tensor) -> Tensor:
        W = as_float64(W, "W") if not isinstance(W, Tensor) else W
        if tuple(W.shape[-2:]) != self.shape:
            d, d_prime = self.shape
            raise ValueError(f"W must have shape (..., {d}, {d_prime}), got {tuple(W.shape)}")
        return W

    def _changed(self, **parts: object) -> Self:
        """This problem with other `parts`, for the engine: what users make stays as it is."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__ | parts)
        return other


def check_shape(shape: object) -> tuple[int, int]:
    """Return `shape` as two positive whole numbers, or say what is wrong with it."""
    if not isinstance(shape, Sequence) or len(shape) != 2:
        raise ValueError(f"shape must be two positive sizes (d, d'), got {shape!r}")
    return whole_number(shape[0], "shape[0]", 1), whole_number(shape[1], "shape[1]", 1)


def loss_scale(reduction: str, count: int) -> float:
    """The number `c` in front of the sum of squares."""
    if reduction not in ("mean", "half_sum"):
        raise ValueError(f'reduction must be "mean" or "half_sum", got {reduction!r}')
    return 1 / count if reduction == "mean" else 0.5


def check_ground_truth(truth: object, shape: tuple[int, int]) -> Tensor | None:
    """Return the ground truth as a tensor of `shape`; None passes."""
    if truth is None:
        return None
    made = as_float64(truth, "ground_truth").clone()
    if tuple(made.shape) != shape:
        raise ValueError(f"ground_truth must have shape {shape}, got {tuple(made.shape)}")
    check_finite("ground_truth", made)
    return made
