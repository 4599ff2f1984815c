"""The largest curvature of the loss on the factors: by it, steps are stable or not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dmf_utils.flow.batch import Factorizations
from dmf_utils.flow.step import norms

__all__ = ["spectral_radius"]


def spectral_radius(
    batch: Factorizations,
    state: Tensor,
    gradient: Tensor,
    direction: Tensor,
    accuracy: float = 0.02,
    max_iterations: int = 20,
    scale: Tensor | None = None,
    shift: float = 0.0,
) -> tuple[float, Tensor, int]:
    r"""Largest curvature of :math:`\varphi` at one state, by power iteration in its precision.

    With a diagonal `scale` `D` and a `shift` :math:`\kappa`, that of
    :math:`D (\nabla^2 \varphi + \kappa I) D`.

    Parameters
    ----------
    batch : Factorizations
        Of one factorization.
    state, gradient, direction : Tensor, shape (1, P)
        The gradient there, and where the iteration starts.
    accuracy : float
        Relative change between iterations at which it stops.
    max_iterations : int
    scale : Tensor, shape (1, P), optional
    shift : float

    Returns
    -------
    (float, Tensor, int)
        The estimate, from below; its direction; the gradients it took.
    """
    # Far enough apart that rounding does not decide, near enough that curvature does not change.
    share = 1e-6 if state.dtype == torch.float64 else 3e-4
    least = torch.finfo(state.dtype).tiny
    distance = share * max(norms(state)[0], math.sqrt(least))
    estimate, taken, at = 0.0, 0, torch.empty_like(state)
    for _ in range(max_iterations):
        taken += 1
        direction = direction / max(norms(direction)[0], least)
        along = direction if scale is None else scale * direction
        apart = distance if scale is None else distance / max(norms(along)[0], least)
        batch.gradient(state + apart * along, out=at)
        direction = (at - gradient) / apart + shift * along
        if scale is not None:
            direction = scale * direction
        previous, estimate = estimate, norms(direction)[0]
        if not math.isfinite(estimate) or abs(estimate - previous) <= accuracy * estimate:
            break
    return estimate, direction, taken
