"""Gradient flow on the factors by SciPy, independent of the package's own engine."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from dmf_utils.factorization.product import factor_gradients, product_matrix

Gradient = Callable[[Tensor], Tensor]


def factor_flow(
    gradient: Gradient, factors: list[Tensor], times: list[float]
) -> list[list[Tensor]]:
    """Return the factors at the times, by Dormand-Prince 8(5,3) at 1e-12."""
    sizes = [factor.numel() for factor in factors]

    def unpack(state: np.ndarray) -> list[Tensor]:
        parts = torch.from_numpy(np.ascontiguousarray(state)).split(sizes)
        return [part.reshape(f.shape) for part, f in zip(parts, factors, strict=True)]

    def rate(_: float, state: np.ndarray) -> np.ndarray:
        at = unpack(state)
        slopes = factor_gradients(at, gradient(product_matrix(at)))
        return -torch.cat([slope.flatten() for slope in slopes]).numpy()

    start = torch.cat([factor.flatten() for factor in factors]).numpy()
    span = (times[0], times[-1])
    found = solve_ivp(rate, span, start, "DOP853", t_eval=times, rtol=1e-12, atol=1e-14)
    assert found.success
    return [unpack(state) for state in found.y.T]


def product_flow(gradient: Gradient, factors: list[Tensor], times: list[float]) -> Tensor:
    """Return the product matrices at the times, (T, d, d')."""
    return torch.stack([product_matrix(at) for at in factor_flow(gradient, factors, times)])
