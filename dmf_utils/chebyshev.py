r"""One step of gradient flow by Runge–Kutta–Chebyshev 2, and the curvature it needs to know.

The method is of order 2 and stable for steps of :math:`0.65\,s^2` over the largest curvature with
`s` evaluations: where stability limits Dormand–Prince it goes many times farther for an evaluation.
What a step misses varies slowly, so the next one is told in advance what it will miss: a sequence
of steps is of order 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from dmf_utils.steppers import Factorizations, Step

__all__ = ["chebyshev_stages", "chebyshev_step", "longest_chebyshev_step", "spectral_radius"]

_DEFECT = 1 / 15  # what a step of many stages misses, in units of h³ times the third derivative


@cache
def _chebyshev_coefficients(s: int) -> Tensor:
    """Weights ``(s, 4)`` of ``(f_0, f_{j-1}, D_{j-1}, D_{j-2})`` in ``D_j``, ``j = 1 ... s``.

    ``D_j`` is stage `j` less the state where the step starts; ``f`` are its slopes, times the step.
    Sommeijer, Shampine and Verwer (1998), with their damping 2/13.
    """
    w0 = 1 + 2 / (13 * s**2)
    T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for j in range(2, s + 1):
        T.append(2 * w0 * T[j - 1] - T[j - 2])
        dT.append(2 * T[j - 1] + 2 * w0 * dT[j - 1] - dT[j - 2])
        ddT.append(4 * dT[j - 1] + 2 * w0 * ddT[j - 1] - ddT[j - 2])
    w1 = dT[s] / ddT[s]
    b = [ddT[j] / dT[j] ** 2 for j in range(2, s + 1)]
    b = [b[0], b[0], *b]
    weights = [(b[1] * w1, 0.0, 0.0, 0.0)]
    for j in range(2, s + 1):
        of_slope = 2 * w1 * b[j] / b[j - 1]
        of_first = -of_slope * (1 - b[j - 1] * T[j - 1])
        weights.append((of_first, of_slope, 2 * w0 * b[j] / b[j - 1], -b[j] / b[j - 2]))
    return torch.tensor(weights, dtype=torch.float64)


@cache
def _missed(s: int) -> float:
    """What a step of `s` stages misses, over `_DEFECT` times ``h³`` times the third derivative.

    The two terms of order 3, ``f'f'f`` and ``f''(f, f)``, are missed in nearly the same share
    (2 % apart with four stages, less with more, 8 % with three). It is their mean.
    """
    before = last = (0.0, 0.0, 0.0, 0.0)  # stage's coefficients of f, f'f, f'f'f and f''(f, f)
    for of_first, of_slope, newer, older in _chebyshev_coefficients(s).tolist():
        of_f = of_first + of_slope, of_slope * last[0], of_slope * last[1], of_slope * last[0] ** 2
        now = tuple(a + newer * b + older * c for a, b, c in zip(of_f, last, before, strict=True))
        before, last = last, now
    return (1 / 6 - last[2] / 2 - last[3] / 4) / _DEFECT


MAX_STAGES = 250  # beyond it a run at rest would make ever longer steps of ever more stages


def longest_chebyshev_step(curvature: float) -> float:
    """The step that is stable at this largest curvature with as many stages as are allowed."""
    return (MAX_STAGES**2 - 1) / (1.54 * max(curvature, 1e-300))


def chebyshev_stages(h: float, curvature: float) -> int:
    """The least number of stages with which a step `h` is stable at this largest curvature."""
    return max(2, math.ceil(math.sqrt(1 + 1.54 * h * curvature)))


def chebyshev_step(
    batch: Factorizations,
    states: Tensor,
    gradients: Tensor,
    h: Tensor,
    stages: Sequence[int],
    workspace: Tensor,
    expected: Tensor,
) -> Step:
    """Runge–Kutta–Chebyshev step with an error estimate, each with its own stages.

    The step is of order 2. With what it is `expected` to miss, added to the flow as a constant
    slope, it is of order 3; that slope is damped like any other where the flow is stiff.

    Parameters
    ----------
    batch : Factorizations
        In the order of decreasing `stages`: the batch narrows as the shorter steps are complete.
    states, gradients : Tensor, shape (B, P)
    h : Tensor, shape (B,)
    stages : sequence of int
        Numbers of stages `s`, at least 2, decreasing.
    workspace : Tensor, shape (>= B, >= 5, P)
        Scratch memory, overwritten.
    expected : Tensor, shape (B, P)
        What the step would miss, for instance ``(h / h_before)³`` times `Step.missed` of the step
        before; zero if nothing is known.

    References
    ----------
    B. P. Sommeijer, L. F. Shampine, J. G. Verwer, *RKC: an explicit solver for parabolic PDEs*,
    J. Comput. Appl. Math. 88 (1998).
    """
    slots = workspace[: len(states), :5]
    slots[:, 0], slots[:, 1:4], slots[:, 4] = gradients, 0.0, expected
    origin = states.to(slots)
    # Slots 2 and 3 hold the last two stages' distances from the origin, and change places at every
    # stage. As distances they keep what a coarser gradient rounds off in proportion to the step.
    weights = torch.zeros((len(states), stages[0], 5), dtype=h.dtype)
    for b, s in enumerate(stages):
        weights[b, :s, :4] = _chebyshev_coefficients(s)
    weights[..., 4] = weights[..., 0] + weights[..., 1]
    weights[..., :2] *= -h.cpu()[:, None, None]
    weights[:, 1::2] = weights[:, 1::2, [0, 1, 3, 2, 4]]
    weights = weights.to(slots)
    part, n = batch, len(batch)
    point, made = torch.empty_like(origin), torch.empty_like(slots[:, :1])
    for j in range(stages[0]):
        newer, older = (2, 3) if j % 2 == 0 else (3, 2)
        while stages[n - 1] <= j:
            n -= 1
        if n < len(part):
            part, point, made = batch.take(range(n)), point[:n], made[:n]
        if j > 0:
            torch.add(origin[:n], slots[:n, newer], out=point)
            part.gradient(point, out=slots[:n, 1])
        torch.bmm(weights[:n, j : j + 1], slots[:n], out=made)
        slots[:n, older] = made.squeeze(1)
    moved = torch.stack([slots[b, 2 if s % 2 == 0 else 3] for b, s in enumerate(stages)])
    ends = states + moved
    # In full precision: over a long step, a rounding of this gradient would pass for an error.
    at_end = torch.empty_like(ends)
    losses = batch.gradient(ends, out=at_end)
    # The trapezoidal rule's defect from start to end is h³/12 times the third derivative: 0.8 of it
    # is `_DEFECT`. The end's own error, what the step misses less what was expected, adds to it.
    missed = h.new_tensor([_missed(s) for s in stages])[:, None]
    missing = torch.add(gradients, at_end).mul_(-0.4 * h[:, None])
    missing.sub_(moved, alpha=0.8).add_(expected, alpha=0.8).mul_(missed / (1 + 0.8 * missed))
    errors = missing - expected

    def interpolate(b: int, theta: float) -> Tensor:
        # Cubic Hermite polynomial: its error is of fourth order in h.
        back = 1 - theta
        return (
            back**2 * (1 + 2 * theta) * states[b]
            + theta**2 * (1 + 2 * back) * ends[b]
            - h[b] * theta * back * (back * gradients[b] - theta * at_end[b])
        )

    return Step(
        ends,
        at_end,
        losses.tolist(),
        torch.linalg.vector_norm(errors, dim=-1).tolist(),
        torch.linalg.vector_norm(moved, dim=-1).tolist(),
        interpolate,
        list(stages),
        missed=missing,
    )


def spectral_radius(
    batch: Factorizations,
    state: Tensor,
    gradient: Tensor,
    direction: Tensor,
    accuracy: float = 0.02,
    max_iterations: int = 20,
) -> tuple[float, Tensor, int]:
    r"""Largest curvature of :math:`\varphi` at one state, by power iteration.

    Parameters
    ----------
    batch : Factorizations
        Of one factorization.
    state, gradient, direction : Tensor, shape (1, P)
        `direction` is where the iteration starts.
    accuracy : float
        Relative change between iterations at which it stops.
    max_iterations : int

    Returns
    -------
    (float, Tensor, int)
        The estimate, from below; its direction; the gradients it took.
    """
    # Far enough apart that rounding does not decide, near enough that curvature does not change.
    share = 1e-6 if state.dtype == torch.float64 else 3e-4
    distance = share * torch.linalg.vector_norm(state)
    estimate, taken, at = 0.0, 0, torch.empty_like(state)
    least = torch.finfo(state.dtype).tiny
    for _ in range(max_iterations):
        taken += 1
        direction = direction / torch.linalg.vector_norm(direction).clamp_min(least)
        batch.gradient(state + distance * direction, out=at)
        direction = (at - gradient) / distance
        previous, estimate = estimate, float(torch.linalg.vector_norm(direction))
        if not math.isfinite(estimate) or abs(estimate - previous) <= accuracy * estimate:
            break
    return estimate, direction, taken
