"""A function of the user's that a run calls when its loss has fallen to what the function asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

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

    @property
    def digits(self) -> float:
        """How near to it, in its logarithm: a tenth of the way from the loss told before."""
        return 0.1 * min(0.1, math.log(self.told / self.next_loss))

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
