r"""How large the free entry of the 2 x 2 problem is: at a given loss, and at a given time.

The problem is that of `dmf_utils.theory.two_by_two`, with the observed values 1, 1 and 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmf_utils._support import checks

__all__ = ["unobserved_entry_bound", "unobserved_entry_growth"]


def unobserved_entry_bound(loss: Any) -> Tensor:
    r"""Compute how large the free entry must be at a given loss, if the determinant is positive.

    .. math::
        |w_{11}| > \frac{(1 - e)^{3/2}}{\sqrt e}, \qquad e = \frac{\sqrt{1 + 8 \ell} - 1}{2},
        \qquad \ell \le 3/8,

    about :math:`1 / \sqrt{2 \ell}` for small loss, and :math:`\sqrt{1 - 2 \ell}` for larger ones.
    The bound is sharp: it is the infimum of :math:`w_{12} w_{21} / |w_{22}|` over all observed
    entries with this loss, taken where both misses are equal up to 3/8, and beyond where they are
    not.

    Parameters
    ----------
    loss : (T,) vector or number
        Between 0 and 1/2, both excluded.

    Returns
    -------
    tensor of the shape of ``loss``
        The bound.

    Raises
    ------
    ValueError
        If a loss is not between 0 and 1/2; from there on, the free entry can be zero.

    References
    ----------
    Razin and Cohen (2020) show divergence; the sharp form is ours.
    """
    loss = checks.real_tensor(loss, "loss")
    if torch.any((loss <= 0) | (loss >= 0.5)):
        raise ValueError(
            f"loss must be above 0 and below 1/2, got {loss.tolist()}: from 1/2 on, the free entry "
            "can be zero"
        )
    # (sqrt(1 + 8 loss) - 1) / 2 without cancellation
    e = 4 * loss / (torch.sqrt(1 + 8 * loss) + 1)
    equal_misses = (1 - e).clamp_min(0) ** 1.5 / torch.sqrt(e)
    return torch.where(loss <= 0.375, equal_misses, torch.sqrt(1 - 2 * loss))


def unobserved_entry_growth(times: Any, depth: int) -> Tensor:
    r"""Compute the law by which the free entry grows, at late times and positive determinant.

    .. math:: |w_{11}(t)| \sim \left( (2N + 2) \, t \right)^{N / (2N + 2)}

    Parameters
    ----------
    times : (T,) vector or number
        Positive times.
    depth : int
        The number of factors, at least 2.

    Returns
    -------
    tensor of the shape of ``times``
        The leading term.

    Raises
    ------
    ValueError
        If a time is not positive or ``depth`` is below 2.

    References
    ----------
    Not in the paper, nor in Razin and Cohen (2020): ours.
    """
    times = checks.real_tensor(times, "times")
    depth = checks.whole_number(depth, "depth", 2, "at depth 1 the free entry never moves")
    if torch.any(times <= 0):
        raise ValueError(f"times must be positive, got {times.min():g}")
    return ((2 * depth + 2) * times) ** (depth / (2 * depth + 2))
