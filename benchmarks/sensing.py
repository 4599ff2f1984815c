"""Matrix sensing: a gradient, a run to the end, and both figures of the appendix at one instance.

The authors multiply an array of m×n×n numbers by the product matrix, entry by entry, and leave the
rest to autograd. Their whole run would take most of an hour: how many steps it has is computed from
the flow, which their steps follow, and so is the ratio of whole runs. Both are marked as such.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.authors import DeepFactorization
from benchmarks.speed import _PeakMemory
from dmf_utils import MatrixSensing, Record, Settings, Trajectory, gaussian, gradient_flow
from dmf_utils.sweep.table import grid, sweep

SHAPE, RANK, SEED, DEPTH = (100, 100), 5, 0, 3
STARTS = {2000: [1e-2, 1e-3, 1e-4, 1e-5, 1e-6], 5000: [1e-2, 1e-3, 1e-4, 1e-5]}
LEARNING_RATE = 1e-3


def gradients_and_runs() -> None:
    """One gradient each way, and one run to loss 1e-6 from the largest start."""
    print("\nMatrix sensing, n = 100, depth 3 (one thread)")
    for m, starts in STARTS.items():
        problem = MatrixSensing.random(SHAPE, RANK, m, SEED)
        factors = gaussian(starts[0], SEED).factors(SHAPE, DEPTH)
        theirs = _least_seconds(authors_gradient(problem, factors), repeats=5)
        W = torch.stack([gaussian(norm, SEED).factors(SHAPE, 1)[0] for norm in starts])
        alone, batch = (_evaluation(problem, part) for part in (W[:1], W))
        print(
            f"  m = {m}, one gradient: authors' way {1e3 * theirs:.0f} ms, here "
            f"{1e3 * alone[torch.float64]:.1f} ms in double and {1e3 * alone[torch.float32]:.1f} "
            f"in single precision; in a batch of {len(W)} starts "
            f"{1e3 * batch[torch.float64] / len(W):.1f} and "
            f"{1e3 * batch[torch.float32] / len(W):.1f} ms each"
        )
        start = gaussian(starts[0], SEED)
        run = gradient_flow(problem, DEPTH, start, settings=Settings(tolerance=1e-4))
        record = Record(np.linspace(0, run.time, 500)[:-1], factors=True)
        recorded = gradient_flow(
            problem, DEPTH, start, record=record, settings=Settings(tolerance=1e-4)
        )
        steps = steps_of_descent(recorded, LEARNING_RATE)
        print(
            f"    to loss 1e-6 from {starts[0]:g}: here, in double precision, "
            f"{run.n_gradients} gradients, {run.seconds:.1f} s; authors' way {steps:.0f} steps "
            f"(extrapolated from the length of the path), {steps * theirs:.0f} s (extrapolated); "
            f"ratio {steps * theirs / run.seconds:.0f} (extrapolated)"
        )


def both_figures(whole: bool) -> None:
    """All runs of the appendix's figures at one instance, in worker processes, and their memory."""
    workers = os.cpu_count() or 1
    depths = [2, 3, 4] if whole else [2]
    common = {"problem": "sensing", "rank": RANK, "seed": SEED}
    runs = grid(method="min_nuclear_norm", n_observed=list(STARTS), **common)
    for m, starts in STARTS.items():
        runs += grid(
            n_observed=m,
            depth=depths,
            norm=starts,
            tolerance=1e-4,
            gradient_precision="float32",
            **common,
        )
    with _PeakMemory() as memory:
        begin = time.perf_counter()
        table = sweep(runs, workers=workers, progress=False)
        seconds = time.perf_counter() - begin
    print(
        f"  both figures at one instance, depth {depths}: {len(runs)} runs in {workers} processes, "
        f"{seconds:.0f} s; {table.n_gradients.sum()} gradients; peak memory of all processes "
        f"together {memory.peak / 2**30:.2f} GiB"
    )


def authors_gradient(
    problem: MatrixSensing, factors: Sequence[Tensor]
) -> Callable[[], tuple[Tensor, ...]]:
    """Gradients of all factors by the authors' way, in single precision."""
    model = DeepFactorization(factors)
    measurements = problem.operator.view(-1, *problem.shape).to(torch.float32)
    values = problem.values.to(torch.float32)

    def gradients() -> tuple[Tensor, ...]:
        loss = ((measurements * model()).sum((1, 2)) - values).square().mean()
        return torch.autograd.grad(loss, list(model.parameters()))

    return gradients


def steps_of_descent(run: Trajectory, learning_rate: float) -> float:
    r"""Steps that the authors' descent takes along the path of a recorded flow.

    A step advances time by :math:`\eta / (\sqrt v + 10^{-4})`, where :math:`\sqrt v` is about the
    speed of the flow. So there are :math:`\eta^{-1} \int (|\dot\theta| + 10^{-4})\,dt` of them:
    the length of the path, and a ten thousandth of its time, over the learning rate. A bound from
    below: the running average v lags behind the slowing flow, which costs some hundred steps more.
    """
    states = [torch.cat([W.flatten() for W in at]) for at in run.recorded_factors]
    states.append(torch.cat([W.flatten() for W in run.factors]))
    moves = torch.stack(states).diff(dim=0)
    length = float(torch.linalg.vector_norm(moves, dim=1).sum())
    return (length + 1e-4 * run.time) / learning_rate


def _evaluation(problem: MatrixSensing, W: Tensor) -> dict[torch.dtype, float]:
    """Seconds of one evaluation of a whole batch, in both precisions."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        moved, at = problem.to("cpu", dtype), W.to(dtype)
        found[dtype] = _least_seconds(partial(moved.loss_and_gradient, at), repeats=10)
    return found


def _least_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    spent = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    return min(spent)
