"""Gradient flow with early stopping: kept where the error on validation entries is least."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from dmf_utils._support.progress import progress_bar
from dmf_utils.factorization.initialization import Start
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Status
from dmf_utils.problems.base import Problem

__all__ = ["EarlyStopping", "early_stopping"]

_FALL = 0.95  # of the loss, from one look to the next
# A run ends when the loss has fallen by the first factor since the best look, or by the second
# while the error has risen by the third, and rises still.
_PATIENCE, _SHORT_PATIENCE, _RISE = 0.1, 0.5, 1.05


@dataclass(frozen=True)
class EarlyStopping:
    """A run up to its best look.

    Attributes
    ----------
    factors : list of Tensor
        ``[W_1, ..., W_N]``.
    time : float
        Time of the flow there.
    n_gradients : int
        Of the whole run, which goes on for a while to see that the error no longer falls.
    looks : list of (float, float)
        Loss and validation error at each look.
    end : str
        Why it ended, for a person.
    is_early : bool
        Whether the error rose again before the loss reached what was asked.
    """

    factors: list[Tensor]
    time: float
    n_gradients: int
    looks: list[tuple[float, float]]
    end: str
    is_early: bool


def early_stopping(
    problem: Problem,
    depth: int,
    start: Start,
    error: Callable[[Sequence[Tensor]], float] | None,
    until_loss: float,
    *,
    hidden: int | None = None,
    progress: bool = False,
    settings: Settings = Settings(tolerance=1e-5),  # noqa: B008, it cannot change
) -> EarlyStopping:
    r"""Follow gradient flow, look at the error again and again as the loss falls, keep the best.

    The run ends at `until_loss`; or when the loss has fallen to a tenth of what it was at the best
    look; or to half of it, if the error has risen by 5 % in the mean and does not fall again. The
    error may rise for a while, as when a mode is learned that needs the next one.

    Parameters
    ----------
    problem : Problem
    depth : int
    start : Start
    error : callable, or None
        Mean squared error of the product of given factors, on entries that the problem does not
        see. None for a run that nothing stops before `until_loss`.
    until_loss : float
    hidden, settings
        As of `gradient_flow`.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    EarlyStopping

    Warns
    -----
    RuntimeWarning
        If the flow cannot go on, as `gradient_flow` says.

    References
    ----------
    L. Prechelt, *Early stopping – but when?*, Neural Networks: Tricks of the Trade, 1998.
    """
    factors = start.factors(tuple(problem.shape), depth, hidden)
    if error is None:
        run = gradient_flow(
            problem, depth, factors, until_loss, progress=progress, settings=settings
        )
        return EarlyStopping(run.factors, run.time, run.n_gradients, [], _end(run.status), False)
    looks: list[tuple[float, float]] = []
    best, best_time, best_factors = 0, 0.0, factors

    def look(loss: float, time: float, factors: list[Tensor]) -> float | None:
        nonlocal best, best_time, best_factors
        looks.append((loss, error(factors)))
        if looks[-1][1] < looks[best][1]:
            best, best_time, best_factors = len(looks) - 1, time, factors
        first = looks[0][0]
        if until_loss < first:
            gone = math.log(max(loss, 1e-300) / first) / math.log(until_loss / first)
            bar.update_to(min(99, int(100 * gone)))
        if _is_over(looks, best):
            return None
        wanted = max(_FALL * loss, until_loss)
        return wanted if wanted < loss else 0.0

    with progress_bar(f"depth {depth}", total=100, show=progress) as bar:
        run = gradient_flow(problem, depth, factors, until_loss, callback=look, settings=settings)
        if run.loss < 0.99 * looks[-1][0]:
            look(run.loss, run.time, run.factors)
        bar.update_to(100)
    is_early = best < len(looks) - 1
    end = _end(run.status)
    if is_early:
        end = "stopped early" if best else "no better than its start"
    return EarlyStopping(best_factors, best_time, run.n_gradients, looks, end, is_early)


def _is_over(looks: Sequence[tuple[float, float]], best: int) -> bool:
    (loss, error), (best_loss, best_error) = looks[-1], looks[best]
    if loss <= _PATIENCE * best_loss:
        return True
    is_rising = error > _RISE * best_error and error >= looks[-2][1]
    return best > 0 and loss <= _SHORT_PATIENCE * best_loss and is_rising


def _end(status: Status) -> str:
    return "all fitted" if status is Status.reached else status.value
