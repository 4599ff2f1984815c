"""Gradient descent on deep factorizations: a constant step, and the authors' normalized step."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from dmf_utils._support.checks import check_positive
from dmf_utils._support.progress import Progress, progress_bar
from dmf_utils._support.threads import few_threads
from dmf_utils.factorization.initialization import Start, gaussian
from dmf_utils.factorization.product import product_matrix
from dmf_utils.flow.batch import Factorizations, prepare
from dmf_utils.flow.curvature import spectral_radius
from dmf_utils.flow.trajectory import Record, Recorder, Status, Trajectory, warn_unless_reached
from dmf_utils.problems.base import Problem

__all__ = ["gradient_descent"]


def gradient_descent(
    problem: Problem | Sequence[Problem],
    depth: int = 3,
    start: Start | Sequence[Tensor] | Sequence[Start] = gaussian(norm=1e-2, seed=0),
    until_loss: float = 1e-6,
    *,
    learning_rate: float,
    normalized: bool = False,
    hidden: int | None = None,
    record: Record | None = None,
    max_steps: int = 1_000_000,
    progress: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Trajectory | list[Trajectory]:
    r"""Gradient descent :math:`W_j \leftarrow W_j - \eta_k\,\partial\varphi/\partial W_j`.

    The constant step has :math:`\eta_k = \eta`, the learning rate. The normalized step of the
    authors' experiments divides it, for all factors together, by an average size of the gradient:

    .. math:: \eta_k = \frac{\eta}{\sqrt{v_k / (1 - 0.99^k)} + 10^{-4}}, \qquad
        v_k = 0.99\, v_{k-1} + 0.01 \sum_j \|\partial\varphi/\partial W_j\|_F^2 .

    Parameters
    ----------
    problem, depth, start, until_loss, hidden, progress
        As for `gradient_flow`.
    device, dtype
        As in its `Settings`.
    learning_rate : float
        :math:`\eta`, positive.
    normalized : bool
        Whether to make the normalized step.
    record : Record, optional
        What to write down. Descent visits separate times: each record is of the first step at or
        after the time asked for, and carries that step's time.
    max_steps : int
        Steps after which a run is given up.

    Returns
    -------
    Trajectory, or a list of them
        Its time is :math:`\sum_k \eta_k`, that of the flow which the steps follow.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range or shapes that do not fit, before any computing.

    Warns
    -----
    RuntimeWarning
        If a run diverges or does not reach `until_loss` within `max_steps`, and if the constant
        step is beyond stability: longer than 2 over the largest curvature where a run ends, so that
        it cannot settle there; `Trajectory.detail` says by how much. For normalized steps, whose
        length grows as the gradient falls, it says so of the last one, without a warning.

    References
    ----------
    The optimizer of the authors' released code.
    """
    check_positive(until_loss=until_loss, learning_rate=learning_rate, max_steps=max_steps)
    batch, states, single = prepare(problem, depth, start, hidden, device, dtype)
    recorders = [Recorder(Record() if record is None else record) for _ in range(len(batch))]
    rule = _Normalized(learning_rate) if normalized else _Constant(learning_rate)
    with (
        few_threads(max(max(shape) for shape in batch.shapes)),
        torch.inference_mode(batch.is_own),
        progress_bar("gradient descent", total=max_steps, show=progress) as bar,
    ):
        runs = _descend(batch, states, rule, recorders, until_loss, max_steps, bar)
    warn_unless_reached(runs, "gradient_descent")
    if not normalized:
        warn_beyond_stability([run.detail for run in runs if run.status is Status.reached])
    return runs[0] if single else runs


class _Constant:
    """The learning rate itself, at every step."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def sizes(self, gradients: Tensor) -> list[float]:
        return [self.learning_rate] * len(gradients)

    def keep(self, kept: list[int]) -> None:
        """Nothing belongs to single runs."""


class _Normalized:
    """The authors' step: the learning rate over a running average of the gradient's size."""

    decay, floor = 0.99, 1e-4

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate, self.steps = learning_rate, 0
        self.averages: list[float] = []

    def sizes(self, gradients: Tensor) -> list[float]:
        squares = torch.linalg.vecdot(gradients, gradients).tolist()
        before = self.averages or [0.0] * len(squares)
        self.averages = [
            self.decay * average + (1 - self.decay) * square
            for average, square in zip(before, squares, strict=True)
        ]
        self.steps += 1
        unbiased = [average / (1 - self.decay**self.steps) for average in self.averages]
        return [self.learning_rate / (math.sqrt(average) + self.floor) for average in unbiased]

    def keep(self, kept: list[int]) -> None:
        """Go on with the averages of the runs that are left."""
        self.averages = [self.averages[i] for i in kept]


def _descend(
    batch: Factorizations,
    states: Tensor,
    rule: _Constant | _Normalized,
    recorders: list[Recorder],
    until_loss: float,
    max_steps: int,
    bar: Progress,
) -> list[Trajectory]:
    """Step all runs until each is done; runs that are done leave the batch."""
    done: dict[int, Trajectory] = {}
    active = list(range(len(batch)))
    times, seconds = [0.0] * len(batch), [0.0] * len(batch)
    last = [rule.learning_rate if isinstance(rule, _Constant) else 0.0] * len(batch)
    part, states, gradients = batch, states.clone(), torch.empty_like(states)
    at, slopes = part.factors(states), part.factors(gradients)  # views, which stay where they are
    for step in range(max_steps + 1):
        begin = time.perf_counter()
        losses = part.gradient_at(at, out=slopes).tolist()
        ended: list[int] = []
        for i, (b, loss) in enumerate(zip(active, losses, strict=True)):
            status = _status(loss, until_loss, step, max_steps)
            # A sum of steps meets the asked time only up to rounding; one step may pass several.
            while status is not Status.diverged and recorders[b].next_time <= (1 + 1e-9) * times[b]:
                with torch.inference_mode(False):
                    factors = [W[i].clone() for W in at]
                    recorders[b].write(loss, product_matrix(factors), factors, times[b])
            if status is not None:
                ended.append(i)
                detail = ""
                if math.isfinite(loss):
                    detail = beyond_stability(
                        part.take([i]), states[i : i + 1], gradients[i : i + 1], last[b]
                    )
                with torch.inference_mode(False):
                    factors = [W[i].clone() for W in at]
                    done[b] = recorders[b].finish(
                        product=product_matrix(factors),
                        factors=factors,
                        loss=loss,
                        time=times[b],
                        status=status,
                        n_gradients=step + 1,
                        n_steps=step,
                        seconds=seconds[b],
                        detail=detail,
                    )
        if len(ended) == len(active):
            break
        sizes = rule.sizes(gradients)
        lengths = torch.tensor(sizes, dtype=states.dtype, device=states.device)
        states.addcmul_(gradients, lengths[:, None], value=-1)
        share = (time.perf_counter() - begin) / len(active)
        for b, size in zip(active, sizes, strict=True):
            times[b] += size
            seconds[b] += share
            last[b] = size
        if ended:
            kept = [i for i in range(len(active)) if i not in ended]
            active = [active[i] for i in kept]
            states, gradients = states[kept], gradients[kept]
            part = batch.take(active)
            at, slopes = part.factors(states), part.factors(gradients)
            rule.keep(kept)
        bar.update_to(step + 1)
    return [done[b] for b in range(len(batch))]


def _status(loss: float, until_loss: float, step: int, max_steps: int) -> Status | None:
    """How a run ends here; None if it goes on."""
    if not math.isfinite(loss):
        return Status.diverged
    if loss <= until_loss:
        return Status.reached
    return Status.step_limit if step >= max_steps else None


def beyond_stability(
    batch: Factorizations,
    state: Tensor,
    gradient: Tensor,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    preconditioner: Tensor | None = None,
) -> str:
    r"""Say by how much a step is beyond stability at one state; empty if it is not.

    Descent settles at a minimum if the learning rate times the largest curvature, with weight decay
    :math:`\kappa` in it, is below :math:`2 (1 + \mu)`, with momentum :math:`\mu`. The curvature is
    seen from below, so that nothing is said of a step that is just stable.

    Adam divides the running mean of its gradients, with weight :math:`\mu` on the past, by a
    diagonal :math:`P`: then it is the largest curvature of
    :math:`P^{-1} (\nabla^2 \varphi + \kappa I)` that counts, and the limit is
    :math:`2 (1 + \mu) / (1 - \mu)`, with :math:`\mu = 0.9` a learning rate times curvature of 38.

    Parameters
    ----------
    batch : Factorizations
        Of one factorization.
    state, gradient : Tensor, shape (1, P)
    learning_rate, momentum, weight_decay : float
    preconditioner : Tensor, shape (1, P), optional
        The positive diagonal of :math:`P`.

    References
    ----------
    J. Cohen et al., *Adaptive Gradient Methods at the Edge of Stability*, arXiv 2207.14484 (2022).
    """
    direction = gradient + 1e-3 * torch.linalg.vector_norm(gradient) * torch.ones_like(state)
    if not bool((direction != 0).any()):
        direction = torch.ones_like(state)
    # Along the curvature only: what is negative there makes no step unstable.
    scale, limit, kind = None, 2 * (1 + momentum), "curvature"
    if preconditioner is not None:
        scale, limit, kind = (
            preconditioner.rsqrt(),
            limit / (1 - momentum),
            "curvature preconditioned by Adam",
        )
    curvature, _, _ = spectral_radius(
        batch, state, gradient, direction, 1e-4, 200, scale, weight_decay
    )
    reached = learning_rate * curvature
    if not math.isfinite(reached) or reached <= limit:
        return ""
    return (
        f"learning rate × largest {kind} is {reached:.3g} at the end, "
        f"beyond {limit:.3g}, the limit of stability"
    )


def warn_beyond_stability(details: Sequence[str]) -> None:
    """Warn once if any run that reached its loss did so with a step beyond stability."""
    found = [detail for detail in details if detail]
    if found:
        warnings.warn(
            f"{len(found)} runs reached their loss, but could not settle there: {found[0]}; lower "
            "learning_rate if the run is to follow the flow",
            RuntimeWarning,
            stacklevel=3,
        )
