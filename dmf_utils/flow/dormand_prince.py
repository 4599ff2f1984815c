r"""Factorizations as flat states with their gradients, and one step of Dormand–Prince 5(4).

Dormand–Prince is accurate, but stable only for steps below 3.3 over the largest curvature. Near a
minimum, or while the flow waits at a saddle, that is what limits it; there `gradient_flow` takes
the method of `chebyshev`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.step import ORIGIN, POINT, Step, Workspace, norms

__all__ = ["dormand_prince_step"]

# Dormand and Prince (1980), table 2, and the interpolant that Shampine found for it: written down,
# since scipy, which has them as well, takes 0.2 s to import wherever a flow is followed.
_TABLE = torch.tensor(
    [  # of the stages, of the end, of its error
        [0, 0, 0, 0, 0, 0, 0],
        [1 / 5, 0, 0, 0, 0, 0, 0],
        [3 / 40, 9 / 40, 0, 0, 0, 0, 0],
        [44 / 45, -56 / 15, 32 / 9, 0, 0, 0, 0],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0, 0, 0],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0, 0],
        [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0],
        [-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40],
    ],
    dtype=torch.float64,
)
_INTERPOLANT = torch.tensor(
    [
        [1, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432],
        [0, 0, 0, 0],
        [0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799],
        [0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072],
        [0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632],
        [0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844],
        [0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423],
    ],
    dtype=torch.float64,
)


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
    ends = [state + step.to(state) for state, step in zip(states, moved, strict=True)]
    point = origin  # which is needed no more
    for at, end in zip(point, ends, strict=True):
        at.copy_(end)
    losses = batch.gradient_at(factors[ORIGIN], out=factors[6])
    errors = torch.bmm(weights[:, 7:], stages).squeeze(1)
    # The last two stages stand at the same time: the difference of their gradients over their
    # distance estimates the curvature that limits the step (Hairer and Wanner, section IV.2).
    directions = row[6] - row[5]
    between = zip(norms(directions), norms(last.sub_(point)), strict=True)
    curvatures = [turned / max(apart, sys.float_info.min) for turned, apart in between]

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
        norms(point),
        norms(errors),
        norms(moved),
        norms(row[6]),
        interpolate,
        missed,
        [6] * len(states),
        [0.0] * len(states),
        curvatures,
        directions,
    )
