"""Gradient flow that is stopped where the error on other entries is least."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dmf_utils._support.progress import progress_bar
from dmf_utils.factorization.initialization import Start
from dmf_utils.factorization.product import product_matrix
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.trajectory import Status
from dmf_utils.problems.base import Problem

__all__ = ["StoppedRun", "stopped_flow"]

_LEVEL = 0.8  # the loss falls by this factor from one look to the next
_PATIENCE = 0.1  # a run ends when the loss has fallen by this factor since the best look


@dataclass(frozen=True)
class StoppedRun:
    """A run up to where it was stopped.

    Attributes
    ----------
    product : Tensor, shape (d, d')
    time : float
        Time of the flow at `product`.
    n_gradients : int
        Of the whole run, which goes on for a while to see that the error no longer falls.
    looks : list of (float, float)
        Loss and error at each look.
    end : str
        Why it ended, for a person.
    is_early : bool
        Whether the error rose again before the loss reached what was asked.
    """

    product: Tensor
    time: float
    n_gradients: int
    looks: list[tuple[float, float]]
    end: str
    is_early: bool


def stopped_flow(
    problem: Problem,
    depth: int,
    start: Start,
    error: Callable[[Tensor], float] | None,
    until_loss: float,
    *,
    hidden: int | None = None,
    tolerance: float = 1e-5,
    progress: bool = False,
) -> StoppedRun:
    r"""Follow gradient flow, look whenever the loss has fallen by a fifth, keep the best look.

    The run ends at `until_loss`, or when the loss has fallen to a tenth of what it was at the
    best look: the error can rise for a while, as when a mode is learned that needs the next one.

    Parameters
    ----------
    problem : Problem
    depth : int
    start : Start
    error : callable, or None
        Error of a product matrix, on entries that the problem does not see. None for a run that
        nothing stops before `until_loss`.
    until_loss, tolerance : float
    hidden : int, optional
        As of `gradient_flow`.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    StoppedRun

    Warns
    -----
    RuntimeWarning
        If the flow cannot go on, as `gradient_flow` says.
    """
    if error is None:
        options = {"hidden": hidden, "tolerance": tolerance, "progress": progress}
        run = gradient_flow(problem, depth, start, until_loss, **options)
        return StoppedRun(run.product, run.time, run.n_gradients, [], _end(run.status), False)
    factors = start.factors(tuple(problem.shape), depth, hidden)
    product = product_matrix(factors)
    loss = first = float(problem.loss(product))
    looks = [(loss, error(product))]
    best, best_product, time, best_time, n_gradients = 0, product, 0.0, 0.0, 0
    status = Status.reached
    with progress_bar(f"depth {depth}", total=100, show=progress) as bar:
        while status is Status.reached and loss > max(until_loss, _PATIENCE * looks[best][0]):
            level = max(_LEVEL * loss, until_loss)
            run = gradient_flow(problem, depth, factors, level, tolerance=tolerance)
            factors, product, loss, status = run.factors, run.product, run.loss, run.status
            time, n_gradients = time + run.time, n_gradients + run.n_gradients
            looks.append((loss, error(product)))
            if looks[-1][1] < looks[best][1]:
                best, best_product, best_time = len(looks) - 1, product, time
            gone = math.log(max(loss, 1e-300) / first) / math.log(until_loss / first)
            bar.update_to(min(99, int(100 * gone)))
        bar.update_to(100)
    is_early = best < len(looks) - 1
    end = _end(status)
    if is_early:
        end = "stopped early" if best else "no better than its start"
    return StoppedRun(best_product, best_time, n_gradients, looks, end, is_early)


def _end(status: Status) -> str:
    return "all fitted" if status is Status.reached else status.value
