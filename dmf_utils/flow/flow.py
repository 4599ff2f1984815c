r"""Gradient flow :math:`\dot W_j = -\partial\varphi/\partial W_j`, followed over a batch.

Each factorization has its own step size, and leaves the batch when it is done.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_utils._support.checks import check_positive
from dmf_utils._support.progress import progress_bar
from dmf_utils._support.threads import few_threads
from dmf_utils.factorization.initialization import Start, gaussian
from dmf_utils.flow.batch import _with_gradients_in, prepare
from dmf_utils.flow.integration import Aim, FlowBatch, Method
from dmf_utils.flow.trajectory import Record, Trajectory, warn_unless_reached
from dmf_utils.problems.base import Problem

__all__ = ["gradient_flow"]

# After a long wait a singular value rises within a thousandth of the time: where a time is asked
# for, the clock counts for more than where a loss is. What is recorded does not change the run.
_TOLERANCE, _OF_TIMES = 2.5e-5, 5e-6


def gradient_flow(
    problem: Problem | Sequence[Problem],
    depth: int = 3,
    start: Start | Sequence[Tensor] | Sequence[Start] = gaussian(norm=1e-2, seed=0),
    until_loss: float | None = 1e-6,
    *,
    until_time: float | None = None,
    hidden: int | None = None,
    tolerance: float | None = None,
    method: Method = "automatic",
    record: Record | None = None,
    max_steps: int = 100_000,
    max_gradients: int = 5_000_000,
    progress: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    gradient_dtype: torch.dtype | None = None,
) -> Trajectory | list[Trajectory]:
    r"""Follow gradient flow on a deep factorization until a loss or a time.

    .. math:: \dot W_j = -\frac{\partial}{\partial W_j} \ell(W_N \cdots W_1), \qquad j = 1 \dots N

    Dormand–Prince 5(4) with step control; where its stability, not its accuracy, limits the step,
    the stabilized method of `chebyshev` takes over as long as it goes farther for an evaluation.
    Where that would take more than 256 stages and the loss is quadratic, as while small modes wait
    beside learned ones, the linearly implicit method of `rosenbrock` does if it costs less.
    The end is located on the step's interpolant: the loss there is `until_loss` to 1 %.

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
    tolerance : float, optional
        Local error of a step relative to the norm of all factors together; by default 2.5e-5, and
        5e-6 where a time is asked for, by `until_time`. The last steps of
        Dormand–Prince, which no later one dampens, are held to 0.3 of it; a step of the stabilized
        method is accepted up to 1.5 times, and the next one is shorter. A step's error is also
        held to a share of the distance that the step moves, so that a mode that is alone in moving
        is followed however small it is. With 5e-6, singular values of the completions that were
        tried (depth 2 to 4) are within 0.5 % of the largest at all times, also while one is learned
        after a long wait; with 1e-4 they may then be some per cent off at depth 4. What rounding
        hides ends as ``Status.unresolved`` or ``Status.step_limit``, and `Trajectory.detail` names
        it.
    method : {"automatic", "dormand-prince"}
        The second never leaves Dormand–Prince, for reference solutions and comparisons.
    record : Record, optional
        What to write down on the way.
    max_steps : int
        Accepted steps after which a run is given up.
    max_gradients : int
        Gradients after which it is given up, at the end of the step that reached them; a Hessian
        times a direction counts as two. A step of the stabilized method takes up to 16384 while
        something waits, so this is what bounds the time. A run whose next motion is known to lie
        beyond them is given up at once, and says so.
    progress : bool
        Whether to show a bar.
    device, dtype
        Where and in which precision to compute. In single precision the step control stalls late.
    gradient_dtype : torch.dtype, optional
        Precision of the gradients and of what a step adds to the state, default `dtype`. With
        ``torch.float32`` an evaluation takes about half the time, while the states, the sums over
        all steps, the end and what is recorded stay in double precision. Rounding is then some
        1e-6 of the ground truth's entries.

    Returns
    -------
    Trajectory, or a list of B
        A list if `problem` or `start` is a sequence of several.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range or shapes that do not fit, before any computing.

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
    if tolerance is None:
        tolerance = _TOLERANCE if until_time is None else _OF_TIMES
    check_positive(tolerance=tolerance, max_steps=max_steps, max_gradients=max_gradients)
    if method not in ("automatic", "dormand-prince"):
        raise ValueError(f'method must be "automatic" or "dormand-prince", got {method!r}')
    batch, states, single = prepare(problem, depth, start, hidden, device, dtype)
    precision = gradient_dtype or dtype
    batch = _with_gradients_in(precision, batch, device, dtype, tolerance)
    record = Record() if record is None else record
    aim = Aim(until_loss, until_time, tolerance, method, max_steps, max_gradients, precision)
    # Without the books that autograd keeps, calls are cheaper. A user's own problem may need them.
    with (
        few_threads(max(max(shape) for shape in batch.shapes)),
        torch.inference_mode(batch.is_own),
    ):
        together = FlowBatch(batch, states, aim, record)
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
