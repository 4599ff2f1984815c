r"""What waits below what is seen to move, and what the flow conserves.

Singular values of the factors that are small grow at a rate of at most
:math:`\|\nabla\ell\| a^{N-2}`, where :math:`a` is the largest of them: from that follows how long
nothing can happen, and whether rounding is already as large as what waits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from dmf_utils._support.threads import few_threads
from dmf_utils.factorization.product import balancedness_gap, product_matrix
from dmf_utils.problems.base import Problem

__all__ = [
    "GAP",
    "ZERO",
    "Waiting",
    "broken_law",
    "is_swallowed",
    "lowest_level",
    "smallest_resolved_loss",
    "what_waits",
]

GAP = 1e-2  # between singular values, with which those below belong to a level of their own
_VISIBLE = 1e-3  # of the largest singular value of the factors
ZERO = 1e-290


class Waiting(NamedTuple):
    """What may move later though nothing is seen to.

    Attributes
    ----------
    time : float
        No singular value of the factors becomes visible sooner than after this time; infinite if
        none ever will.
    doubling : float
        None of them doubles sooner, visible or not.
    rounding : float
        What rounding the entries of the factors makes of what waits, in relation to it.
    rate : float
        Most that the logarithm of a singular value of the factors grows in a unit of time.
    """

    time: float
    doubling: float
    rounding: float
    rate: float


def what_waits(problem: Problem, factors: Sequence[Tensor], speed: float) -> Waiting:
    r"""Bound how soon a flow that is seen at rest may move again.

    Singular values :math:`a` of the factors that are not learned yet obey
    :math:`\dot a \le g\,a^{N-1}`, with `g` the norm of the loss's gradient between what they span.
    The learned ones are at rest; they are as few as can be if the others are not to move faster
    than is seen.

    Parameters
    ----------
    problem : Problem
        For matrices ``(1, d, d')``.
    factors : list of Tensor, shape (d_j, d_{j-1})
        ``[W_1, ..., W_N]``, in double precision.
    speed : float
        Norm of the gradient with respect to all factors.

    References
    ----------
    Theorem 3 of the paper, whose rate of a singular value
    :math:`N (\sigma^2)^{1-1/N} \langle\nabla\ell, uv^\top\rangle` is bounded here.
    """
    depth, W = len(factors), product_matrix(factors)[None]
    gradient = problem.loss_and_gradient(W)[1]
    nearby = problem.loss_and_gradient(W * (1 + 1e-13))[1]
    if depth == 1 or float(gradient.norm()) <= float((nearby - gradient).norm()):
        return Waiting(math.inf, math.inf, 0.0, 0.0)
    with few_threads(1):  # a decomposition gains little from more, and loses all on a busy machine
        parts = [torch.linalg.svd(M, full_matrices=True) for M in factors]
    count = max(s.numel() for _, s, _ in parts)
    largest = max(float(s[0]) for _, s, _ in parts)
    for k in range(count):
        a = max(float(s[k]) if k < s.numel() else 0.0 for _, s, _ in parts)
        left, right = parts[-1][0][:, k:], parts[0][2][k:]
        rate = float(torch.linalg.matrix_norm(left.mT @ gradient[0] @ right.mT))
        if rate * a ** (depth - 1) <= 10 * speed:
            time = _time_to_grow(a, _VISIBLE * largest, rate, depth)
            doubling = _time_to_grow(a, 2 * a, rate, depth)
            return Waiting(time, doubling, _rounding(parts, k), rate * a ** (depth - 2))
    return Waiting(math.inf, math.inf, 0.0, 0.0)


def _time_to_grow(a: float, to: float, rate: float, depth: int) -> float:
    if a <= ZERO or rate <= ZERO:
        return math.inf
    if a >= to:
        return 0.0
    if depth == 2:
        return math.log(to / a) / rate
    return (a ** (2.0 - depth) - to ** (2.0 - depth)) / ((depth - 2) * rate)


def _rounding(parts: Sequence[tuple[Tensor, Tensor, Tensor]], k: int) -> float:
    """By which share of themselves rounding the factors moves their singular values from `k` on."""
    worst = 0.0
    for U, s, Vh in parts:
        if k >= s.numel():
            continue
        W = (U[:, : s.numel()] * s) @ Vh[: s.numel()]
        signs = 1 - 2 * (torch.arange(W.numel()).view(W.shape) * 7 % 5 % 2).to(W)
        rounded = torch.finfo(W.dtype).eps * W * signs
        rest = torch.linalg.matrix_norm(U[:, k:].mT @ rounded @ Vh[k:].mT)
        level = max(float(torch.linalg.vector_norm(s[k:])), ZERO)
        worst = max(worst, float(rest) / level)
    return worst


def lowest_level(factors: Sequence[Tensor]) -> float:
    """Norm of the smallest singular values of all factors, as far as no gap parts them.

    It is the size of the smallest mode of a start, all of whose modes wait.
    """
    with few_threads(1):
        found = torch.cat([torch.linalg.svdvals(W) for W in factors])
    values = found.sort(descending=True).values
    values = values[values > ZERO]
    if not values.numel():
        return 0.0
    gaps = (values[1:] < GAP * values[:-1]).nonzero()
    return float(values[int(gaps[-1]) + 1 if len(gaps) else 0 :].norm())


def is_swallowed(before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
    """Whether rounding has swallowed a singular value: what is left of it has no sign to keep.

    Parameters
    ----------
    before, after : list of Tensor, shape (d_j, d_{j-1})
        Two states of one flow, in double precision.
    """
    with few_threads(1):
        pairs = [
            [torch.linalg.svdvals(W) for W in both] for both in zip(before, after, strict=True)
        ]
    least = 4 * torch.finfo(torch.float64).eps * max(float(now[0]) for _, now in pairs)
    return any(float(now[-1]) < least <= float(then[-1]) for then, now in pairs)


def smallest_resolved_loss(problem: Problem, W: Tensor, depth: int) -> float:
    """Loss of what rounding adds to the entries of the product matrix `W` ``(d, d')``, and more.

    Below it, the time at which a loss is reached is that of no flow.
    """
    eps = torch.finfo(torch.float64).eps
    at, near = (problem.loss_and_gradient(W[None] * (1 + x))[1][0] for x in (0.0, 1e-6))
    curved = float(((near - at) * W).sum()) / 1e-6  # <W, H W>, the Hessian along W
    return 25 * depth**2 * eps**2 * max(curved, 0.0)


def broken_law(before: Sequence[Tensor], after: Sequence[Tensor], tolerance: float) -> str:
    r"""Say which conserved quantity differs between two states of one flow; empty if none does.

    Every :math:`W_{j+1}^\top W_{j+1} - W_j W_j^\top` is conserved. From a balanced start, with
    all factors square, the determinant of the product matrix keeps its sign.

    Parameters
    ----------
    before, after : list of Tensor, shape (d_j, d_{j-1})
    tolerance : float
        Of the steps between them.
    """
    size = sum(float(W.square().sum()) for W in after)
    for j, ((lower, upper), (low, high)) in enumerate(
        zip(pairwise(before), pairwise(after), strict=True), 1
    ):
        drift = (high.mT @ high - low @ low.mT) - (upper.mT @ upper - lower @ lower.mT)
        if float(drift.norm()) > max(1e-8, min(0.1, 400 * tolerance)) * size:
            return (
                f"W_{j + 1}ᵀW_{j + 1} - W_{j}W_{j}ᵀ, which the flow conserves, has changed by "
                f"{float(drift.norm()) / size:.1g} of the factors' size"
            )
    if not _keeps_sign(before) or _sign(before) * _sign(after) >= 0:
        return ""
    with few_threads(1):
        smallest = min(float(torch.linalg.svdvals(W)[-1]) for W in after)
    if smallest <= 100 * tolerance * math.sqrt(size):  # as small as an error may be
        return ""
    return "the sign of the determinant, which the flow from a balanced start keeps, has changed"


def _keeps_sign(factors: Sequence[Tensor]) -> bool:
    size = sum(float(W.square().sum()) for W in factors)
    is_square = len({d for W in factors for d in W.shape}) == 1
    return len(factors) > 1 and is_square and float(balancedness_gap(factors)) <= 1e-8 * size


def _sign(factors: Sequence[Tensor]) -> float:
    return math.prod(float(torch.linalg.slogdet(W)[0]) for W in factors)
