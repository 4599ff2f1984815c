"""A function of the user's that a run calls when its loss has fallen to what the function asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from dmf_utils.flow.step import Step

__all__ = ["Callback", "Caller"]

Callback: TypeAlias = Callable[[float, float, list[Tensor]], float | None]


class Caller:
    """Calls it, and keeps the loss that it was told last and the one at which it is to be called.

    Parameters
    ----------
    callback : callable, or None
        None is never called.
    """

    def __init__(self, callback: Callback | None) -> None:
        self.callback, self.told, self.next_loss = callback, math.inf, 0.0

    def is_due(self, loss: float) -> bool:
        """Whether a run that falls to this loss passes the one asked for."""
        return self.next_loss > 0 and loss <= self.next_loss

    def locate(
        self,
        step: Step,
        i: int,
        loss_of: Callable[[Tensor], Tensor],
        first: float,
        last: float,
        precision: torch.dtype,
    ) -> float:
        """The fraction of a step at which the loss is that asked for, or near.

        Near is a tenth of the way from the loss told before, in the logarithm.

        Parameters
        ----------
        step, i, loss_of, first, last
            As of `Step.locate`.
        precision : torch.dtype
            Of the gradients. The loss is looked for in it; where that cannot tell it from rounding,
            in the precision of the states.
        """
        wanted, digits = self.next_loss, 0.1 * min(0.1, math.log(self.told / self.next_loss))
        if precision != step.states[i].dtype:
            found = step.locate(
                i, lambda at: loss_of(at.to(precision)), first, last, wanted, digits
            )
            there = float(loss_of(step.interpolate(i, found)[None]))
            if abs(math.log(max(there, 1e-300) / wanted)) <= digits:
                return found
        return step.locate(i, loss_of, first, last, wanted, digits)

    def ends(self, loss: float, time: float, factors: list[Tensor]) -> bool:
        """Tell where the run is; whether that is to be its end.

        Raises
        ------
        ValueError
            If what is asked for next is not below `loss`.
        """
        with torch.inference_mode(False):
            wanted = self.callback(loss, time, factors)
        if wanted is not None and not (wanted == 0 or 0 < wanted < loss):
            raise ValueError(
                f"callback must return a loss below the one that it was told, {loss:.6g}, or None "
                f"to end the run; got {wanted!r}"
            )
        self.told, self.next_loss = loss, wanted or 0.0
        return wanted is None
