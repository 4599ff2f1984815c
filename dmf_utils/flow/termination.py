"""How the runs of a batch end: what was asked of them, their records, their status and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmf_utils._support.blas import multiply
from dmf_utils.factorization.product import product_matrix
from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.chebyshev import MOST_STAGES, chebyshev_stages, longest_chebyshev_step
from dmf_utils.flow.resting import may_rest, will_rest
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.step_size import StepControl
from dmf_utils.flow.trajectory import Status, Trajectory
from dmf_utils.flow.waiting import Waiting, broken_law, smallest_resolved_loss, what_waits

__all__ = ["LOOK_AFTER", "End", "Termination"]

LOOK_AFTER = 10  # steps that rounding hides, whether anything waits
_OF_A_RATE = 0.15  # over it: the longest step while rounding hides what grows so
_OF_A_RESTING_STEP = 50  # gradients, at least
_ROUNDED_OFF = 0.05  # of what waits: more than may be


@dataclass(frozen=True)
class End:
    """Where all runs of a batch end: at a loss, or else at a time, which may be infinite."""

    loss: float | None
    time: float

    def is_reached(self, loss: float) -> bool:
        """Whether a run with this loss has come to its end."""
        return self.loss is not None and loss <= self.loss


class Termination:
    """Records on the way, and the `Trajectory` of every run that has ended.

    Parameters
    ----------
    batch : Factorizations
    end : End
    settings : Settings
    runs : sequence of B StepControl
    origins : sequence of B Tensor, shape (P,)
        Where the runs begin.
    """

    def __init__(
        self,
        batch: Factorizations,
        end: End,
        settings: Settings,
        runs: Sequence[StepControl],
        origins: Sequence[Tensor],
    ) -> None:
        self.batch, self.end, self.settings = batch, end, settings
        self.runs, self.origins = runs, list(origins)
        self.done: dict[int, Trajectory] = {}
        self._alone: dict[int, Factorizations] = {}

    def alone(self, b: int) -> Factorizations:
        """The factorization of one run; kept, as its problem is a view."""
        if b not in self._alone:
            self._alone[b] = self.batch.take([b])
        return self._alone[b]

    def factors(self, state: Tensor) -> list[Tensor]:
        """Factors of one run, that may be kept, and used with autograd."""
        return [W[0].clone() for W in self.batch.factors(state[None])]

    def record(self, b: int, state: Tensor) -> None:
        """Write down what is asked for at the run's next time of recording."""
        with torch.inference_mode(False):
            factors = self.factors(state)
            product = product_matrix(factors, multiply)
        loss = float(self.alone(b).loss_of_product(product[None]))
        with torch.inference_mode(False):
            self.runs[b].recorder.write(loss, product, factors)

    def waiting(self, b: int, state: Tensor) -> Waiting:
        """What waits in the state of a run."""
        factors = [W.to(torch.float64) for W in self.factors(state)]
        return what_waits(self.alone(b).problem, factors, self.runs[b].speed)

    def look_for_what_waits(self, b: int, state: Tensor) -> None:
        """End a run that nothing can move before its end, or that cannot get to the next motion.

        Else it goes on; where rounding hides the motion, by steps that what waits allows.
        """
        run, left = self.runs[b], self.end.time - self.runs[b].time
        run.still_steps, run.next_look = 0, max(run.next_look, 2 * run.n_gradients)
        waiting = self.waiting(b, state)
        if run.is_still and waiting.time >= left:
            why = f"nothing can move any more after time {run.time:.3g}"
            return self.stand_still(b, state, why)
        for ahead, what in ((waiting.time, "moves"), (waiting.doubling, "that waits doubles")):
            lacking = self._what_is_lacking(b, min(ahead, left), waiting)
            if lacking:
                before = f"nothing {what} before time {run.time + min(ahead, left):.3g}"
                run.detail = f"{before}, and the {lacking} left end sooner"
                return self.finish(b, Status.step_limit, state)
        if run.is_hidden and waiting.time < left:
            run.longest = _OF_A_RATE / max(waiting.rate, 1e-300)
            run.step, run.still_steps = min(run.step, run.longest), -5 * LOOK_AFTER
            # What every step rounds off adds up while what waits grows e-fold.
            # Linearly implicit steps round in bases in which nothing large stands beside it.
            step = run.longest if will_rest(run, self.alone(b), state) else run.step
            steps = max(1.0, 0.1 / max(waiting.rate * step, 1e-300))
            if waiting.rounding * math.sqrt(steps) > _ROUNDED_OFF:
                run.detail = (
                    f"from time {run.time:.3g} on, what waits at a saddle is smaller than rounding"
                )
        return None

    def _what_is_lacking(self, b: int, ahead: float, waiting: Waiting) -> str:
        """Whether "steps" or "gradients" do not reach to a motion so far `ahead`; else empty."""
        run, settings = self.runs[b], self.settings
        if not run.is_still:
            if self.end.loss is None:
                return ""  # what moves yet comes to rest, perhaps long before the steps are used up
            # What is learned may yet bring the loss down as asked: at most at the present speed.
            if run.speed**2 * ahead > 0.5 * (run.loss - self.end.loss):
                return ""
        longest, each = run.step, 6
        if run.curvature is not None:
            longest = max(longest, longest_chebyshev_step(run.curvature, MOST_STAGES))
        longest = min(longest, _OF_A_RATE / max(waiting.rate, 1e-300))
        if may_rest(self.alone(b), self.origins[b]):
            longest, each = _OF_A_RATE / max(waiting.rate, 1e-300), _OF_A_RESTING_STEP
        elif run.curvature is not None:
            each = chebyshev_stages(longest, run.curvature)
        steps = ahead / longest / (1.0 if run.is_still else 2.0)
        if steps > settings.max_steps - run.n_steps:
            return "steps"
        return "gradients" if steps * each > settings.max_gradients - run.n_gradients else ""

    def stand_still(self, b: int, state: Tensor, why: str) -> None:
        """End a run that cannot move: it is at every later time where it is now."""
        run = self.runs[b]
        if math.isinf(self.end.time):
            # At rest by rounding alone, below what was resolved on the way.
            run.detail = run.detail or self._is_unresolved(b, product_matrix(self.factors(state)))
            status = Status.unresolved if run.detail else Status.stalled
            return self.finish(b, status, state, "" if run.detail else f"{why}; {self._loss(b)}")
        while run.recorder.next_time <= self.end.time:
            self.record(b, state)
        run.time = self.end.time
        return self.finish(b, Status.reached, state)

    def stop_at_limit(self, b: int, state: Tensor) -> None:
        """End a run that has made all its steps or gradients, and say what it was about."""
        run, settings, waiting = self.runs[b], self.settings, self.waiting(b, state)
        limit, most = ("max_gradients", settings.max_gradients)
        if run.n_steps >= settings.max_steps:
            limit, most = "max_steps", settings.max_steps
        size = max(float(torch.linalg.vector_norm(state)), 1e-300)
        going_on = f"the factors still move by {run.speed / size:.1e} of their size in unit time"
        if 0 < waiting.time < math.inf:
            later = run.time + waiting.time
            going_on += f", and what waits is not visible before time {later:.3g}"
        ends = [] if math.isinf(self.end.time) else [f"time {self.end.time:.3g} was asked"]
        ends += [] if self.end.loss is None else [self._loss(b)]
        why = f"{limit} = {most} were made by time {run.time:.3g}: {'; '.join([going_on, *ends])}"
        self.finish(b, Status.step_limit, state, why)

    def finish(self, b: int, status: Status, state: Tensor, why: str = "") -> None:
        """Keep the `Trajectory` of a run that ends here.

        Parameters
        ----------
        b : int
        status : Status
            A run that is `reached`, though its law broke or rounding led it, is `unresolved`.
        state : Tensor, shape (P,)
        why : str
            What `Trajectory.detail` says of any other status, before what rounding did.
        """
        run = self.runs[b]
        with torch.inference_mode(False):
            factors = self.factors(state)
            product = product_matrix(factors, multiply)
            is_reached = status is Status.reached
            detail = "; ".join(part for part in (why, run.detail) if part)
            if is_reached:
                detail = self._what_is_wrong(b, factors, product)
            self.done[b] = run.recorder.finish(
                product=product,
                factors=factors,
                loss=run.loss,
                time=run.time,
                status=Status.unresolved if is_reached and detail else status,
                n_gradients=run.n_gradients,
                n_steps=run.n_steps,
                seconds=run.seconds,
                detail=detail,
            )

    def _what_is_wrong(self, b: int, factors: list[Tensor], product: Tensor) -> str:
        """Why a run that came to its end is not what was asked for; empty if it is."""
        run = self.runs[b]
        if run.detail or run.n_steps == 0:
            return run.detail
        unresolved = self._is_unresolved(b, product) if self.end.is_reached(run.loss) else ""
        return unresolved or broken_law(
            self.factors(self.origins[b]), factors, self.settings.tolerance
        )

    def _is_unresolved(self, b: int, product: Tensor) -> str:
        """Say which loss can be resolved, if that of a run is less; empty if it is not."""
        if product.dtype != torch.float64:
            return ""
        least = smallest_resolved_loss(self.alone(b).problem, product, len(self.batch.shapes))
        if self.runs[b].loss >= least:
            return ""
        return f"the smallest loss whose time can be told from rounding is {least:.1e}"

    def _loss(self, b: int) -> str:
        asked = "" if self.end.loss is None else f" where {self.end.loss:.3g} was asked"
        return f"the loss is {self.runs[b].loss:.3g}{asked}"

    def fraction_done(self) -> float:
        """A rough share of the way, for the progress bar."""
        shares = []
        for b, run in enumerate(self.runs):
            of_time = run.time / self.end.time
            of_loss = 0.0
            if self.end.loss is not None and run.loss > self.end.loss:
                whole = math.log(run.first_loss / self.end.loss)
                of_loss = max(0.0, math.log(run.first_loss / run.loss) / whole)
            shares.append(1.0 if b in self.done else max(of_time, of_loss))
        return sum(shares) / len(shares)
