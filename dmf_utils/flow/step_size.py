"""The step size of one factorization on its way, by which method, and what error is tolerated."""

from __future__ import annotations

import math

from torch import Tensor

from dmf_utils.flow.chebyshev import MAX_STAGES
from dmf_utils.flow.rosenbrock import RosenbrockSteps
from dmf_utils.flow.trajectory import Recorder

__all__ = ["FASTEST_GROWTH", "StepControl", "is_hidden", "tolerated_error"]

FASTEST_GROWTH = 1.15  # of a step over the last, with which what it will miss is foreseen
_SHARE_OF_CHANGE = 0.4  # of the change of what is missed, taken to go on
_BOUNDED = 10.0  # times rounding, that an error may be where the step is bounded otherwise
_FIRST_LOOK = 20_000  # gradients, after which it is asked whether those left can be enough
_SHARE_OF_LAST_STEPS = 0.3  # of the tolerance: what they miss, no later step dampens

# Of the distance that a step moves, in units of the root of the tolerance: an error of that size
# is a clock that goes wrong by as much. While the flow speeds up, as it does when it leaves a
# saddle, the error comes back many times larger, and it is held to the power 3/4 of the tolerance;
# the Chebyshev steps that close in on a minimum make errors of both signs, which cancel.
_OF_DORMAND_PRINCE, _WHILE_FASTER, _WHILE_SLOWER = 0.2, 3.0, 1.6


def tolerated_error(
    tolerance: float,
    size: float,
    move: float,
    *,
    stages: int | None,
    is_faster: bool,
    is_last: bool,
    is_bounded: bool = False,
) -> float:
    r"""Local error that a step may make: relative to the state, and to the distance it moves.

    .. math:: \min\left(\varepsilon \|\theta\|,\; c\, \varepsilon^p \|\Delta\theta\|
        + \text{rounding}\right)

    with :math:`p = 3/4` for Chebyshev steps while the flow speeds up, else 1/2.

    The first keeps the path, the second the clock: at a saddle, where a small mode waits beside
    large ones at rest, the motion is that of the small mode alone, and so the error is relative
    to it, however small; near a minimum it is relative to what is still missing.

    Parameters
    ----------
    tolerance : float
        :math:`\varepsilon`.
    size, move : float
        Norms of the state and of the step.
    stages : int or None
        Of the Chebyshev method; None for Dormand–Prince.
    is_faster : bool
        Whether the flow is faster at the end of the step than at its start.
    is_last : bool
        Whether the step is among the last of its run, which no later one dampens.
    is_bounded : bool
        Whether the step is bounded by what waits: then rounding must not shorten it.
    """
    share = _while_faster(tolerance)
    if stages is None:
        share = _OF_DORMAND_PRINCE * math.sqrt(tolerance)
    elif not is_faster:
        share = _WHILE_SLOWER * math.sqrt(tolerance)
    of_motion = min(0.1, share) * move
    of_motion += (_BOUNDED if is_bounded else 1.0) * _rounding(stages) * size
    return min(tolerance * size * (_SHARE_OF_LAST_STEPS if is_last else 1.0), of_motion)


def is_hidden(tolerance: float, size: float, move: float, stages: int | None) -> bool:
    """Whether rounding hides the error of a step, in relation to the distance that it moves.

    Its arguments are those of `tolerated_error`.
    """
    return _while_faster(tolerance) * move < _rounding(stages) * size


def _while_faster(tolerance: float) -> float:
    return _WHILE_FASTER * tolerance**0.75


def _rounding(stages: int | None) -> float:
    """What one step rounds off, in relation to the state: stages amplify it by their square."""
    return 8e-16 if stages is None else 1e-15 * stages**2


class StepControl:
    """How far one factorization is, and how its next step is to be."""

    def __init__(self, loss: float, first_step: float, recorder: Recorder) -> None:
        self.first_loss = self.loss = loss
        self.step, self.recorder = first_step, recorder
        self.time = self.seconds = 0.0
        self.n_gradients, self.n_steps = 1, 0
        self.is_still = self.is_hidden = False  # whether a step moves nothing, or less than it errs
        self.still_steps = 0  # in a row, whose motion rounding hides
        self.next_look = _FIRST_LOOK  # after so many gradients, at what waits
        self.speed = math.inf  # norm of the gradient where the run is
        self.is_fine = False  # whether all gradients are in double precision
        self.longest = math.inf  # step, while something waits whose motion rounding hides
        self.tolerated = math.inf  # error of the last step, relative to the state
        self.detail = ""  # what kept the run from its end, or rounding from being harmless
        self.previous_error = 1e-4  # relative to what is tolerated
        self.would_have_done = 0.0  # size of the last Dormand–Prince step, had it met the tolerance
        self.is_stiff = False  # whether the Chebyshev method steps it
        self.curvature: float | None = None  # the largest, as last estimated
        self.most_stages = MAX_STAGES  # of a Chebyshev step
        self.resting: RosenbrockSteps | None = None  # which steps it while something waits
        self.most_explicit = MAX_STAGES  # of a Chebyshev step, beyond which that is tried
        self.curvature_age = 0  # steps since then
        self.direction: Tensor | None = None  # in which it was seen
        self.missed: Tensor | None = None  # by the last step, `Step.missed`
        self.missed_before: Tensor | None = None  # by the one before it
        self.last_step = self.step_before = 0.0  # their sizes

    def next_step(self, error: float, accepted: bool) -> None:
        """Set the size of the next step from the last one's `error`, relative to the tolerated."""
        if not math.isfinite(error):
            factor = 0.2
        elif self.is_stiff:
            factor = 0.8 * max(error, 1e-10) ** -0.25
        elif accepted:  # the last factor keeps the step steady at the limit of stability
            factor = 0.85 * max(error, 1e-10) ** -0.17 * self.previous_error**0.04
            self.previous_error = max(error, 1e-4)
            # Where the size that would do shrinks, as it does while a mode is learned, it is taken
            # to go on shrinking: else every second step would be rejected.
            would_do = self.step * max(error, 1e-10) ** -0.2
            if would_do < self.would_have_done:
                shrinking = max(0.2, would_do / self.would_have_done)
                factor = min(factor, 0.9 * shrinking * would_do / self.step)
            self.would_have_done = would_do
        else:
            factor = 0.9 * error**-0.14
        self.step *= min(5.0 if accepted else 1.0, max(0.2, factor))

    def remember(self, missed: Tensor, h: float) -> None:
        """Keep what a step of size `h` missed, for the next one."""
        self.missed_before, self.step_before = self.missed, self.last_step
        self.missed, self.last_step = missed, h

    def expected(self, h: float) -> Tensor:
        """What a Chebyshev step of size `h` will miss: of third order in it, as the last ones did.

        In part it is taken to go on changing as it did. Where steps grow fast, or with the whole of
        that change, it would be fed back to stiff modes: so both are limited.
        """
        growth = min(h / self.last_step, FASTEST_GROWTH)
        if self.missed_before is None:
            return growth**3 * self.missed
        before = min(self.last_step / self.step_before, FASTEST_GROWTH)
        share = _SHARE_OF_CHANGE * (growth + 1) / (1 + 1 / before)  # between the steps' middles
        of_last, of_before = growth**3 * (1 + share), -share * (growth * before) ** 3
        return of_last * self.missed + of_before * self.missed_before

    def choose_method(self, step_taken: float, curvature: float | None, direction: Tensor) -> None:
        """Change the method where the other goes farther for an evaluation.

        Dormand–Prince covers at most 3.3/6 over the curvature for one, the Chebyshev method with
        `s` stages some 0.65 s, if accuracy allows: it wins from about half that limit on.
        """
        if self.is_stiff:
            self.curvature_age += 1
            if self.curvature is not None and self.step * self.curvature < 1.0:
                self.is_stiff, self.missed, self.resting = False, None, None
                self.previous_error, self.would_have_done = 1e-2, 0.0
                self.step = min(1.5 * self.step, 2.5 / max(self.curvature, 1e-300))
        elif curvature is not None and step_taken * curvature > 1.8:
            self.is_stiff, self.curvature = True, None
            self.direction = direction.clone()
