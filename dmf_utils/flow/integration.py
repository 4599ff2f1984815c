"""The runs of a batch on their way: their steps together, their ends and records."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dmf_utils.factorization.product import product_matrix
from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.chebyshev import (
    chebyshev_stages,
    chebyshev_step,
    longest_chebyshev_step,
    spectral_radius,
)
from dmf_utils.flow.dormand_prince import dormand_prince_step
from dmf_utils.flow.step import Step, Workspace
from dmf_utils.flow.step_size import StepControl, tolerated_error
from dmf_utils.flow.trajectory import Record, Recorder, Status, Trajectory
from dmf_utils.flow.waiting import broken_law, lowest_level, smallest_resolved_loss, what_waits

__all__ = ["Aim", "FlowBatch", "Method"]

_STILL_ACCEPTED = 1.5  # times the tolerance, of a Chebyshev step: to try again costs more
_LOOK_AFTER = 10  # steps that moved nothing, whether anything waits
_ROUNDED = 1e-3  # of the smallest mode of a start: what coarse gradients may round off

Method = Literal["automatic", "dormand-prince"]


@dataclass(frozen=True)
class Aim:
    """What all runs of a batch have in common."""

    until_loss: float | None
    until_time: float | None
    tolerance: float
    method: Method
    max_steps: int
    max_gradients: int
    gradient_dtype: torch.dtype

    @property
    def end_time(self) -> float:
        return math.inf if self.until_time is None else self.until_time

    def is_reached(self, loss: float) -> bool:
        return self.until_loss is not None and loss <= self.until_loss


class FlowBatch:
    """All runs, their states, and the steps they make together."""

    def __init__(self, batch: Factorizations, states: Tensor, aim: Aim, record: Record) -> None:
        self.batch, self.aim = batch, aim
        gradients = torch.empty_like(states)
        losses = batch.gradient(states, out=gradients).tolist()
        self.states = list(states.unbind())  # never written to: a step replaces its run's state
        self.gradients = list(gradients.to(aim.gradient_dtype).unbind())
        self.workspace = self._workspace(aim.gradient_dtype)
        sizes = torch.linalg.vector_norm(states, dim=1)
        slopes = torch.linalg.vector_norm(gradients, dim=1)
        # At depth 1 the zero matrix is a start like any other: some small length is taken for it.
        lengths = 0.01 * torch.where(sizes > 0, sizes, 1e-4)
        first_steps = torch.where(slopes > 0, lengths / slopes, math.inf).tolist()
        self.runs = [
            StepControl(loss, first, Recorder(record))
            for loss, first in zip(losses, first_steps, strict=True)
        ]
        self.origins = list(self.states)
        self.levels = [0.0] * len(states)  # what waits: looked for where rounding may hide it
        if aim.gradient_dtype != states.dtype and len(batch.shapes) > 1:
            self.levels = [lowest_level(self._factors(state)) for state in self.states]
        self.fine_workspace: Workspace | None = None
        self.taken: dict[tuple[int, ...], Factorizations] = {}
        self.done: dict[int, Trajectory] = {}
        for b, run in enumerate(self.runs):
            if not math.isfinite(run.loss):
                self._finish(b, Status.diverged, states[b])
                continue
            if run.recorder.next_time == 0:
                self._record(b, states[b])
            if aim.is_reached(run.loss):
                self._finish(b, Status.reached, states[b])
            elif math.isinf(run.step):  # the gradient vanishes: nothing will ever move
                self._stand_still(b)

    def step_all(self) -> None:
        """One step of every run that is not done: one group for each method and precision."""
        active = [b for b in range(len(self.runs)) if b not in self.done]
        stiff = [b for b in active if self.runs[b].is_stiff]
        smooth = [b for b in active if not self.runs[b].is_stiff]
        stages = {b: self._stages(b) for b in stiff}
        stiff.sort(key=lambda b: -stages[b])
        fine = {b for b in active if self._must_be_fine(b)}
        if fine and self.fine_workspace is None:
            self.fine_workspace = self._workspace(self.states[0].dtype)
        for group in (smooth, stiff):
            for is_fine in (False, True):
                chosen = [b for b in group if (b in fine) == is_fine]
                workspace = self.fine_workspace if is_fine else self.workspace
                if chosen:
                    self._step(
                        chosen,
                        [stages[b] for b in chosen] if chosen[0] in stages else None,
                        workspace,
                    )

    def _workspace(self, dtype: torch.dtype) -> Workspace:
        room = len(self.states), 9, *self.states[0].shape
        return Workspace(self.batch, self.states[0].new_zeros(room, dtype=dtype))

    def _step(self, group: list[int], stages: list[int] | None, workspace: Workspace) -> None:
        """One step of the runs in `group`, by Chebyshev's method if `stages` are given."""
        begin = time.perf_counter()
        h = [min(self.runs[b].step, self.aim.end_time - self.runs[b].time) for b in group]
        states, gradients = [self.states[b] for b in group], [self.gradients[b] for b in group]
        origin = self._taken(group), states, gradients, h
        if stages is None:
            step = dormand_prince_step(*origin, workspace)
        else:
            expected = [self.runs[b].expected(size) for b, size in zip(group, h, strict=True)]
            step = chebyshev_step(*origin, stages, workspace, expected)
        for i, b in enumerate(group):
            self.runs[b].n_gradients += step.evaluations[i]
            tolerated = tolerated_error(
                self.aim.tolerance,
                max(step.sizes[i], 1e-300),
                step.moves[i],
                stages=None if stages is None else stages[i],
                is_faster=step.speeds[i] > self.runs[b].speed,
                is_last=stages is None and self.aim.is_reached(0.01 * step.losses[i]),
            )
            self.runs[b].tolerated = tolerated / max(step.sizes[i], 1e-300)
            self._settle(b, step, i, h[i], step.errors[i] / tolerated)
        share = (time.perf_counter() - begin) / len(group)
        for b in group:
            self.runs[b].seconds += share

    def _taken(self, group: list[int]) -> Factorizations:
        """The factorizations of a group; kept, as most steps ask for the same."""
        key = tuple(group)
        if key not in self.taken:
            if len(self.taken) > 2 * len(self.runs):
                self.taken.clear()
            self.taken[key] = self.batch.take(group)
        return self.taken[key]

    def _must_be_fine(self, b: int) -> bool:
        """Whether what single precision rounds off would pass for an error, or for a mode."""
        run, state = self.runs[b], self.states[b]
        eps = torch.finfo(self.aim.gradient_dtype).eps
        if self.aim.gradient_dtype == state.dtype or run.is_fine:
            return run.is_fine
        if 0 < _ROUNDED * self.levels[b] < eps * float(torch.linalg.vector_norm(state)):
            # From here on, all gradients: what one of them rounds off would stay in the state.
            run.is_fine, exact = True, torch.empty_like(state)[None]
            self._taken([b]).gradient(state[None], out=exact)
            self.gradients[b], run.n_gradients = exact[0], run.n_gradients + 1
            return True
        noise = eps * (run.step * run.curvature if run.is_stiff else 3.3)
        return noise > run.tolerated

    def _stages(self, b: int) -> int:
        """Stages of the Chebyshev step of run `b`; its curvature is estimated anew when old."""
        run, begin = self.runs[b], time.perf_counter()
        if run.curvature is None or run.curvature_age >= 20:
            seen, run.direction, n = spectral_radius(
                self._taken([b]),
                self.states[b][None].to(self.gradients[b].dtype),
                self.gradients[b][None],
                run.direction.view(1, -1).to(self.gradients[b].dtype),
                max_iterations=20 if run.curvature is None else 4,
            )
            run.curvature, run.curvature_age = 1.1 * seen, 0  # seen from below
            run.n_gradients += n
        run.step = min(run.step, longest_chebyshev_step(run.curvature))
        run.seconds += time.perf_counter() - begin
        h = min(run.step, self.aim.end_time - run.time)
        stages = chebyshev_stages(h, run.curvature)
        if stages > 2:
            shorter = longest_chebyshev_step(run.curvature, stages - 1)
            if shorter / (stages - 1) > h / stages:  # goes farther for a gradient
                run.step, stages = shorter, stages - 1
        return stages

    def _settle(self, b: int, step: Step, i: int, h: float, error: float) -> None:
        """Accept or reject the step that run `b` tried."""
        run, loss = self.runs[b], step.losses[i]
        if not (math.isfinite(loss) and error <= (_STILL_ACCEPTED if run.is_stiff else 1)):
            return self._reject(b, h, error if math.isfinite(loss) else math.inf)
        theta, left = 1.0, self.aim.end_time - run.time
        # The last step ends at the asked time itself; any other when its error says that it does,
        # unless that is rounding.
        rounding = 1e-15 * step.evaluations[i] * step.sizes[i]
        delay = step.delays[i] if h < left and step.errors[i] > rounding else 0.0
        span = (left if h >= left else h) - max(-0.3 * h, min(0.3 * h, delay))
        if self.aim.is_reached(loss) and step.gradients.dtype != self.states[b].dtype:
            loss = float(self._taken([b]).loss(step.states[i][None]))
        if self.aim.is_reached(loss):
            theta = self._locate(b, lambda at: step.interpolate(i, at), loss)
        to_the_end = theta * span >= left
        theta = min(theta, left / span)
        end = self.aim.end_time if to_the_end else run.time + theta * span
        while run.recorder.next_time <= end:
            at = (run.recorder.next_time - run.time) / span
            self._record(b, step.interpolate(i, at))
        state = step.states[i] if theta == 1 else step.interpolate(i, theta)
        run.n_steps += 1
        run.time, run.loss = end, loss
        if theta < 1:
            run.loss = float(self._taken([b]).loss(state[None]))
        if self.aim.is_reached(loss) or to_the_end:
            return self._finish(b, Status.reached, state)
        if run.n_steps >= self.aim.max_steps or run.n_gradients >= self.aim.max_gradients:
            return self._finish(b, Status.step_limit, state)
        # Rounding alone moves by more the more stages there are.
        is_still = step.moves[i] < 1e-13 * max(1.0, 0.1 * step.evaluations[i]) * step.sizes[i]
        run.still_steps = run.still_steps + 1 if is_still else 0
        run.step, run.speed = h, step.speeds[i]
        run.next_step(error, accepted=True)
        run.longest = run.longest if is_still else math.inf
        run.step = min(run.step, run.longest)
        seen = None if step.curvatures is None else step.curvatures[i]
        if self.aim.method == "automatic":
            run.choose_method(h, seen, step.states[i] if seen is None else step.directions[i])
        if run.is_stiff:
            run.remember(step.missed(i), h)
        self.states[b] = state
        self.gradients[b].copy_(step.gradients[i])
        return self._look_for_what_waits(b) if run.still_steps >= _LOOK_AFTER else None

    def _reject(self, b: int, h: float, error: float) -> None:
        run = self.runs[b]
        run.step = h
        run.next_step(error, accepted=False)
        run.curvature_age = 20
        if run.step <= 1e-15 * run.time or run.step < 1e-290:
            status = Status.stalled if math.isfinite(error) else Status.diverged
            self._finish(b, status, self.states[b])

    def _look_for_what_waits(self, b: int) -> None:
        """End a run that is seen at rest if nothing can move before its end; else let it go on."""
        run, left = self.runs[b], self.aim.end_time - self.runs[b].time
        factors = [W.to(torch.float64) for W in self._factors(self.states[b])]
        waiting = what_waits(self._taken([b]).problem, factors, run.speed)
        if waiting.time >= left:
            return self._stand_still(b)
        if not waiting.is_resolved:
            run.detail = (
                f"from time {run.time:.3g} on, what waits at a saddle is smaller than rounding"
            )
        # Where the steps that are left do not reach to the next motion, they are not made.
        # They are no longer than what waits allows, whose own motion rounding hides.
        run.longest = 0.15 / max(waiting.rate, 1e-300)
        stable = run.step if run.curvature is None else longest_chebyshev_step(run.curvature)
        longest = min(max(stable, run.step), run.longest)
        steps = min(waiting.time, left) / longest
        each = 6 if run.curvature is None else chebyshev_stages(longest, run.curvature)
        too_many_steps = steps > self.aim.max_steps - run.n_steps
        if too_many_steps or steps * each > self.aim.max_gradients - run.n_gradients:
            later = run.time + min(waiting.time, left)
            what = "steps" if too_many_steps else "gradients"
            run.detail = f"nothing moves before time {later:.3g}, and the {what} left end sooner"
            return self._finish(b, Status.step_limit, self.states[b])
        run.step, run.still_steps = min(run.step, run.longest), -5 * _LOOK_AFTER
        return None

    def _locate(self, b: int, at: Callable[[float], Tensor], end_loss: float) -> float:
        """The fraction of the step at which the loss is the asked one."""
        alone, aim = self._taken([b]), math.log(self.aim.until_loss)
        low, above = 0.0, math.log(self.runs[b].loss) - aim
        high, below = 1.0, math.log(max(end_loss, 1e-300)) - aim
        theta, miss = high, below
        while abs(miss) > 1e-5 and high - low > 1e-12:
            # The logarithm of the loss is nearly linear; the clamp bisects where it is not.
            share = min(0.9, max(0.1, above / (above - below)))
            theta = low + share * (high - low)
            miss = math.log(max(float(alone.loss(at(theta)[None])), 1e-300)) - aim
            if miss > 0:
                low, above = theta, miss
            else:
                high, below = theta, miss
        return theta

    def _record(self, b: int, state: Tensor) -> None:
        loss = float(self._taken([b]).loss(state[None]))
        with torch.inference_mode(False):
            factors = self._factors(state)
            self.runs[b].recorder.write(loss, product_matrix(factors), factors)

    def _factors(self, state: Tensor) -> list[Tensor]:
        """Factors of one run, that may be kept, and used with autograd."""
        return [W[0].clone() for W in self.batch.factors(state[None])]

    def _stand_still(self, b: int) -> None:
        """End a run that cannot move: it is at every later time where it is now."""
        run = self.runs[b]
        if self.aim.until_time is None:
            return self._finish(b, Status.stalled, self.states[b])
        while run.recorder.next_time <= self.aim.end_time:
            self._record(b, self.states[b])
        run.time = self.aim.end_time
        return self._finish(b, Status.reached, self.states[b])

    def _finish(self, b: int, status: Status, state: Tensor) -> None:
        run = self.runs[b]
        with torch.inference_mode(False):
            factors = self._factors(state)
            product = product_matrix(factors)
            is_reached = status is Status.reached
            detail = self._what_is_wrong(b, factors, product) if is_reached else run.detail
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
        run, aim = self.runs[b], self.aim
        if run.detail or run.n_steps == 0:
            return run.detail
        if aim.is_reached(run.loss) and product.dtype == torch.float64:
            least = smallest_resolved_loss(self._taken([b]).problem, product, len(factors))
            if run.loss < least:
                return f"the smallest loss whose time can be told from rounding is {least:.1e}"
        return broken_law(self._factors(self.origins[b]), factors, aim.tolerance)

    def fraction_done(self) -> float:
        """A rough share of the way, for the progress bar."""
        shares = []
        for b, run in enumerate(self.runs):
            of_time = run.time / self.aim.end_time
            of_loss = 0.0
            if self.aim.until_loss is not None and run.loss > self.aim.until_loss:
                whole = math.log(run.first_loss / self.aim.until_loss)
                of_loss = max(0.0, math.log(run.first_loss / run.loss) / whole)
            shares.append(1.0 if b in self.done else max(of_time, of_loss))
        return sum(shares) / len(shares)
