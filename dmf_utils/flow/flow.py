r"""Gradient flow :math:`\dot W_j = -\partial\varphi/\partial W_j`, followed over a batch.

Each factorization has its own step size, and leaves the batch when it is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dmf_utils._support.checks import check_positive
from dmf_utils._support.progress import progress_bar
from dmf_utils._support.threads import few_threads
from dmf_utils.factorization.initialization import Start, gaussian
from dmf_utils.flow.batch import prepare, with_gradients_in
from dmf_utils.flow.callback import Callback
from dmf_utils.flow.integration import FlowBatch
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.termination import End
from dmf_utils.flow.trajectory import Record, Trajectory, warn_unless_reached
from dmf_utils.problems.base import Problem

__all__ = ["gradient_flow"]


def gradient_flow(
    problem: Problem | Sequence[Problem],
    depth: int = 3,
    start: Start | Sequence[Tensor] | Sequence[Start] = gaussian(norm=1e-2, seed=0),
    until_loss: float | None = 1e-6,
    *,
    until_time: float | None = None,
    hidden: int | None = None,
    record: Record | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    settings: Settings = Settings(),  # noqa: B008, it cannot change
) -> Trajectory | list[Trajectory]:
    r"""Follow gradient flow on a deep factorization until a loss or a time.

    .. math:: \dot W_j = -\frac{\partial}{\partial W_j} \ell(W_N \cdots W_1), \qquad j = 1 \dots N

    Dormand–Prince 5(4) with step control; where its stability, not its accuracy, limits the step,
    the stabilized method of `chebyshev` takes over as long as it goes farther for an evaluation.
    Where products are large or measurements many, most of its gradients at depth 3 or more are of
    the blocks of `reduction`, which hold what is stiff: they cost less, and count as others do.
    Where that would take more than 256 stages and the loss is quadratic, as while small modes wait
    beside learned ones, the linearly implicit method of `rosenbrock` does if it costs less.
    The end is located on the step's interpolant: the loss there is `until_loss` to 1 %.
    Runs of small matrices step together, as far as the processor's cache holds what they work in.

    Parameters
    ----------
    problem : Problem, or a sequence of B
        One for all runs, or one for each.
    depth : int
        Number of factors N, at least 1. Ignored where `start` is a list of factors.
    start : Start, list of factors ``[W_1, ..., W_N]``, or a sequence of B starts
        One run for each start of a sequence.
    until_loss : float or None
        Loss at which a run ends, positive; None to run to `until_time` only.
    until_time : float, optional
        Time at which a run ends at the latest.
    hidden : int, optional
        Hidden size, default ``min(d, d')``.
    record : Record, optional
        What to write down on the way.
    callback : callable, optional
        ``callback(loss, time, [W_1, ..., W_N])`` returns the loss at which it is to be called next,
        0 for never, or None to end the run where it is. It is called at the start first, then on
        the interpolants of steps, which stay as they are: so early stopping costs no gradient. For
        a single run.
    progress : bool
        Whether to show a bar.
    settings : Settings
        How: tolerance, method, precisions, limits and device.

    Returns
    -------
    Trajectory, or a list of B
        A list if `problem` or `start` is a sequence of several.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range or shapes that do not fit, before any computing; for what
        `callback` returns, as soon as it does.

    Warns
    -----
    RuntimeWarning
        If a run does not reach the asked loss or time; `Trajectory.status` says why.

    References
    ----------
    Equation (2) of the paper. J. R. Dormand, P. J. Prince, *A family of embedded Runge–Kutta
    formulae*, J. Comput. Appl. Math. 6 (1980).
    """
    if until_loss is None and until_time is None:
        raise ValueError("until_loss and until_time are both None: give at least one of them")
    check_positive(until_loss=until_loss, until_time=until_time)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of loss, time and factors, got {callback!r}")
    if not isinstance(settings, Settings):
        raise TypeError(f"settings must be Settings(tolerance=..., ...), got {settings!r}")
    device, dtype, precision = settings.device, settings.dtype, settings.gradients_in
    batch, states, single = prepare(problem, depth, start, hidden, device, dtype)
    if callback is not None and len(batch) > 1:
        raise ValueError(f"callback is for one run, got a batch of {len(batch)}; run them in turn")
    if precision != dtype:
        batch = with_gradients_in(precision, batch, device)
    record = Record() if record is None else record
    end = End(until_loss, math.inf if until_time is None else until_time)
    settings = replace(settings, tolerance=settings.tolerance_until(until_time))
    # Without the books that autograd keeps, calls are cheaper. A user's own problem may need them.
    with (
        few_threads(max(max(shape) for shape in batch.shapes)),
        torch.inference_mode(batch.is_own),
    ):
        together = FlowBatch(batch, states, end, settings, record, callback)
        first_loss = max(run.first_loss for run in together.runs)
        _check_resolved(until_loss, first_loss, is_coarse=precision != dtype)
        with progress_bar("gradient flow", total=1000, show=progress) as bar:
            while len(together.done) < len(batch):
                together.step_all()
                bar.update_to(int(1000 * together.fraction_done()))
    runs = [together.done[b] for b in range(len(batch))]
    warn_unless_reached(runs, "gradient_flow")
    return runs[0] if single else runs


def _check_resolved(until_loss: float | None, first_loss: float, is_coarse: bool) -> None:
    if is_coarse and until_loss is not None and until_loss < 1e-10 * first_loss:
        raise ValueError(
            f"until_loss = {until_loss!r} is less than single precision resolves where the loss "
            f"begins at {first_loss:.3g}; take at least {1e-10 * first_loss:.1g}, or leave "
            "gradient_dtype out"
        )
