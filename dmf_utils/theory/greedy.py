r"""Greedy low-rank learning: the rank grows by one at a time, along the steepest direction.

Li, Luo and Lyu (2021) describe the flow from an infinitesimal start by this algorithm. From
:math:`W_0 = 0` on, each phase takes the direction in which the loss falls fastest at the last
stop, adds it with an infinitesimal weight, and follows the flow to the next stop. Zero singular
values of a balanced flow stay zero, so phase `r` moves among the matrices of rank `r`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils.factorization.initialization import balanced_factors
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Record
from dmf_utils.problems.base import Problem
from dmf_utils.theory.aligned_modes import time_to_reach

__all__ = ["GreedyPhase", "distance_to_path", "greedy_low_rank_learning", "thinned_path"]

_CHUNKS = 40  # of a phase, each as long as the first wait; a phase that needs more is refused


@dataclass(frozen=True)
class GreedyPhase:
    """One phase: from a stop, along the steepest direction, to the next stop."""

    left: Tensor
    """(d,): left vector of the direction."""
    right: Tensor
    """(d',): right vector of the direction."""
    slope: float
    """Fall of the loss for a unit of the direction: a singular value of the negative gradient."""
    path: Tensor
    """(T, d, d'): product matrices on the way."""
    loss: float
    """Loss at the stop that the phase ends in."""

    @property
    def stop(self) -> Tensor:
        """(d, d'): the product matrix that the phase ends in."""
        return self.path[-1]


def greedy_low_rank_learning(
    problem: Problem,
    depth: int,
    n_phases: int,
    *,
    step: float = 1e-4,
    symmetric: bool = False,
    tolerance: float = 1e-8,
    n_times: int = 2000,
    still: float = 1e-5,
) -> list[GreedyPhase]:
    r"""Learn the rank one by one: the limit of the flow as its start shrinks to nothing.

    With :math:`W_0 = 0`, for :math:`r = 1, 2, \dots`: let :math:`(u, v)` be the top pair of
    singular vectors of :math:`-\nabla \ell(W_{r-1})`. Follow the balanced flow from
    :math:`W_{r-1} + \epsilon u v^\top` until it is at rest again, in :math:`W_r`.

    Parameters
    ----------
    problem : Problem
        One problem, of shape ``(d, d')``.
    depth : int
        Number of factors, at least 2.
    n_phases : int
        How many phases to run, at most ``min(d, d')``.
    step : float
        :math:`\epsilon`, in units of the product matrix; the path differs from the limit by the
        order of it.
    symmetric : bool
        Whether to take the top eigenvector of the negative gradient instead, for a symmetric
        problem whose product matrix stays positive semidefinite.
    tolerance : float
        Of the flow. It must be far below `step`, or the new direction is lost in it.
    n_times : int
        Points recorded in each stretch of a phase.
    still : float
        A phase ends when its speed falls below this fraction of the greatest speed.

    Returns
    -------
    list of GreedyPhase
        Fewer than asked, if a stop is a solution: where the gradient vanishes nothing is left.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.
    RuntimeError
        If a phase does not come to rest.

    References
    ----------
    Z. Li, Y. Luo, K. Lyu, *Towards Resolving the Implicit Bias of Gradient Descent for Matrix
    Factorization: Greedy Low-Rank Learning*, ICLR 2021, for symmetric problems; the form with
    singular vectors is its plain analogue.
    """
    depth = checks.whole_number(depth, "depth", 2, "at depth 1 no singular value waits")
    n_phases = checks.whole_number(n_phases, "n_phases", 1)
    if n_phases > min(problem.shape):
        raise ValueError(
            f"n_phases must be at most min(d, d') = {min(problem.shape)}, got {n_phases}"
        )
    step, still = checks.positive(step, "step"), checks.positive(still, "still")
    tolerance = checks.positive(tolerance, "tolerance")
    n_times = checks.whole_number(n_times, "n_times", 10)
    if symmetric and problem.shape[0] != problem.shape[1]:
        raise ValueError(f"symmetric needs a square problem, got shape {problem.shape}")
    W = torch.zeros(problem.shape, dtype=torch.float64)
    first_slope, phases = 0.0, []
    for _ in range(n_phases):
        left, right, slope = _steepest(-_gradient(problem, W), symmetric)
        first_slope = first_slope or slope
        if slope <= 1e-6 * first_slope:
            break
        # Aligned with a target of this slope, half way is reached at this time; then it settles.
        wait = float(time_to_reach(0.5 * slope, min(step, 0.1 * slope), slope, depth))
        start = W + step * torch.outer(left, right)
        path, loss = _follow(problem, start, depth, 1.5 * wait, tolerance, n_times, still)
        phases.append(GreedyPhase(left, right, slope, path, loss))
        W = path[-1]
    return phases


def distance_to_path(points: Tensor, path: Tensor) -> Tensor:
    r"""Distance, in the Frobenius norm, of each point from the broken line through a path.

    .. math:: \min_k \min_{0 \le s \le 1} \|P - (1 - s) Q_k - s\, Q_{k+1}\|_F

    Parameters
    ----------
    points : Tensor, shape (P, d, d')
    path : Tensor, shape (T, d, d')
        At least two points.

    Returns
    -------
    Tensor, shape (P,)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    points, path = checks.real_tensor(points, "points"), checks.real_tensor(path, "path")
    if points.ndim != 3 or path.ndim != 3 or points.shape[1:] != path.shape[1:] or len(path) < 2:
        raise ValueError(
            "points and path must have shapes (P, d, d') and (T, d, d') with T at least 2, got "
            f"{tuple(points.shape)} and {tuple(path.shape)}"
        )
    begin, along = path[:-1].flatten(1), path.diff(dim=0).flatten(1)
    lengths = along.square().sum(dim=1)
    found = []
    for point in points.flatten(1):  # one by one: all pairs at once would fill the memory
        offset = point - begin
        share = ((offset * along).sum(dim=1) / lengths.clamp_min(1e-300)).clamp(0, 1)
        found.append((offset - share[:, None] * along).square().sum(dim=1).min().sqrt())
    return torch.stack(found)


def thinned_path(path: Tensor, spacing: float) -> Tensor:
    """Leave out points of a path that are closer than `spacing` to the last point kept.

    A flow spends most of its time near its stops; there, points at even times crowd.

    Parameters
    ----------
    path : Tensor, shape (T, d, d')
    spacing : float
        In the Frobenius norm.

    Returns
    -------
    Tensor, shape (K, d, d')
        The first and the last point are kept.

    Raises
    ------
    ValueError
        If `path` is no sequence of matrices, or `spacing` is not positive.
    """
    path, spacing = checks.real_tensor(path, "path"), checks.positive(spacing, "spacing")
    if path.ndim != 3 or len(path) == 0:
        raise ValueError(f"path must have shape (T, d, d') with T at least 1, got {path.shape}")
    kept = [0]
    for i in range(1, len(path) - 1):
        if torch.linalg.matrix_norm(path[i] - path[kept[-1]]) >= spacing:
            kept.append(i)
    return path[sorted({*kept, len(path) - 1})]


def _gradient(problem: Problem, W: Tensor) -> Tensor:
    return problem.loss_and_gradient(W[None])[1][0]


def _steepest(downhill: Tensor, symmetric: bool) -> tuple[Tensor, Tensor, float]:
    if symmetric:
        values, vectors = torch.linalg.eigh((downhill + downhill.mT) / 2)
        return vectors[:, -1], vectors[:, -1], max(float(values[-1]), 0.0)
    U, s, Vh = torch.linalg.svd(downhill)
    return U[:, 0], Vh[0], float(s[0])


def _follow(
    problem: Problem,
    start: Tensor,
    depth: int,
    stretch: float,
    tolerance: float,
    n_times: int,
    still: float,
) -> tuple[Tensor, float]:
    """The path of the flow from `start` until it has moved and is at rest again; and its loss."""
    times = torch.linspace(0, stretch, n_times, dtype=torch.float64).tolist()
    record = Record(times, measures={"product": torch.clone})
    factors, paths, fastest = balanced_factors(start, depth), [], 0.0
    first_loss = float(problem.loss_and_gradient(start[None])[0])
    for _ in range(_CHUNKS):
        run = gradient_flow(
            problem,
            start=factors,
            until_loss=None,
            until_time=stretch,
            record=record,
            settings=Settings(tolerance=tolerance),
        )
        factors = run.factors
        paths.append(run.measured["product"])
        speeds = torch.linalg.matrix_norm(paths[-1].diff(dim=0))
        fastest = max(fastest, float(speeds.max()))
        # Before the new direction has grown the speed is small too, but the loss has not fallen.
        if run.loss < 0.999 * first_loss and float(speeds[-1]) <= still * fastest:
            return torch.cat(paths), run.loss
    raise RuntimeError(
        f"the phase is not at rest after {_CHUNKS} stretches of time {stretch:.3g}; raise still"
    )
