"""The runs of a batch on their way: the steps that they make together."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from dmf_utils.flow.batch import Factorizations, runs_together
from dmf_utils.flow.callback import Callback, Caller
from dmf_utils.flow.chebyshev import (
    MAX_STAGES,
    MOST_STAGES,
    chebyshev_stages,
    chebyshev_step,
    fewer_stages,
    longest_chebyshev_step,
)
from dmf_utils.flow.curvature import spectral_radius
from dmf_utils.flow.dormand_prince import dormand_prince_step
from dmf_utils.flow.reduction import ReducedStages, may_be_reduced
from dmf_utils.flow.resting import rests
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.step import Step, Workspace
from dmf_utils.flow.step_size import StepControl, is_hidden, tolerated_error
from dmf_utils.flow.termination import LOOK_AFTER, End, Termination
from dmf_utils.flow.trajectory import Record, Recorder, Status, Trajectory
from dmf_utils.flow.waiting import lowest_level

__all__ = ["FlowBatch"]

_STILL_ACCEPTED = 1.5  # times the tolerance, of a Chebyshev step: to try again costs more
_ROUNDED = 1e-3  # of the smallest mode of a start: what coarse gradients may round off


class FlowBatch:
    """All runs, their states, and the steps they make together."""

    def __init__(
        self,
        batch: Factorizations,
        states: Tensor,
        end: End,
        settings: Settings,
        record: Record,
        callback: Callback | None = None,
    ) -> None:
        self.batch, self.end, self.settings = batch, end, settings
        self.caller = Caller(callback)
        precision = settings.gradients_in
        gradients = torch.empty_like(states)
        losses = batch.gradient(states, out=gradients).tolist()
        self.states = list(states.unbind())  # never written to: a step replaces its run's state
        self.gradients = list(gradients.to(precision).unbind())
        self.together = runs_together(batch, states, precision)
        self.workspace = self._workspace(precision)
        sizes = torch.linalg.vector_norm(states, dim=1)
        slopes = torch.linalg.vector_norm(gradients, dim=1)
        # At depth 1 the zero matrix is a start like any other: some small length is taken for it.
        lengths = 0.01 * torch.where(sizes > 0, sizes, 1e-4)
        first_steps = torch.where(slopes > 0, lengths / slopes, math.inf).tolist()
        self.runs = [
            StepControl(loss, first, Recorder(record))
            for loss, first in zip(losses, first_steps, strict=True)
        ]
        self.termination = Termination(batch, end, settings, self.runs, self.states)
        self.levels = [0.0] * len(states)  # what waits: looked for where rounding may hide it
        if precision != states.dtype and len(batch.shapes) > 1:
            self.levels = [lowest_level(self.termination.factors(state)) for state in self.states]
        self.reduced: list[ReducedStages] = []  # of every run, if they may be reduced
        if may_be_reduced(batch):
            self.reduced = [ReducedStages(self._taken([b])) for b in range(len(states))]
        self.fine_workspace: Workspace | None = None
        self.taken: dict[tuple[int, ...], Factorizations] = {}
        for b, run in enumerate(self.runs):
            if not math.isfinite(run.loss):
                why = f"the loss of the start is {run.loss}"
                self.termination.finish(b, Status.diverged, states[b], why)
                continue
            if run.recorder.next_time == 0:
                self.termination.record(b, states[b])
            if self._is_ended_by_callback(b, states[b], 0.0) or end.is_reached(run.loss):
                self.termination.finish(b, Status.reached, states[b])
            elif math.isinf(run.step):
                why = "the gradient vanishes at the start, so that nothing will ever move"
                self.termination.stand_still(b, states[b], why)

    @property
    def done(self) -> dict[int, Trajectory]:
        """Of every run that has ended, what it did."""
        return self.termination.done

    def fraction_done(self) -> float:
        """A rough share of the way, for the progress bar."""
        return self.termination.fraction_done()

    def step_all(self) -> None:
        """One step of every run that is not done: one group for each method and precision."""
        active = [b for b in range(len(self.runs)) if b not in self.done]
        stiff = [b for b in active if self.runs[b].is_stiff]
        smooth = [b for b in active if not self.runs[b].is_stiff]
        stages = {b: self._stages(b) for b in stiff}
        resting = [b for b in stiff if self.runs[b].resting is not None]
        stiff = sorted((b for b in stiff if b not in resting), key=lambda b: -stages[b])
        fine = {b for b in active if self._must_be_fine(b)}
        if fine and self.fine_workspace is None:
            self.fine_workspace = self._workspace(self.states[0].dtype)
        reduced = [b for b in stiff if self._is_reduced(b, stages[b], b in fine)]
        for b in reduced:
            workspace = self.fine_workspace if b in fine else self.workspace
            self._step([b], [stages[b]], workspace, self.reduced[b])
        stiff = [b for b in stiff if b not in reduced]
        for group in (smooth, stiff):
            for is_fine in (False, True):
                chosen = [b for b in group if (b in fine) == is_fine]
                workspace = self.fine_workspace if is_fine else self.workspace
                for at in range(0, len(chosen), self.together):
                    part = chosen[at : at + self.together]
                    self._step(
                        part, [stages[b] for b in part] if part[0] in stages else None, workspace
                    )
        for b in resting:
            self._step([b], None, self.workspace)
        if self.reduced:
            for b in self.done:
                self.reduced[b].release()

    def _workspace(self, dtype: torch.dtype) -> Workspace:
        room = min(self.together, len(self.states)), 9, *self.states[0].shape
        return Workspace(self.batch, self.states[0].new_zeros(room, dtype=dtype))

    def _is_reduced(self, b: int, stages: int, is_fine: bool) -> bool:
        """Whether the stages of the next step of run `b` follow only what is stiff."""
        dtype = self.states[b].dtype if is_fine else self.settings.gradients_in
        stiffness = longest_chebyshev_step(1.0, stages)
        return bool(self.reduced) and self.reduced[b].enters(
            self.states[b], stages, stiffness, dtype
        )

    def _step(
        self,
        group: list[int],
        stages: list[int] | None,
        workspace: Workspace,
        reduced: ReducedStages | None = None,
    ) -> None:
        """One step of the runs in `group`, by Chebyshev's method if `stages` are given."""
        begin = time.perf_counter()
        h = [min(self.runs[b].step, self.end.time - self.runs[b].time) for b in group]
        states, gradients = [self.states[b] for b in group], [self.gradients[b] for b in group]
        origin = self._taken(group), states, gradients, h
        resting = self.runs[group[0]].resting
        if resting is not None:  # a group of its own
            tolerated = self.runs[group[0]].tolerated * float(torch.linalg.vector_norm(states[0]))
            step = resting.step(states[0], h[0], tolerated)
        elif stages is None:
            step = dormand_prince_step(*origin, workspace)
        else:
            expected = [self.runs[b].expected(size) for b, size in zip(group, h, strict=True)]
            step = chebyshev_step(*origin, stages, workspace, expected, reduced)
        for i, b in enumerate(group):
            self.runs[b].n_gradients += step.evaluations[i]
            tolerated = tolerated_error(
                self.settings.tolerance,
                max(step.sizes[i], 1e-300),
                step.moves[i],
                stages=None if stages is None else stages[i],
                is_faster=step.speeds[i] > self.runs[b].speed,
                is_last=stages is None and self.end.is_reached(0.01 * step.losses[i]),
                is_bounded=resting is not None or math.isfinite(self.runs[b].longest),
            )
            self.runs[b].tolerated = tolerated / max(step.sizes[i], 1e-300)
            self._settle(b, step, i, h[i], step.errors[i] / tolerated)
        share = (time.perf_counter() - begin) / len(group)
        for b in group:
            self.runs[b].seconds += share

    def _taken(self, group: list[int]) -> Factorizations:
        """The factorizations of a group; kept, as most steps ask for the same."""
        if len(group) == 1:
            return self.termination.alone(group[0])
        key = tuple(group)
        if key not in self.taken:
            if len(self.taken) > 2 * len(self.runs):
                self.taken.clear()
            self.taken[key] = self.batch.take(group)
        return self.taken[key]

    def _must_be_fine(self, b: int) -> bool:
        """Whether what single precision rounds off would pass for an error, or for a mode."""
        run, state = self.runs[b], self.states[b]
        eps = torch.finfo(self.settings.gradients_in).eps
        if self.settings.gradients_in == state.dtype or run.is_fine:
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
        if rests(run, self._taken([b]), self.states[b], self.termination.origins[b]):
            run.seconds += time.perf_counter() - begin
            return 0
        most = run.most_stages
        if most > MAX_STAGES:
            most = max(MAX_STAGES, min(most, self.settings.max_gradients - run.n_gradients))
        run.step = min(run.step, longest_chebyshev_step(run.curvature, most))
        run.seconds += time.perf_counter() - begin
        h = min(run.step, self.end.time - run.time)
        stages = chebyshev_stages(h, run.curvature)
        if stages > 2:
            fewer = fewer_stages(stages)
            shorter = longest_chebyshev_step(run.curvature, fewer)
            if shorter / fewer > h / stages:  # goes farther for a gradient
                run.step, stages = shorter, fewer
        return stages

    def _settle(self, b: int, step: Step, i: int, h: float, error: float) -> None:
        """Accept or reject the step that run `b` tried."""
        run, loss = self.runs[b], step.losses[i]
        if not (math.isfinite(loss) and error <= (_STILL_ACCEPTED if run.is_stiff else 1)):
            return self._reject(b, h, error if math.isfinite(loss) else math.inf)
        move, size, evaluations = step.moves[i], step.sizes[i], step.evaluations[i]
        # Rounding alone moves by more the more stages there are.
        stages = evaluations if run.is_stiff and run.resting is None else None
        run.is_still = move < 1e-13 * max(1.0, 0.1 * (stages or 1)) * size
        run.is_hidden = run.is_still or is_hidden(self.settings.tolerance, size, move, stages)
        run.n_steps, run.speed = run.n_steps + 1, step.speeds[i]
        state, is_at_end = self._arrive(b, step, i, h)
        if is_at_end:
            return self.termination.finish(b, Status.reached, state)
        if run.n_steps >= self.settings.max_steps or run.n_gradients >= self.settings.max_gradients:
            return self.termination.stop_at_limit(b, state)
        self.states[b] = state
        self.gradients[b].copy_(step.gradients[i])
        if run.resting is not None:
            run.resting.accept()
        if self.reduced:
            self.reduced[b].accept()
        self._choose_next_step(b, step, i, h, error)
        run.still_steps = run.still_steps + 1 if run.is_hidden else 0
        if run.still_steps >= LOOK_AFTER or run.n_gradients >= run.next_look:
            self.termination.look_for_what_waits(b, state)
        return None

    def _arrive(self, b: int, step: Step, i: int, h: float) -> tuple[Tensor, bool]:
        """Set the time to that of the step's end, or of the run's if that is within the step.

        Returns
        -------
        (Tensor, bool)
            The state there, shape (P,); whether it is the end of the run.
        """
        run, loss = self.runs[b], step.losses[i]
        theta, left = 1.0, self.end.time - run.time
        # The last step ends at the asked time itself; any other when its error says that it does,
        # unless that is rounding.
        delay = step.delays[i] if h < left and not run.is_hidden else 0.0
        span = (left if h >= left else h) - max(-0.3 * h, min(0.3 * h, delay))
        if self.end.is_reached(loss) and step.gradients.dtype != self.states[b].dtype:
            loss = float(self._taken([b]).loss(step.states[i][None]))
        loss_of, is_over = self._taken([b]).loss, self.end.is_reached(loss)
        if is_over:
            theta = step.locate(i, loss_of, run.loss, loss, self.end.loss)
        while self.caller.is_due(loss):
            at = self.caller.locate(step, i, loss_of, run.loss, loss, self.settings.gradients_in)
            if at > min(theta, left / span):
                break
            if self._is_ended_by_callback(b, step.interpolate(i, at), run.time + at * span):
                theta, is_over = at, True
                break
        to_the_end = theta * span >= left
        theta = min(theta, left / span)
        end = self.end.time if to_the_end else run.time + theta * span
        while run.recorder.next_time <= end:
            at = (run.recorder.next_time - run.time) / span
            self.termination.record(b, step.interpolate(i, at))
        state = step.states[i] if theta == 1 else step.interpolate(i, theta)
        run.time, run.loss = end, loss
        if theta < 1:
            run.loss = float(self._taken([b]).loss(state[None]))
        return state, is_over or to_the_end

    def _is_ended_by_callback(self, b: int, state: Tensor, time: float) -> bool:
        """Whether the callback, told of this state, ends the run."""
        if self.caller.callback is None:
            return False
        loss = float(self._taken([b]).loss(state[None]))
        with torch.inference_mode(False):
            factors = self.termination.factors(state)
        return self.caller.ends(loss, time, factors)

    def _choose_next_step(self, b: int, step: Step, i: int, h: float, error: float) -> None:
        """Set the size, the method and the most stages of the step after an accepted one."""
        run = self.runs[b]
        run.step = h
        run.next_step(error, accepted=True)
        run.longest = run.longest if run.is_hidden else math.inf
        run.step = min(run.step, run.longest)
        if run.resting is not None and run.is_hidden and math.isinf(run.longest):
            run.step = min(run.step, h)  # until it is known what waits
        # What is hidden, and not known to wait, may be at rest.
        is_bounded = not run.is_hidden or math.isfinite(run.longest)
        run.most_stages = MOST_STAGES if is_bounded else MAX_STAGES
        seen = None if step.curvatures is None else step.curvatures[i]
        if self.settings.method == "automatic":
            run.choose_method(h, seen, step.states[i] if seen is None else step.directions[i])
        if run.is_stiff:
            run.remember(step.missed(i), h)

    def _reject(self, b: int, h: float, error: float) -> None:
        run = self.runs[b]
        run.step = h
        run.next_step(error, accepted=False)
        run.curvature_age = 20
        if self.reduced:
            self.reduced[b].reject()
        if run.step > 1e-15 * run.time and run.step >= 1e-290:
            return
        status, why = Status.stalled, f"the step fell to {run.step:.1e}, below rounding"
        if not math.isfinite(error):
            status, why = Status.diverged, f"the loss is not finite, with a step of {run.step:.1e}"
        self.termination.finish(b, status, self.states[b], f"at time {run.time:.3g} {why}")
