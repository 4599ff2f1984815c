"""Full observation: every entry of the ground truth is seen."""

from __future__ import annotations

import torch
from torch import Tensor

from dmf_utils._support.checks import as_float64, check_finite
from dmf_utils.problems.base import (
    Reduction,
    SquaredLoss,
    loss_scale,
)

__all__ = ["FullObservation"]


class FullObservation(SquaredLoss):
    r"""Every entry observed: :math:`\ell(W) = \tfrac12 \|W - Y\|_F^2`, the setting of Saxe et al.

    Parameters
    ----------
    target : Tensor, shape (d, d')
        `Y`, which is also the ground truth.
    reduction : {"half_sum", "mean"}

    Raises
    ------
    ValueError
        If `target` is not a matrix of finite numbers.
    """

    def __init__(self, target: Tensor, reduction: Reduction = "half_sum") -> None:
        target = as_float64(target, "target").clone()
        if target.ndim != 2 or target.numel() == 0:
            raise ValueError(f"target must be a matrix, got shape {tuple(target.shape)}")
        check_finite("target", target)
        self.shape = (target.shape[0], target.shape[1])
        self.target = self.ground_truth = self.data = target
        self.reduction = reduction
        self._scale = loss_scale(reduction, target.numel())

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient at once, for the engine: no check of the shape."""
        residual = W - self.data
        return self._scale * residual.square().sum((-2, -1)), (2 * self._scale) * residual

    def to(self, device: torch.device | str, dtype: torch.dtype) -> FullObservation:
        """This problem on another device, in another precision, for the engine."""
        return self._changed(data=self.data.to(device, dtype))

    def take(self, indices: Tensor | slice) -> FullObservation:
        """All matrices of a batch share this problem, so any choice of them does."""
        return self
