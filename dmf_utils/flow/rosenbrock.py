r"""Linearly implicit steps of order 3 while something small waits beside what is learned.

There the stabilized method needs stages in proportion to the root of step times curvature. Here
every stage solves :math:`(I + \gamma h \nabla^2\varphi)\, k = b` by conjugate gradients, whose
iterations do not grow with the step: the spectrum is a cluster near one, of what waits, and the
curvatures of what is learned. All is computed in bases in which the two stand in blocks of their
own, so that what is small keeps its own digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dmf_utils._support.threads import few_threads
from dmf_utils.flow.hessian import Linearized, Turned
from dmf_utils.flow.step import Step, norms
from dmf_utils.flow.waiting import GAP, ZERO
from dmf_utils.problems.base import SquaredLoss

__all__ = ["Blocks", "RosenbrockSteps", "conjugate_gradients"]

_GAMMA = 0.5
_AT = ((), (), (2.0, 0.0), (2.0, 0.0, 1.0))  # where a stage takes its gradient
_FROM = ((), (4.0,), (1.0, -1.0), (1.0, -1.0, -8 / 3))  # what it takes over from those before
_OF_ITSELF = 1e-6  # what a solution misses of a block that waits
_OF_THE_ERROR = 1e-2  # what it misses of the learned block, of a step's error
_ITERATIONS = 1000  # of one solution; then a shorter step is tried


class Blocks:
    """Factors in orthonormal bases that part the levels of their singular values.

    Parameters
    ----------
    problem : SquaredLoss
        For matrices ``(1, d, d')``.
    factors : list of Tensor, shape (d_j, d_{j-1})
        ``[W_1, ..., W_N]``, in double precision.

    Attributes
    ----------
    point : Tensor, shape (P,)
        The factors in these bases, flat.
    """

    def __init__(self, problem: SquaredLoss, factors: Sequence[Tensor]) -> None:
        with few_threads(1):
            parts = [torch.linalg.svd(W, full_matrices=True) for W in factors]
        self.bases = [parts[0][2].mT, *(U for U, _, _ in parts)]
        self.problem = Turned(problem, self.bases[-1], self.bases[0])
        self.shapes = [tuple(W.shape) for W in factors]
        self.sizes = [W.numel() for W in factors]
        turned = (
            left.mT @ W @ right
            for left, W, right in zip(self.bases[1:], factors, self.bases[:-1], strict=True)
        )
        self.point = torch.cat([W.reshape(-1) for W in turned])
        values = torch.cat([s for _, s, _ in parts]).sort(descending=True).values.clamp_min(ZERO)
        cuts = values[1:][values[1:] < GAP * values[:-1]]
        levels = [_levels(parts[0][1], self.shapes[0][1], cuts)]
        levels += [
            _levels(s, shape[0], cuts) for (_, s, _), shape in zip(parts, self.shapes, strict=True)
        ]
        self.count = (len(cuts) + 1) ** 2
        self._block = torch.cat(
            [
                self._block_of(upper[:, None], lower[None], len(cuts) + 1).reshape(-1)
                for lower, upper in pairwise(levels)
            ]
        )
        self.waits = torch.arange(self.count) > len(cuts)  # no basis vector of the largest level

    @staticmethod
    def _block_of(one: Tensor, other: Tensor, count: int) -> Tensor:
        return count * torch.minimum(one, other) + torch.maximum(one, other)

    def factors(self, point: Tensor) -> list[Tensor]:
        """Factors ``(1, d_j, d_{j-1})`` in these bases as views of a `point` ``(P,)``."""
        pieces = point.split(self.sizes)
        return [W.view(1, *shape) for W, shape in zip(pieces, self.shapes, strict=True)]

    def turned_back(self, point: Tensor) -> Tensor:
        """The state ``(P,)`` in the usual basis of a `point` ``(P,)``."""
        factors = zip(self.bases[1:], self.factors(point), self.bases[:-1], strict=True)
        return torch.cat([(left @ W[0] @ right.mT).reshape(-1) for left, W, right in factors])

    def squares(self, point: Tensor) -> Tensor:
        """Squared norm of every block, shape (count,): of each pair of levels, in all factors."""
        return point.new_zeros(self.count).index_add_(0, self._block, point.square())


def _levels(values: Tensor, size: int, cuts: Tensor) -> Tensor:
    """Level of each of `size` basis vectors, 0 for the largest singular values."""
    padded = values.new_zeros(size)
    padded[: min(size, len(values))] = values[:size]
    return (padded[:, None] <= cuts).sum(1)


def conjugate_gradients(
    at: Linearized, blocks: Blocks, share: float, b: Tensor, least: float
) -> tuple[Tensor | None, int]:
    r"""Solve :math:`(I + s \nabla^2\varphi)\, x = b` to the precision of each block's own size.

    Parameters
    ----------
    at : Linearized
    blocks : Blocks
    share : float
        `s`.
    b : Tensor, shape (P,)
    least : float
        Residual that is good enough in the blocks of what is learned.

    Returns
    -------
    (Tensor or None, int)
        The solution ``(P,)``, None where the matrix is not positive or the iterations do not
        suffice; how many were made.

    References
    ----------
    M. R. Hestenes, E. Stiefel, *Methods of conjugate gradients for solving linear systems*, J. Res.
    Natl. Bur. Stand. 49 (1952).
    """
    enough = _OF_ITSELF**2 * blocks.squares(b)
    enough = torch.where(blocks.waits, enough, enough.clamp_min(least**2))
    x, residual, along = torch.zeros_like(b), b.clone(), b.clone()
    size = float(residual @ residual)
    for n in range(_ITERATIONS):
        if bool((blocks.squares(residual) <= enough).all()):
            return x, n
        image = along + share * at.hessian_times(along)
        curved = float(along @ image)
        if not curved > 0:
            return None, n + 1
        x.add_(along, alpha=size / curved)
        residual.sub_(image, alpha=size / curved)
        before, size = size, float(residual @ residual)
        along = residual + (size / before) * along
    return None, _ITERATIONS


class RosenbrockSteps:
    """Steps of one run by the Rosenbrock method RODAS3.

    It is L-stable, of order 3, with an embedded method of order 2.

    Parameters
    ----------
    problem : SquaredLoss
        For matrices ``(1, d, d')``.
    factors : list of Tensor, shape (d_j, d_{j-1})
        Where the run is, in double precision.

    Attributes
    ----------
    cost : int
        Gradients that the last step took; a Hessian times a direction counts as two.

    References
    ----------
    A. Sandu, J. G. Verwer, J. G. Blom, E. J. Spee, G. R. Carmichael, F. A. Potra, *Benchmarking
    stiff ODE solvers for atmospheric chemistry problems II: Rosenbrock solvers*, Atmos. Environ. 31
    (1997).
    """

    def __init__(self, problem: SquaredLoss, factors: Sequence[Tensor]) -> None:
        self.blocks = Blocks(problem, factors)
        self._at = Linearized(self.blocks.problem, self.blocks.factors(self.blocks.point))
        self.cost, self._unpaid = 0, 2  # gradients: at zero and here
        self._next: tuple[Tensor, Linearized] | None = None

    def step(self, state: Tensor, h: float, least: float) -> Step:
        """Try a step of size `h`.

        Parameters
        ----------
        state : Tensor, shape (P,)
            Where the run is, in the usual basis.
        h : float
        least : float
            Error that is tolerated of a step, as far as known.

        Returns
        -------
        Step
            Its loss is NaN if no solution was found, for want of a shorter step.
        """
        blocks, first = self.blocks, self._at
        self.cost, self._unpaid, self._next = self._unpaid, 0, None
        moved, error = self._stages(h, _OF_THE_ERROR * least)
        if moved is None:
            none = torch.zeros_like(state)
            return self._made(state, none[None], [math.nan], [math.inf, 0.0, 0.0], none, none, h)
        point = blocks.point + moved
        end = Linearized(blocks.problem, blocks.factors(point))
        self.cost += 1
        self._next = point, end
        found = [norms(of[None])[0] for of in (error, moved, end.gradient)]
        to = blocks.turned_back(point)
        slopes = [blocks.turned_back(of.gradient) for of in (first, end)]
        return self._made(to, slopes[1][None], [end.loss], found, state, slopes[0], h)

    def _stages(self, h: float, least: float) -> tuple[Tensor | None, Tensor | None]:
        """The step and its error, shape (P,); None where a stage has no solution."""
        blocks, slope, made = self.blocks, self._at.gradient, []
        for at, taken in zip(_AT, _FROM, strict=True):
            if at:
                point = blocks.point + sum(a * k for a, k in zip(at, made, strict=True))
                slope = Linearized(blocks.problem, blocks.factors(point)).gradient
                self.cost += 1
            b = -_GAMMA * h * slope
            for c, k in zip(taken, made, strict=True):
                b.add_(k, alpha=_GAMMA * c)
            k, n = conjugate_gradients(self._at, blocks, _GAMMA * h, b, least)
            self.cost += 2 * n
            if k is None:
                return None, None
            made.append(k)
        return 2 * made[0] + made[2] + made[3], made[3]

    def _made(
        self,
        end: Tensor,
        slope: Tensor,
        losses: list[float],
        found: Sequence[float],
        origin: Tensor,
        first: Tensor,
        h: float,
    ) -> Step:
        def interpolate(b: int, theta: float) -> Tensor:
            # Cubic Hermite polynomial, as for the stabilized method.
            back = 1 - theta
            return (
                back**2 * (1 + 2 * theta) * origin
                + theta**2 * (1 + 2 * back) * end
                - h * theta * back * (back * first - theta * slope[0])
            )

        error, move, speed = found
        nothing = torch.zeros_like(end)  # is foreseen for the stabilized method, should it follow
        return Step(
            [end],
            slope,
            losses,
            [norms(end[None])[0]],
            [error],
            [move],
            [speed],
            interpolate,
            lambda b: nothing,
            [self.cost],
            [0.0],
        )

    def accept(self) -> None:
        """Go on from the end of the step that was tried last."""
        # In the bases of the first step: what waits is not rounded beside what is large.
        self.blocks.point, self._at = self._next
