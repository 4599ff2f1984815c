"""Gradient flows whose solution is known in closed form, square and not, at several depths.

Every flow of the table starts from factors whose product matrix stays on a line of known shape:
``W(t) = fixed + Σ_k s_k(t) D_k``, where each amplitude obeys an equation of its own. The amplitudes
are solved here from the equations on paper, with no function of the package.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.full_observation import FullObservation
from dmf_utils.problems.sensing import MatrixSensing


@dataclass(frozen=True)
class Known:
    """A problem, the factors at time 0, and the product matrix at every time."""

    name: str
    problem: object
    factors: list[Tensor]
    product_at: Callable[[float], Tensor]
    limit: Tensor

    def __str__(self) -> str:
        return self.name


def aligned(W_singular: list[float], U: Tensor, V: Tensor, depth: int, hidden: int) -> list[Tensor]:
    """Factors with ``W_N ... W_1 = U diag(s) Vᵀ``, each of singular values ``s^(1/N)``."""
    k = len(W_singular)
    root = torch.diag(torch.tensor(W_singular, dtype=torch.float64) ** (1 / depth))
    if depth == 1:
        return [U @ root @ V.T]
    rng = np.random.default_rng(11)
    turns = [torch.linalg.qr(randn(rng, hidden, hidden))[0][:, :k] for _ in range(depth - 1)]
    middle = [turns[j] @ root @ turns[j - 1].T for j in range(1, depth - 1)]
    return [turns[0] @ root @ V.T, *middle, U @ root @ turns[-1].T]


def amplitude(depth: int, start: float, goal: float, rate: float) -> Callable[[float], float]:
    """Solve ``ds/dt = rate · N · s^(2-2/N) (goal - s)`` for N = 1, 2 or 4 from 0 < start < goal."""
    if depth == 1:
        return lambda t: goal + (start - goal) * math.exp(-rate * t)
    if depth == 2:
        return lambda t: goal / (1 + (goal / start - 1) * math.exp(-2 * goal * rate * t))
    assert depth == 4

    # With √s = √goal · v: dt = dv / (2 goal^(3/2) v² (1 - v²)). The unknown is q = ln(1 - v).
    def time_at(q: float) -> float:
        v = -math.expm1(q)
        return ((math.log1p(v) - q) / 2 - 1 / v) / (2 * goal**1.5 * rate)

    first = math.log1p(-math.sqrt(start / goal))

    def solved(t: float) -> float:
        aim = time_at(first) + t
        q = brentq(lambda q: time_at(q) - aim, -700.0, first, xtol=1e-14) if t > 0 else first
        return goal * math.expm1(q) ** 2

    return solved


def randn(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


def bases(rows: int, columns: int, k: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    U, V = (torch.linalg.qr(randn(rng, size, size))[0][:, :k] for size in (rows, columns))
    return U, V


def full(rows, columns, depth, hidden, reduction) -> Known:
    """Every entry observed, from an aligned start: each mode is logistic (Saxe et al. 2014)."""
    U, V = bases(rows, columns, 2, seed=1)
    goals, starts = [1.5, 0.8], [0.05, 0.2]
    target = U @ torch.diag(torch.tensor(goals, dtype=torch.float64)) @ V.T
    rate = 1.0 if reduction == "half_sum" else 2 / (rows * columns)
    modes = [amplitude(depth, s, y, rate) for s, y in zip(starts, goals, strict=True)]
    return Known(
        f"full-{rows}x{columns}-depth{depth}-hidden{hidden}-{reduction}",
        FullObservation(target, reduction),
        aligned(starts, U, V, depth, hidden),
        lambda t: U @ torch.diag(torch.tensor([f(t) for f in modes], dtype=U.dtype)) @ V.T,
        target,
    )


def diagonal_completion(rows, columns, depth, reduction) -> Known:
    """Only diagonal entries observed, from a diagonal start: they move apart from each other."""
    k = min(rows, columns)
    goals, start = [1.0 + 0.5 * r for r in range(k)], 0.1
    places = list(range(k))
    problem = MatrixCompletion.from_entries(places, places, goals, (rows, columns), None, reduction)
    rate = 1.0 if reduction == "half_sum" else 2 / k
    modes = [amplitude(depth, start, y, rate) for y in goals]
    U, V = (torch.eye(size, dtype=torch.float64)[:, :k] for size in (rows, columns))
    return Known(
        f"diagonal-{rows}x{columns}-depth{depth}-{reduction}",
        problem,
        aligned([start] * k, U, V, depth, k),
        lambda t: U @ torch.diag(torch.tensor([f(t) for f in modes], dtype=U.dtype)) @ V.T,
        U @ torch.diag(torch.tensor(goals, dtype=U.dtype)) @ V.T,
    )


def one_measurement(rows, columns, depth, hidden, reduction) -> Known:
    """One measurement matrix of rank one, ``A = c u vᵀ``, ``y = c·goal``."""
    U, V = bases(rows, columns, 1, seed=5)
    c, goal, start = 1.7, 0.9, 0.05
    problem = MatrixSensing(c * (U @ V.T)[None], [c * goal], None, reduction)
    mode = amplitude(depth, start, goal, c**2 * (1.0 if reduction == "half_sum" else 2.0))
    return Known(
        f"one-{rows}x{columns}-depth{depth}-{reduction}",
        problem,
        aligned([start], U, V, depth, hidden),
        lambda t: mode(t) * U @ V.T,
        goal * U @ V.T,
    )


def linear_sensing(rows, columns, m, reduction) -> Known:
    """Depth 1 with orthogonal measurements: each residual decays by itself, the rest stays."""
    rng = np.random.default_rng(7)
    Q = torch.linalg.qr(randn(rng, rows * columns, m))[0].T
    lengths = torch.linspace(0.8, 1.6, m, dtype=torch.float64)
    y, W0 = randn(rng, m), randn(rng, rows, columns)
    A = (lengths[:, None] * Q).view(m, rows, columns)
    miss = lengths * (Q @ W0.flatten()) - y
    rates = lengths**2 * (1.0 if reduction == "half_sum" else 2 / m)

    def product_at(t: float) -> Tensor:
        change = miss * (torch.exp(-rates * t) - 1) / lengths
        return W0 + (change @ Q).view(rows, columns)

    return Known(
        f"linear-{rows}x{columns}-{reduction}",
        MatrixSensing(A, y, None, reduction),
        [W0],
        product_at,
        product_at(math.inf),
    )


def linear_completion(rows, columns, reduction) -> Known:
    """Depth 1: observed entries decay to their values, unobserved ones never move."""
    rng = np.random.default_rng(9)
    W0, Y = randn(rng, rows, columns), randn(rng, rows, columns)
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    mask[0], mask[:, 1] = True, True
    rate = 1.0 if reduction == "half_sum" else 2 / (rows + columns - 1)
    return Known(
        f"entries-{rows}x{columns}-{reduction}",
        MatrixCompletion.from_mask(Y, mask, None, reduction),
        [W0],
        lambda t: W0 + mask * (Y - W0) * (1 - math.exp(-rate * t)),
        torch.where(mask, Y, W0),
    )


KNOWN = [
    *(full(4, 4, depth, 4, "half_sum") for depth in (1, 2, 4)),
    *(full(3, 5, depth, 6, "half_sum") for depth in (1, 2, 4)),
    full(5, 3, 2, 3, "mean"),
    full(2, 6, 4, 2, "mean"),
    diagonal_completion(3, 3, 2, "half_sum"),
    diagonal_completion(3, 5, 2, "mean"),
    diagonal_completion(4, 2, 4, "mean"),
    one_measurement(4, 4, 2, 4, "half_sum"),
    one_measurement(3, 6, 4, 5, "mean"),
    one_measurement(5, 2, 1, 2, "mean"),
    linear_sensing(3, 4, 7, "half_sum"),
    linear_sensing(5, 2, 3, "mean"),
    linear_completion(4, 3, "mean"),
    linear_completion(2, 5, "half_sum"),
]
