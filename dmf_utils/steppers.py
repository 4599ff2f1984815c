r"""Factorizations as flat states with their gradients, and one step of Dormand–Prince 5(4).

Dormand–Prince is accurate, but stable only for steps below 3.3 over the largest curvature. Near a
minimum, or while the flow waits at a saddle, that is what limits it; there `gradient_flow` takes
the method of `chebyshev`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.integrate import RK45
from torch import Tensor

from dmf_utils.factorization import prefix_products, product_matrix, sweep_back
from dmf_utils.problems import Problem, is_own

__all__ = ["ORIGIN", "POINT", "Factorizations", "Rows", "Step", "Workspace", "dormand_prince_step"]

# The coefficients of Dormand and Prince (1980), and Shampine's interpolant, as scipy keeps them.
_TABLE = torch.zeros((8, 7), dtype=torch.float64)  # of the stages, of the end, of its error
_TABLE[:6, :5], _TABLE[6, :6] = torch.from_numpy(RK45.A), torch.from_numpy(RK45.B)
_TABLE[7] = torch.from_numpy(RK45.E)
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
    gradient_problem : Problem, optional
        The same problem in the precision in which gradients are computed, if that is another.
    """

    def __init__(
        self,
        problem: Problem,
        shapes: Sequence[tuple[int, int]],
        count: int,
        gradient_problem: Problem | None = None,
    ) -> None:
        self.problem, self.count, self.is_own = problem, count, is_own(problem)
        self.gradient_problem = problem if gradient_problem is None else gradient_problem
        self.shapes = list(shapes)
        self.sizes = [rows * columns for rows, columns in shapes]
        self.are_alike = len(set(self.shapes)) == 1

    def __len__(self) -> int:
        return self.count

    def factors(self, states: Tensor) -> list[Tensor]:
        """Factors ``(B, d_j, d_{j-1})`` as views of the states ``(B, P)``."""
        if self.are_alike:
            return list(states.view(-1, len(self.shapes), *self.shapes[0]).unbind(1))
        pieces = states.split(self.sizes, dim=1)
        return [W.view(-1, *shape) for W, shape in zip(pieces, self.shapes, strict=True)]

    def take(self, indices: Sequence[int]) -> Factorizations:
        """Those at `indices`, for a batch that has become smaller."""
        if list(indices) == list(range(self.count)):
            return self
        one, other, first = self.problem, self.gradient_problem, indices[0]
        together = list(indices) == list(range(first, first + len(indices)))
        # A slice is a view; an index copies.
        at = slice(first, first + len(indices)) if together else torch.tensor(list(indices))
        chosen = one.take(at)
        in_gradients = chosen if other is one else other.take(at)
        return Factorizations(chosen, self.shapes, len(indices), in_gradients)

    def gradient(self, states: Tensor, out: Tensor) -> Tensor:
        r"""Write :math:`\partial\varphi/\partial(W_1 \dots W_N)` into `out`, return the losses.

        In the precision of `states`, which is that of the problem or of `gradient_problem`.
        """
        return self.gradient_at(self.factors(states), self.factors(out))

    def gradient_at(self, factors: Sequence[Tensor], out: Sequence[Tensor]) -> Tensor:
        """The same for factors instead of states."""
        prefixes = prefix_products(factors)
        loss, gradient = self._problem_for(prefixes[-1]).loss_and_gradient(prefixes[-1])
        sweep_back(factors, prefixes, gradient, out)
        return loss

    def slope_at(self, factors: Sequence[Tensor], out: Sequence[Tensor]) -> None:
        """The gradient only, which a stage within a step needs."""
        prefixes = prefix_products(factors)
        problem = self._problem_for(prefixes[-1])
        if self.is_own:
            gradient = problem.unchecked_gradient(prefixes[-1])
        else:
            gradient = problem.loss_and_gradient(prefixes[-1])[1]
        sweep_back(factors, prefixes, gradient, out)

    def _problem_for(self, W: Tensor) -> Problem:
        return self.problem if W.dtype == torch.float64 else self.gradient_problem

    def loss(self, states: Tensor) -> Tensor:
        """Losses ``(B,)``."""
        return self.problem.loss_and_gradient(product_matrix(self.factors(states)))[0]


ORIGIN, POINT = 7, 8  # rows where a step begins, and where it takes a gradient


class Rows(NamedTuple):
    """Rows of scratch memory of `n` factorizations: nine of the size of a state for each.

    Attributes
    ----------
    memory : Tensor, shape (n, 9, P)
    row : tuple of Tensor, shape (n, P)
    factors : list of list of Tensor
        Of every row, its factors.
    """

    memory: Tensor
    row: tuple[Tensor, ...]
    factors: list[list[Tensor]]


class Workspace:
    """Scratch memory of the steps of a batch. Its views are kept: a step uses many, many times.

    Parameters
    ----------
    batch : Factorizations
    memory : Tensor, shape (B, 9, P)
        In the precision in which gradients are computed.
    """

    def __init__(self, batch: Factorizations, memory: Tensor) -> None:
        self.batch, self.memory = batch, memory
        self._of_first: dict[int, Rows] = {}

    def of_first(self, n: int) -> Rows:
        """The rows of the first `n`."""
        if n not in self._of_first:
            memory = self.memory[:n]
            rows = memory.unbind(1)
            self._of_first[n] = Rows(memory, rows, [self.batch.factors(row) for row in rows])
        return self._of_first[n]


@dataclass
class Step:
    """A tried step of B factorizations; whether it is accepted is for the caller to say.

    Attributes
    ----------
    states : list of Tensor, shape (P,)
        At the end of the step.
    gradients : Tensor, shape (B, P)
        There; scratch memory, to be used before the next step.
    losses, sizes, errors, moves : list of float
        Loss at the end, and the norms of the state, of the estimated local error and of the step.
    interpolate : callable
        ``interpolate(b, theta)`` is the state ``(P,)`` of factorization `b` at the fraction
        `theta` of the step.
    curvatures : list of float, or None
        Estimates of the largest curvature along the way (Dormand–Prince only), with the direction
        in which each was seen in `directions`, shape (B, P).
    evaluations : list of int
        Gradients that each factorization took part in.
    missed : callable
        ``missed(b)`` is 1/15 of ``h³`` times the third derivative of the state ``(P,)``, as
        estimated at the end: what one Chebyshev step of many stages misses of it.
    """

    states: list[Tensor]
    gradients: Tensor
    losses: list[float]
    sizes: list[float]
    errors: list[float]
    moves: list[float]
    interpolate: Callable[[int, float], Tensor]
    missed: Callable[[int], Tensor]
    evaluations: list[int]
    curvatures: list[float] | None = None
    directions: Tensor | None = None


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
    apart = torch.linalg.vector_norm(last.sub_(point), dim=-1)
    least = torch.finfo(apart.dtype).tiny
    curvatures = torch.linalg.vector_norm(directions, dim=-1) / apart.clamp_min(least)

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
        torch.linalg.vector_norm(point, dim=-1).tolist(),
        torch.linalg.vector_norm(errors, dim=-1).tolist(),
        torch.linalg.vector_norm(moved, dim=-1).tolist(),
        interpolate,
        missed,
        [6] * len(states),
        curvatures.tolist(),
        directions,
    )
