r"""One step of gradient flow by Runge–Kutta–Chebyshev 2.

The method is of order 2 and stable for steps of :math:`0.65\,s^2` over the largest curvature with
`s` evaluations: where stability limits Dormand–Prince it goes many times farther for an evaluation.
What a step misses varies slowly, so the next one is told in advance what it will miss: a sequence
of steps is of order 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.reduction import ReducedStages
from dmf_utils.flow.step import ORIGIN, POINT, Step, Workspace, dots, norms

__all__ = [
    "MAX_STAGES",
    "MOST_STAGES",
    "chebyshev_stages",
    "chebyshev_step",
    "fewer_stages",
    "longest_chebyshev_step",
]

_UPPER, _LOWER = slice(0, 4), slice(1, 5)  # four of the five rows
_DEFECT = 1 / 15  # what a step of many stages misses, in units of h³ times the third derivative


class _Method(NamedTuple):
    """The method of `s` stages, of which stage `j` moves from the origin by ``b[j - 1] * E_j``."""

    weights: Tensor  # (s + 1, 6): of five rows in E_1 ... E_s and in `Step.missed`; b_1 ... b_s
    b: list[float]
    missed: float  # what it misses, over `Step.missed`


@lru_cache(maxsize=400)
def _method(s: int) -> _Method:
    r"""Weights of the rows ``(E_{j-1} or E_{j-2}, expected, f_0, f_{j-1}, the other of the two)``.

    .. math:: E_1 = w_1 f_0, \qquad E_j = 2 w_0 E_{j-1} - E_{j-2}
        + \frac{2 w_1}{b_{j-1}} \left(f_{j-1} - (1 - b_{j-1} T_{j-1}(w_0)) f_0\right)

    for slopes `f` times the step (Sommeijer, Shampine and Verwer, with their damping 2/13); what is
    expected is added to each slope.
    """
    w0 = 1 + 2 / (13 * s**2)
    T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for j in range(2, s + 1):
        T.append(2 * w0 * T[j - 1] - T[j - 2])
        dT.append(2 * T[j - 1] + 2 * w0 * dT[j - 1] - dT[j - 2])
        ddT.append(4 * dT[j - 1] + 2 * w0 * ddT[j - 1] - ddT[j - 2])
    w1 = dT[s] / ddT[s]
    b = [ddT[j] / dT[j] ** 2 for j in range(2, s + 1)]
    b.insert(0, b[0])
    rows = [[0.0, w1, w1, 0.0, 0.0, b[0]]]
    # Of f, f'f, f'f'f and f''(f, f) in the last stage, over its b_j, and in the one before.
    before, last = (0.0,) * 4, (w1, 0.0, 0.0, 0.0)
    for j in range(1, s):
        of_slope = 2 * w1 / b[j - 1]
        of_first = -of_slope * (1 - b[j - 1] * T[j])
        in_all = of_first + of_slope
        rows.append([0.0, in_all, of_first, of_slope, 0.0, b[j]])
        rows[j][_row(j)] = 2 * w0
        at = [b[j - 1] * share for share in last]
        slope = in_all, of_slope * at[0], of_slope * at[1], of_slope * at[0] ** 2
        now = tuple(x + 2 * w0 * y - z for x, y, z in zip(slope, last, before, strict=True))
        before, last = last, now
    # What the step misses, over `_DEFECT` times h³ times the third derivative. The two terms of
    # order 3 are missed in nearly the same share (2 % apart with four stages, less with more, 8 %
    # with three). It is their mean.
    missed = (1 / 6 - b[-1] * (last[2] / 2 + last[3] / 4)) / _DEFECT
    # The trapezoidal rule's defect from start to end is h³/12 times the third derivative: 0.8 of it
    # is `_DEFECT`. The end's own error, what the step misses less what was expected, adds to it.
    share = 1 / (1 + 0.8 * missed)
    rows.append([0.0, 0.8 * share, 0.4 * share, 0.4 * share, 0.0, 0.0])
    rows[s][_row(s)] = -0.8 * share * b[-1]
    weights = torch.tensor(rows, dtype=torch.float64)
    weights[:, 1] *= missed
    return _Method(weights, b, missed)


@lru_cache(maxsize=100)
def _tables(stages: tuple[int, ...]) -> tuple[Tensor, list[_Method]]:
    """The weights of several methods, of the last row below the stages of the longest."""
    methods = [_method(s) for s in stages]
    table = torch.zeros((len(stages), stages[0] + 1, 6), dtype=torch.float64)
    for of_one, s, method in zip(table, stages, methods, strict=True):
        of_one[:s], of_one[-1] = method.weights[:s], method.weights[s]
    return table, methods


def _row(stage: int) -> int:
    """The row of a stage: the first and the last in turn."""
    return 0 if stage % 2 == 1 else 4


MAX_STAGES = 256  # beyond it a run at rest would make ever longer steps of ever more stages
MOST_STAGES = 16_384  # of a run that is seen to move, or bounded by what waits


def longest_chebyshev_step(curvature: float, stages: int = MAX_STAGES) -> float:
    """The longest step that is stable at this largest curvature with so many stages."""
    return (stages**2 - 1) / (1.54 * max(curvature, 1e-300))


def chebyshev_stages(h: float, curvature: float) -> int:
    """Stages with which a step `h` is stable at this largest curvature.

    They are as few as can be; beyond `MAX_STAGES`, in 16 sizes from a number to its double, so that
    few methods are kept.
    """
    stages = max(2, math.ceil((1 - 1e-12) * math.sqrt(1 + 1.54 * h * curvature)))
    grid = _grid(stages)
    return math.ceil(stages / grid) * grid


def fewer_stages(stages: int) -> int:
    """The next smaller number that `chebyshev_stages` may give."""
    return stages - _grid(stages - 1)


def _grid(stages: int) -> int:
    return 1 if stages <= MAX_STAGES else 16 << int(math.log2(stages / 256))


def chebyshev_step(
    batch: Factorizations,
    states: Sequence[Tensor],
    gradients: Sequence[Tensor],
    h: Sequence[float],
    stages: Sequence[int],
    workspace: Workspace,
    expected: Sequence[Tensor],
    reduced: ReducedStages | None = None,
) -> Step:
    """Runge–Kutta–Chebyshev step with an error estimate, each with its own stages.

    The step is of order 2. With what it is `expected` to miss, added to the flow as a constant
    slope, it is of order 3; that slope is damped like any other where the flow is stiff.

    Parameters
    ----------
    batch : Factorizations
        In the order of decreasing `stages`: the batch narrows as the shorter steps are complete.
    states, gradients : sequence of B Tensor, shape (P,)
    h : sequence of B float
    stages : sequence of int
        Numbers of stages `s`, at least 2, decreasing.
    workspace : Workspace
        Overwritten.
    expected : sequence of B Tensor, shape (P,)
        `Step.missed` as foreseen, for instance ``(h / h_before)³`` times that of the step before;
        zero if nothing is known.
    reduced : ReducedStages, optional
        Of a batch of one, whose stages are to follow only what is stiff.

    References
    ----------
    B. P. Sommeijer, L. F. Shampine, J. G. Verwer, *RKC: an explicit solver for parabolic PDEs*,
    J. Comput. Appl. Math. 88 (1998).
    """
    # The first and the last of five rows hold the two newest stages, as distances from the origin:
    # so what a coarser gradient rounds off stays in proportion to the step. Between them stand what
    # is expected and the slopes at the origin and at a stage.
    count = len(states)
    memory, row, _ = workspace.of_first(count)
    for i in range(count):  # row by row: gathered first, they would be copied twice
        row[1][i], row[2][i], row[ORIGIN][i] = expected[i], gradients[i], states[i]
    table, methods = _tables(tuple(stages))
    of_rows = [[[1.0, 1.0, -size, -size, 1.0, 1.0]] for size in h]
    weights = (table * torch.tensor(of_rows, dtype=table.dtype)).to(memory)
    if reduced is None:
        _make_stages(batch, stages, workspace, weights)
    else:
        method, last = methods[0], _row(stages[0])
        inner, blocks = reduced.prepare(workspace, last, h[0], method.missed)
        _make_stages(inner, stages, blocks, weights)
        made = blocks.of_first(1).row[last]
        reduced.complete(row[last], made, method.b[-1])
    _, row, factors = workspace.of_first(count)
    at_end, point = row[3], row[POINT]
    ends, moves = [], []
    for i, (s, method) in enumerate(zip(stages, methods, strict=True)):
        newest = row[_row(s)][i]
        ends.append(torch.add(states[i], newest.to(states[i]), alpha=method.b[-1]))
        moves.append(method.b[-1] * norms(newest[None])[0])
        point[i] = ends[i]
    at_ends = batch if reduced is None else reduced
    losses = at_ends.gradient_at(factors[POINT], out=factors[3])
    if reduced is not None:
        reduced.look_back(workspace, made, method.b[-1], h[0])
    sizes = norms(point)
    missed = torch.bmm(weights[:, -1:, :5], memory[:, :5]).squeeze(1)
    errors = norms(torch.sub(missed, row[1], out=point))
    speeds = norms(at_end)
    along = [dots(of, at_end) for of in (missed, row[1])]

    def interpolate(b: int, theta: float) -> Tensor:
        # Cubic Hermite polynomial: its error is of fourth order in h.
        back = 1 - theta
        state = states[b] * (back**2 * (1 + 2 * theta))
        state.add_(ends[b], alpha=theta**2 * (1 + 2 * back))
        state.add_(gradients[b], alpha=-h[b] * theta * back**2)
        return state.add_(at_end[b], alpha=h[b] * theta**2 * back)

    return Step(
        ends,
        at_end,
        losses.tolist(),
        sizes,
        [one.missed * size for one, size in zip(methods, errors, strict=True)],
        moves,
        speeds,
        interpolate,
        lambda b: missed[b],
        list(stages) if reduced is None else [stages[0] + reduced.n_extra],
        [
            -_delay(method.missed, *of_one, norms(first[None])[0])
            for method, *of_one, first in zip(methods, *along, speeds, gradients, strict=True)
        ],
    )


def _make_stages(
    batch: Factorizations, stages: Sequence[int], workspace: Workspace, weights: Tensor
) -> None:
    """Fill the first and the last row in turn, until each factorization has its last stage.

    A stage is one product with four neighbouring rows, less the fifth, whose place it takes.
    """
    memory = workspace.of_first(len(stages)).memory
    to_last, to_first = (weights[:, :, None, four].unbind(1) for four in (_UPPER, _LOWER))
    scales = weights[:, :, 5:].unbind(1)
    torch.bmm(weights[:, :1, 1:3], memory[:, 1:3], out=memory[:, :1])
    n = 0
    for j in range(1, stages[0]):
        if n == 0 or stages[n - 1] <= j:
            n = sum(s > j for s in stages)
            part = batch.take(range(n))
            _, row, factors = workspace.of_first(n)
            upper, lower = memory[:n, _UPPER], memory[:n, _LOWER]
        torch.addcmul(row[ORIGIN], row[_row(j)], scales[j - 1][:n], out=row[POINT])
        part.slope_at(factors[POINT], out=factors[3])
        to = _row(j + 1)
        made = row[to].unsqueeze(1)  # the stage before the last makes room for the next
        of_stage = (to_first if to == 0 else to_last)[j][:n]
        four = lower if to == 0 else upper
        if j == 1:  # the row holds no stage yet
            torch.bmm(of_stage, four, out=made)
        else:
            torch.baddbmm(made, of_stage, four, beta=-1, out=made)


def _delay(share: float, missed: float, expected: float, speed: float, first_speed: float) -> float:
    r"""Time that the flow takes for what is still missed, along the gradient at the end.

    What was expected came as a constant slope: on its way to the end it has grown with the speed.
    And the trapezoidal rule, from which `missed` is told, took the slope at an end that was off.

    Parameters
    ----------
    share : float
        What the method misses, over `Step.missed`.
    missed, expected : float
        As estimated at the end and as foreseen, times the gradient there.
    speed, first_speed : float
        Norms of the gradient at the end and at the start.
    """
    if not 0 < speed < math.inf or not 0 < first_speed < math.inf:
        return 0.0
    growth = max(-1.0, min(1.0, math.log(speed / first_speed)))
    carried = math.expm1(growth) / growth if abs(growth) > 1e-6 else 1.0
    near, far = 0.8 * share * (1 - growth / 2), 0.8 * share
    in_all = (missed * (1 + far) + expected * (near * carried - far)) / (1 + near)
    return share * (in_all - carried * expected) / speed / speed
