"""How a flow is followed, as far as it is the same for every problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from dmf_utils._support.checks import check_positive

__all__ = ["Settings"]

# After a long wait a singular value rises within a thousandth of the time: where a time is asked
# for, the clock counts for more than where a loss is. What is recorded does not change the run.
_TOLERANCE, _OF_TIMES = 2.5e-5, 5e-6


@dataclass(frozen=True)
class Settings:
    """Accuracy, method, precision, limits and place of a run of `gradient_flow`.

    Parameters
    ----------
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
    gradient_dtype : torch.dtype, optional
        Precision of the gradients and of what a step adds to the state, default `dtype`. With
        ``torch.float32`` an evaluation takes about half the time, while the states, the sums over
        all steps, the end and what is recorded stay in double precision. Rounding is then some
        1e-6 of the ground truth's entries.
    max_steps : int
        Accepted steps after which a run is given up.
    max_gradients : int
        Gradients after which it is given up, at the end of the step that reached them; a Hessian
        times a direction counts as two. A step of the stabilized method takes up to 16384 while
        something waits, so this is what bounds the time. A run whose next motion is known to lie
        beyond them is given up at once, and says so.
    device, dtype
        Where and in which precision to compute. In single precision the step control stalls late.

    Raises
    ------
    ValueError
        For a setting out of range, or precisions that do not fit.
    """

    tolerance: float | None = None
    method: Literal["automatic", "dormand-prince"] = "automatic"
    gradient_dtype: torch.dtype | None = None
    max_steps: int = 100_000
    max_gradients: int = 5_000_000
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        check_positive(
            tolerance=self.tolerance, max_steps=self.max_steps, max_gradients=self.max_gradients
        )
        if self.method not in ("automatic", "dormand-prince"):
            raise ValueError(f'method must be "automatic" or "dormand-prince", got {self.method!r}')
        if self.gradient_dtype in (None, self.dtype):
            return
        if self.gradient_dtype != torch.float32 or self.dtype != torch.float64:
            raise ValueError(
                "gradient_dtype must be torch.float32 (with dtype torch.float64) or dtype itself, "
                f"got {self.gradient_dtype} with dtype {self.dtype}"
            )
        if self.tolerance is not None and self.tolerance < 1e-6:
            raise ValueError(
                f"tolerance = {self.tolerance!r} is finer than gradients in single precision; take "
                "at least 1e-6, or leave gradient_dtype out"
            )

    @property
    def gradients_in(self) -> torch.dtype:
        """The precision of the gradients."""
        return self.gradient_dtype or self.dtype

    def tolerance_until(self, time: float | None) -> float:
        """The tolerance, or what stands for it in a run to `time`, or to a loss if that is None."""
        if self.tolerance is not None:
            return self.tolerance
        return _TOLERANCE if time is None else _OF_TIMES
