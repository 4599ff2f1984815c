r"""One step of gradient flow for a batch, by Dormand–Prince 5(4) or Runge–Kutta–Chebyshev 2.

Dormand–Prince is accurate, but stable only for steps below 3.3 over the largest curvature. Near a
minimum, or while the flow waits at a saddle, that is what limits it. The Chebyshev method is of
order 2 and stable for steps of :math:`0.65\,s^2` over the curvature with `s` evaluations: there it
travels many times farther for an evaluation. `gradient_flow` switches between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from scipy.integrate import RK45
from torch import Tensor

from dmf_utils.factorization import product_matrix, sweep_back
from dmf_utils.problems import Problem

__all__ = ["Factorizations", "Step", "chebyshev_step", "dormand_prince_step", "spectral_radius"]

# The coefficients of Dormand and Prince (1980), and Shampine's interpolant, as scipy keeps them.
_STAGES = torch.from_numpy(RK45.A)
_WEIGHTS = torch.from_numpy(RK45.B)
_ERROR_WEIGHTS = torch.from_numpy(RK45.E)
_INTERPOLANT = torch.from_numpy(RK45.P)


class Factorizations:
    """B factorizations of one depth and shape as flat states ``(B, P)``, with their problem.

    Parameters
    ----------
    problem : Problem
        Common to all, or a stack of B.
    shapes : sequence of (int, int)
        Shapes of ``[W_1, ..., W_N]``.
    count : int
        B.
    """

    def __init__(self, problem: Problem, shapes: Sequence[tuple[int, int]], count: int) -> None:
        self.problem, self.count = problem, count
        self.shapes = list(shapes)
        sizes = torch.tensor([rows * columns for rows, columns in shapes])
        self.offsets = [0, *sizes.cumsum(0).tolist()]

    def __len__(self) -> int:
        return self.count

    def factors(self, states: Tensor) -> list[Tensor]:
        """Factors ``(B, d_j, d_{j-1})`` as views of the states ``(B, P)``."""
        return [
            states[:, begin:end].view(-1, rows, columns)
            for (rows, columns), begin, end in zip(
                self.shapes, self.offsets[:-1], self.offsets[1:], strict=True
            )
        ]

    def take(self, indices: Sequence[int]) -> Factorizations:
        """Those at `indices`, for a batch that has become smaller."""
        if list(indices) == list(range(self.count)):
            return self
        chosen = self.problem.take(torch.tensor(list(indices)))
        return Factorizations(chosen, self.shapes, len(indices))

    def gradient(self, states: Tensor, out: Tensor) -> Tensor:
        r"""Write :math:`\partial\varphi/\partial(W_1 \dots W_N)` into `out`, return the losses."""
        factors = self.factors(states)
        prefixes = [factors[0]]
        for W in factors[1:]:
            prefixes.append(torch.bmm(W, prefixes[-1]))
        loss, gradient = self.problem.loss_and_gradient(prefixes[-1])
        sweep_back(factors, prefixes, gradient, self.factors(out))
        return loss

    def loss(self, states: Tensor) -> Tensor:
        """Losses ``(B,)``."""
        return self.problem.loss_and_gradient(product_matrix(self.factors(states)))[0]


@dataclass
class Step:
    """A tried step of B factorizations; whether it is accepted is for the caller to say.

    Attributes
    ----------
    states, gradients : Tensor, shape (B, P)
        At the end of the step.
    losses, errors : list of float
        Loss at the end, and the Frobenius norm of the estimated local error.
    interpolate : callable
        ``interpolate(b, theta)`` is the state ``(P,)`` of factorization `b` at the fraction
        `theta` of the step.
    curvatures : list of float, or None
        Estimates of the largest curvature along the way (Dormand–Prince only), with the direction
        in which each was seen in `directions`, shape (B, P).
    evaluations : list of int
        Gradients that each factorization took part in.
    """

    states: Tensor
    gradients: Tensor
    losses: list[float]
    errors: list[float]
    interpolate: Callable[[int, float], Tensor]
    evaluations: list[int]
    curvatures: list[float] | None = None
    directions: Tensor | None = None


def dormand_prince_step(
    batch: Factorizations, states: Tensor, gradients: Tensor, h: Tensor, workspace: Tensor
) -> Step:
    """Six gradients; order 5, with an error estimate of order 4.

    Parameters
    ----------
    batch : Factorizations
    states, gradients : Tensor, shape (B, P)
        Where the step starts.
    h : Tensor, shape (B,)
        Step sizes.
    workspace : Tensor, shape (>= B, >= 7, P)
        Scratch memory, overwritten; the interpolant reads it, so use that before the next step.
    """
    stages = workspace[: len(states), :7]
    stages[:, 0] = gradients
    origin = states.unsqueeze(1)
    for i in range(1, 6):
        weights = -h[:, None, None] * _STAGES[i, :i].to(h)
        point = torch.baddbmm(origin, weights, stages[:, :i]).squeeze(1)
        batch.gradient(point, out=stages[:, i])
    last = point
    point = torch.baddbmm(origin, -h[:, None, None] * _WEIGHTS.to(h), stages[:, :6]).squeeze(1)
    losses = batch.gradient(point, out=stages[:, 6])
    errors = h * torch.linalg.vector_norm(torch.matmul(_ERROR_WEIGHTS.to(h), stages), dim=-1)
    # The last two stages stand at the same time: the difference of their gradients over their
    # distance estimates the curvature that limits the step (Hairer and Wanner, section IV.2).
    directions = stages[:, 6] - stages[:, 5]
    apart = torch.linalg.vector_norm(point - last, dim=-1)
    curvatures = torch.linalg.vector_norm(directions, dim=-1) / apart.clamp_min(1e-300)

    def interpolate(b: int, theta: float) -> Tensor:
        powers = torch.tensor([theta ** (k + 1) for k in range(4)], dtype=h.dtype, device=h.device)
        return states[b] - h[b] * ((_INTERPOLANT.to(h) @ powers) @ stages[b])

    return Step(
        point,
        stages[:, 6],
        losses.tolist(),
        errors.tolist(),
        interpolate,
        [6] * len(states),
        curvatures.tolist(),
        directions,
    )


@cache
def _chebyshev_coefficients(s: int) -> list[tuple[float, ...]]:
    """Weights of ``(y_0, f_0, f_{j-1}, Y_{j-1}, Y_{j-2})`` in ``Y_j``, for ``j = 1 ... s``.

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
    weights = [(1.0, b[1] * w1, 0.0, 0.0, 0.0)]
    for j in range(2, s + 1):
        mu, nu = 2 * w0 * b[j] / b[j - 1], -b[j] / b[j - 2]
        mu_f = 2 * w1 * b[j] / b[j - 1]
        weights.append((1 - mu - nu, -mu_f * (1 - b[j - 1] * T[j - 1]), mu_f, mu, nu))
    return weights


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
) -> Step:
    """Runge–Kutta–Chebyshev step, of order 2 with an error estimate, each with its own stages.

    Parameters
    ----------
    batch : Factorizations
        In the order of decreasing `stages`: the batch narrows as the shorter steps are complete.
    states, gradients : Tensor, shape (B, P)
    h : Tensor, shape (B,)
    stages : sequence of int
        Numbers of stages `s`, at least 2, decreasing.
    workspace : Tensor, shape (>= B, >= 7, P)
        Scratch memory, overwritten.

    References
    ----------
    B. P. Sommeijer, L. F. Shampine, J. G. Verwer, *RKC: an explicit solver for parabolic PDEs*,
    J. Comput. Appl. Math. 88 (1998).
    """
    slots = workspace[: len(states), :5]
    slots[:, 0], slots[:, 1], slots[:, 2:] = states, gradients, 0.0
    slots[:, 3] = states
    tables = [_chebyshev_coefficients(s) for s in stages]
    part = batch
    for j in range(stages[0]):
        # Slots 3 and 4 hold the last two stages, and change places at every one.
        newer, older = (3, 4) if j % 2 == 0 else (4, 3)
        n = sum(s > j for s in stages)
        if n < len(part):
            part = batch.take(range(n))
        if j > 0:
            part.gradient(slots[:n, newer], out=slots[:n, 2])
        weights = torch.tensor([table[j] for table in tables[:n]], dtype=h.dtype, device=h.device)
        weights[:, 1:3] *= -h[:n, None]
        if newer == 4:
            weights = weights[:, [0, 1, 2, 4, 3]]
        slots[:n, older] = torch.bmm(weights.unsqueeze(1), slots[:n]).squeeze(1)
    ends = torch.stack([slots[b, 3 if s % 2 == 0 else 4] for b, s in enumerate(stages)])
    at_end = torch.empty_like(ends)
    losses = batch.gradient(ends, out=at_end)
    errors = 0.8 * (states - ends) - (0.4 * h[:, None]) * (gradients + at_end)

    def interpolate(b: int, theta: float) -> Tensor:
        # Cubic Hermite polynomial: its error is of a higher order than the step's own.
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
        interpolate,
        list(stages),
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
    distance = 1e-6 * torch.linalg.vector_norm(state)
    estimate, taken, at = 0.0, 0, torch.empty_like(state)
    for _ in range(max_iterations):
        taken += 1
        direction = direction / torch.linalg.vector_norm(direction).clamp_min(1e-300)
        batch.gradient(state + distance * direction, out=at)
        direction = (at - gradient) / distance
        previous, estimate = estimate, float(torch.linalg.vector_norm(direction))
        if not math.isfinite(estimate) or abs(estimate - previous) <= accuracy * estimate:
            break
    return estimate, direction, taken
