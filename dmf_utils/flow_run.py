"""One run of a batch on its way: the size of its next step, and by which method."""

from __future__ import annotations

import math

from torch import Tensor

from dmf_utils.trajectory import Recorder

__all__ = ["FASTEST_GROWTH", "Run"]

FASTEST_GROWTH = 1.15  # of a step over the last, with which what it will miss is foreseen


class Run:
    """The progress of one factorization."""

    def __init__(self, loss: float, first_step: float, recorder: Recorder) -> None:
        self.first_loss = self.loss = loss
        self.step, self.recorder = first_step, recorder
        self.time = self.seconds = 0.0
        self.n_gradients, self.n_steps = 1, 0
        self.still_steps = 0  # in a row, that moved nothing
        self.previous_error = 1e-4  # relative to what is tolerated
        self.is_stiff = False  # whether the Chebyshev method steps it
        self.limited_steps = 0  # in a row, at Dormand and Prince's limit of stability
        self.curvature: float | None = None  # the largest, as last estimated
        self.curvature_age = 0  # steps since then
        self.direction: Tensor | None = None  # in which it was seen
        self.missed: Tensor | None = None  # by the last step, if it was Chebyshev's
        self.last_step = 0.0  # its size

    def next_step(self, error: float, accepted: bool) -> None:
        """Set the size of the next step from the last one's `error`, relative to the tolerated."""
        if not math.isfinite(error):
            factor = 0.2
        elif self.is_stiff:
            factor = 0.8 * max(error, 1e-10) ** -0.25
        elif accepted:  # the second factor keeps the step steady at the limit of stability
            factor = 0.9 * max(error, 1e-10) ** -0.14 * self.previous_error**0.08
            self.previous_error = max(error, 1e-4)
        else:
            factor = 0.9 * error**-0.14
        self.step *= min(5.0 if accepted else 1.0, max(0.2, factor))

    def expected(self, h: float) -> Tensor | None:
        """What a Chebyshev step of size `h` will miss: of third order in it, as the last one did.

        Where steps grow fast this would be fed back to stiff modes: there it counts for less.
        """
        if self.missed is None:
            return None
        return self.missed * (min(h / self.last_step, FASTEST_GROWTH)) ** 3

    def choose_method(self, step_taken: float, curvature: float | None, direction: Tensor) -> None:
        """Change the method where the other goes farther for an evaluation.

        Dormand–Prince covers at most 3.3/6 over the curvature for one, the Chebyshev method with
        `s` stages some 0.65 s: it wins as soon as stability, not accuracy, limits the step.
        """
        if self.is_stiff:
            self.curvature_age += 1
            if self.curvature is not None and self.step * self.curvature < 1.6:
                self.is_stiff, self.limited_steps, self.previous_error = False, 0, 1e-2
                self.step = min(1.5 * self.step, 2.5 / self.curvature)
        else:
            limited = curvature is not None and step_taken * curvature > 2.7
            self.limited_steps = self.limited_steps + 1 if limited else 0
            if self.limited_steps >= 3:
                self.is_stiff, self.curvature = True, None
                self.direction = direction.clone()
                self.step *= 1.5
