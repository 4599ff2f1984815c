r"""Problems: a loss on the product matrix, its gradient, and the error against the ground truth.

Every problem evaluates one matrix ``(d, d')`` or a batch ``(B, d, d')``. `stack` joins problems of
one shape, so that each matrix of the batch meets its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_utils.problems.base import (
    Problem,
    low_rank_matrix,
)
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.lockstep import Shared
from dmf_utils.problems.sensing import MatrixSensing
from dmf_utils.problems.tangent import TangentSensing

__all__ = ["MatrixCompletion", "MatrixSensing", "Problem", "is_own", "low_rank_matrix", "stack"]


class _Several:
    """Problems of any kinds but one shape, evaluated one after the other."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems, self.shape = list(problems), problems[0].shape

    def loss_and_gradient(self, W: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [p.loss_and_gradient(M[None]) for p, M in zip(self.problems, W, strict=True)]
        losses, gradients = zip(*pairs, strict=True)
        return torch.cat(losses), torch.cat(gradients)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> _Several:
        return _Several([p.to(device, dtype) if hasattr(p, "to") else p for p in self.problems])

    def take(self, indices: Tensor | slice) -> _Several:
        chosen = torch.arange(len(self.problems))[indices].tolist()
        return _Several([self.problems[i] for i in chosen])


def is_own(problem: Problem) -> bool:
    """Whether this is one of these problems itself, whose gradient is written out.

    Any other, also one derived from these, may leave its gradient to autograd.
    """
    ours = FullObservation, MatrixCompletion, MatrixSensing, Shared, TangentSensing
    return type(problem) in ours


def stack(problems: Sequence[Problem]) -> Problem:
    """One problem for a batch, whose matrix `b` meets ``problems[b]``.

    One problem shared by all stays itself; completions are joined into one stacked evaluation;
    anything else is evaluated in turn.

    Raises
    ------
    ValueError
        If the problems differ in shape.
    """
    shapes = {tuple(p.shape) for p in problems}
    if len(shapes) != 1:
        raise ValueError(f"problems of a batch must have one shape, got {sorted(shapes)}")
    first = problems[0]
    if all(p is first for p in problems):
        return first if hasattr(first, "take") else _Several(problems)
    if all(isinstance(p, MatrixCompletion) for p in problems):
        return first.stacked(problems)
    return _Several(problems)
