r"""Factorizations as flat states with their gradients, and one step of Dormand–Prince 5(4).

Dormand–Prince is accurate, but stable only for steps below 3.3 over the largest curvature. Near a
minimum, or while the flow waits at a saddle, that is what limits it; there `gradient_flow` takes
the method of `chebyshev`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.integrate import RK45
from torch import Tensor

from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.step import ORIGIN, POINT, Step, Workspace, norms

__all__ = ["dormand_prince_step"]

# The coefficients of Dormand and Prince (1980), and Shampine's interpolant, as scipy keeps them.
_TABLE = torch.zeros((8, 7), dtype=torch.float64)  # of the stages, of the end, of its error
_TABLE[:6, :5], _TABLE[6, :6] = torch.from_numpy(RK45.A), torch.from_numpy(RK45.B)
_TABLE[7] = torch.from_numpy(RK45.E)
_INTERPOLANT = torch.from_numpy(RK45.P)


def dormand_prince_step(
    batch: Factorizations,
    states: Sequence[Tensor],
    gradients: Sequence[Tensor],
    h: Sequence[float],
    workspace: Workspace,
) -> Step:
    """Six gradients; order 5, with an error estimate of order 4.

    Parameters
    ----------
    batch : Factorizations
    states, gradients : sequence of B Tensor, shape (P,)
        Where the step starts.
    h : sequence of B float
        Step sizes.
    workspace : Workspace
        Overwritten; the interpolant reads it, so use that before the next step.
    """
    memory, row, factors = workspace.of_first(len(states))
    stages, origin, last = memory[:, :7], row[ORIGIN], row[POINT]
    for i in range(len(states)):
        row[0][i], origin[i] = gradients[i], states[i]
    sizes = torch.tensor(h, dtype=_TABLE.dtype)[:, None, None]
    weights = (-sizes * _TABLE).to(stages)
    for i in range(1, 6):
        torch.baddbmm(
            origin.unsqueeze(1), weights[:, i : i + 1, :i], stages[:, :i], out=last.unsqueeze(1)
        )
        batch.slope_at(factors[POINT], out=factors[i])
    # Added to the state itself, so that what a coarser gradient rounds off stays in proportion to
    # the step, not to the state.
    moved = torch.bmm(weights[:, 6:7, :6], stages[:, :6]).squeeze(1)
    ends = [state.add(step) for state, step in zip(states, moved, strict=True)]
    point = origin  # which is needed no more
    for at, end in zip(point, ends, strict=True):
        at.copy_(end)
    losses = batch.gradient_at(factors[ORIGIN], out=factors[6])
    errors = torch.bmm(weights[:, 7:], stages).squeeze(1)
    # The last two stages stand at the same time: the difference of their gradients over their
    # distance estimates the curvature that limits the step (Hairer and Wanner, section IV.2).
    directions = row[6] - row[5]
    apart = norms(last.sub_(point))
    least = torch.finfo(apart.dtype).tiny
    curvatures = norms(directions) / apart.clamp_min(least)

    def interpolate(b: int, theta: float) -> Tensor:
        powers = torch.tensor([theta ** (k + 1) for k in range(4)], dtype=_INTERPOLANT.dtype)
        return states[b] - h[b] * ((_INTERPOLANT @ powers).to(stages) @ stages[b])

    def missed(b: int) -> Tensor:
        # The trapezoidal rule's defect is h³/12 times the third derivative.
        return -0.8 * (moved[b] + 0.5 * h[b] * (stages[b, 0] + stages[b, 6]))

    return Step(
        ends,
        row[6],
        losses.tolist(),
        norms(point).tolist(),
        norms(errors).tolist(),
        norms(moved).tolist(),
        norms(row[6]).tolist(),
        interpolate,
        missed,
        [6] * len(states),
        [0.0] * len(states),
        curvatures.tolist(),
        directions,
    )
