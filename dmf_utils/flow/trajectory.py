"""The one result type of flow and descent, how a run ends, and what it records."""

from __future__ import annotations

import enum
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dmf_utils._support.threads import few_threads

__all__ = ["Record", "Status", "Trajectory"]


class Status(enum.Enum):
    """How a run ended."""

    reached = "reached"  #: the asked loss or time, or its callback ended it
    step_limit = "step limit"  #: max_steps or max_gradients were made first
    diverged = "diverged"  #: NaN or infinite numbers
    stalled = "stalled"  #: the step fell below rounding, or nothing can move any more
    unresolved = "unresolved"  #: the end came, but rounding or a broken law of the flow led there


_REMEDY = {
    Status.step_limit: "raise max_steps or max_gradients, or ask for a larger until_loss",
    Status.diverged: "lower the learning rate, or look at the data's scale",
    Status.stalled: "ask for a larger until_loss, or stop at until_time: rounding allows no "
    "further descent from here",
    Status.unresolved: "lower the tolerance, take gradients in double precision, or begin from a "
    "larger start",
}


@dataclass(frozen=True)
class Record:
    """What a run writes down on its way, and when.

    Parameters
    ----------
    times : sequence of float
        Times, increasing, in the run's unit of time: that of the flow, or for descent
        learning rate × steps. Those after the run's end are left out.
    singular_values : int
        How many leading singular values of the product matrix to keep; default 0.
    measures : mapping from name to function, optional
        Each function takes the product matrix ``(d, d')`` and returns a number or a tensor, which
        is stacked over times into ``Trajectory.measured[name]``.
    factors : bool
        Whether to keep all factors at each time, as ``Trajectory.recorded_factors``.
    """

    times: Sequence[float] = ()
    singular_values: int = 0
    measures: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    factors: bool = False

    def __post_init__(self) -> None:
        if self.times is None or isinstance(self.times, str):
            raise TypeError(f"times must be a sequence of numbers, got {self.times!r}")
        times = [float(t) for t in self.times]
        if any(not math.isfinite(t) or t < 0 for t in times) or times != sorted(times):
            raise ValueError("times must be finite, at least 0 and increasing; sort them")
        if isinstance(self.singular_values, bool) or not isinstance(self.singular_values, int):
            raise TypeError(f"singular_values must be an integer, got {self.singular_values!r}")
        if self.singular_values < 0:
            raise ValueError(f"singular_values must be at least 0, got {self.singular_values!r}")
        for name, measure in self.measures.items():
            if not callable(measure):
                raise TypeError(f"measures[{name!r}] must be a function of W, got {measure!r}")
        object.__setattr__(self, "times", tuple(times))


@dataclass(frozen=True)
class Trajectory:
    r"""What a run of flow or descent did.

    Attributes
    ----------
    product : Tensor, shape (d, d')
        Product matrix at the end.
    factors : list of Tensor
        Factors ``[W_1, ..., W_N]`` at the end.
    loss : float
        Loss at the end.
    time : float
        Time of the end: of the flow, or learning rate × steps.
    status : Status
    n_gradients : int
        Gradient evaluations, rejected steps included.
    n_steps : int
        Accepted steps.
    seconds : float
        This run's share of the wall time of its batch.
    times, losses : Tensor, shape (T,)
        Recorded times and the loss there.
    singular_values : Tensor, shape (T, k)
        Leading singular values of the product matrix at `times`, descending.
    measured : dict of Tensor, shape (T, ...)
        What `Record.measures` asked for.
    recorded_factors : list of list of Tensor
        Factors at `times`, if asked for.
    detail : str
        What the status names: the law that broke, what rounding hides, or a step beyond stability.
    """

    product: Tensor
    factors: list[Tensor]
    loss: float
    time: float
    status: Status
    n_gradients: int
    n_steps: int
    seconds: float
    times: Tensor
    losses: Tensor
    singular_values: Tensor
    measured: dict[str, Tensor]
    recorded_factors: list[list[Tensor]]
    detail: str = ""

    @property
    def depth(self) -> int:
        """Number of factors N."""
        return len(self.factors)

    def __repr__(self) -> str:
        d, d_prime = self.product.shape
        return (
            f"Trajectory({self.status.value}: depth {self.depth}, {d}×{d_prime}, "
            f"loss {self.loss:.3g} at time {self.time:.6g}, "
            f"{self.n_gradients} gradients in {self.seconds:.3g} s)"
        )


class Recorder:
    """Collects what a `Record` asks for, for one run."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.times: list[float] = []
        self.losses: list[float] = []
        self.singular_values: list[Tensor] = []
        self.measured: dict[str, list[Tensor]] = {name: [] for name in record.measures}
        self.factors: list[list[Tensor]] = []

    @property
    def next_time(self) -> float:
        """The earliest time that is still to be recorded; infinite when none is left."""
        done = len(self.times)
        return self.record.times[done] if done < len(self.record.times) else math.inf

    def write(
        self, loss: float, product: Tensor, factors: list[Tensor], time: float | None = None
    ) -> None:
        """Record the state at `next_time`, or at a later `time` that stands for it."""
        self.times.append(self.next_time if time is None else time)
        self.losses.append(loss)
        if self.record.singular_values:
            self.singular_values.append(
                leading_singular_values(product, self.record.singular_values)
            )
        for name, measure in self.record.measures.items():
            # Copied: at depth 1 the product matrix is the state itself, which the run overwrites.
            self.measured[name].append(torch.as_tensor(measure(product)).clone())
        if self.record.factors:
            self.factors.append([W.clone() for W in factors])

    def finish(self, product: Tensor, **of_the_run: object) -> Trajectory:
        """The run's `Trajectory`."""
        empty = torch.empty(0, dtype=torch.float64)
        count = min(self.record.singular_values, *product.shape)
        return Trajectory(
            product=product,
            times=torch.tensor(self.times, dtype=torch.float64),
            losses=torch.tensor(self.losses, dtype=torch.float64),
            singular_values=(
                torch.stack(self.singular_values)
                if self.singular_values
                else empty.new_empty((len(self.times), count))
            ),
            measured={
                name: torch.stack(found) if found else empty
                for name, found in self.measured.items()
            },
            recorded_factors=self.factors,
            **of_the_run,
        )


def leading_singular_values(W: Tensor, count: int) -> Tensor:
    r"""The `count` largest singular values of one matrix, descending.

    By a full decomposition without vectors. On 943×1682 matrices on their way, whose values below
    the first few lie close together, ARPACK was measured to take eight times as long for ten.
    """
    tall = W if W.shape[0] >= W.shape[1] else W.mT
    # The triangular factor has the same singular values, and is square.
    with few_threads(1):  # a decomposition gains little from more, and loses all on a busy machine
        square = torch.linalg.qr(tall, mode="r").R
        return torch.linalg.svdvals(square)[:count]


def warn_unless_reached(runs: Sequence[Trajectory], of: str) -> None:
    """One warning for every way, other than success, in which runs of a batch ended."""
    for status, remedy in _REMEDY.items():
        ended = [run for run in runs if run.status is status]
        if ended:
            worst = max(run.loss for run in ended)
            named = next((f": {run.detail}" for run in ended if run.detail), "")
            warnings.warn(
                f"{of}: {len(ended)} of {len(runs)} runs ended with status "
                f"'{status.value}' (largest loss {worst:.3g}){named}; {remedy}",
                RuntimeWarning,
                stacklevel=3,
            )
