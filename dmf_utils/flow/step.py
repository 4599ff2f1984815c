"""What a step of any method gives back, and the memory it works in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dmf_utils.flow.batch import Factorizations

__all__ = ["ORIGIN", "POINT", "Rows", "Step", "Workspace", "dots", "norms"]

_PIECE = 2**17  # numbers: what is made of more of them does not stay in the cache
_LEAST, _MOST = 1e-12, 1e15  # norms in single precision beyond which squares may be lost


def norms(rows: Tensor) -> list[float]:
    """Norms ``(n,)`` of rows ``(n, P)``, right for numbers whose squares their precision lacks."""
    parts = [_norms_of_few(piece) for piece in rows.split(_PIECE, dim=-1)]
    return parts[0] if len(parts) == 1 else [math.hypot(*part) for part in zip(*parts, strict=True)]


def _norms_of_few(rows: Tensor) -> list[float]:
    found = torch.linalg.vector_norm(rows, dim=-1).tolist()
    if rows.dtype == torch.float64 or all(_LEAST < norm < _MOST for norm in found):
        return found
    return torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64).tolist()


def dots(rows: Tensor, others: Tensor) -> list[float]:
    """Dot products ``(n,)`` of rows ``(n, P)``, to the precision of the product of their norms."""
    pieces = zip(rows.split(_PIECE, dim=-1), others.split(_PIECE, dim=-1), strict=True)
    parts = [_dots_of_few(one, other) for one, other in pieces]
    return parts[0] if len(parts) == 1 else [sum(part) for part in zip(*parts, strict=True)]


def _dots_of_few(rows: Tensor, others: Tensor) -> list[float]:
    found = torch.bmm(rows.unsqueeze(-2), others.unsqueeze(-1)).view(-1).tolist()
    if rows.dtype == torch.float64 or all(_LEAST**2 < abs(dot) < _MOST**2 for dot in found):
        return found
    return torch.linalg.vecdot(rows.double(), others.double()).tolist()


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
    losses, sizes, errors, moves, speeds : list of float
        Loss at the end, and the norms of the state, of the estimated local error, of the step and
        of the gradient at the end.
    interpolate : callable
        ``interpolate(b, theta)`` is the state ``(P,)`` of factorization `b` at the fraction
        `theta` of the step.
    curvatures : list of float, or None
        Estimates of the largest curvature along the way (Dormand–Prince only), with the direction
        in which each was seen in `directions`, shape (B, P).
    evaluations : list of int
        Gradients that each factorization took part in.
    delays : list of float
        Times by which the ends are behind those of the step, as far as the local error points
        along the flow: the state of a step from `t` of size `h` belongs to ``t + h - delay``. Zero
        for Dormand–Prince, whose error is not known to that order.
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
    speeds: list[float]
    interpolate: Callable[[int, float], Tensor]
    missed: Callable[[int], Tensor]
    evaluations: list[int]
    delays: list[float]
    curvatures: list[float] | None = None
    directions: Tensor | None = None

    def locate(
        self,
        b: int,
        loss_of: Callable[[Tensor], Tensor],
        first: float,
        last: float,
        wanted: float,
        digits: float = 1e-5,
    ) -> float:
        """The fraction of the step of factorization `b` at which its loss is `wanted`.

        Parameters
        ----------
        b : int
        loss_of : callable
            Losses ``(1,)`` of states ``(1, P)``.
        first, last, wanted : float
            Losses at the start, which is above what is wanted, and at the end, which is not.
        digits : float
            How near to it, in its logarithm.
        """
        goal = math.log(wanted)
        low, above = 0.0, math.log(first) - goal
        high, below = 1.0, math.log(max(last, 1e-300)) - goal
        theta, miss = high, below
        while abs(miss) > digits and high - low > 1e-12:
            # The logarithm of the loss is nearly linear; the clamp bisects where it is not.
            share = min(0.9, max(0.1, above / (above - below)))
            theta = low + share * (high - low)
            at = float(loss_of(self.interpolate(b, theta)[None]))
            miss = math.log(max(at, 1e-300)) - goal
            if miss > 0:
                low, above = theta, miss
            else:
                high, below = theta, miss
        return theta
