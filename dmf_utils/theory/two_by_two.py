r"""The 2 x 2 completion problem in which every norm goes to infinity.

Observed are :math:`w_{12} = w_{21} = 1` and :math:`w_{22} = 0`, with
:math:`\ell = \frac12 \sum (w_{ij} - b_{ij})^2`; the entry :math:`w_{11}` is free. None of this is
in the paper: Razin and Cohen (2020) found it. `two_by_two_flow` also takes other observed values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils.theory.checks import increasing
from dmf_utils.theory.dynamics import product_dynamics

__all__ = ["TwoByTwoFlow", "two_by_two_flow"]

# The singular vectors are followed where the singular values differ by more than a factor, the
# product matrix where they do not; two factors, so that a path on the border does not dither.
_APART, _CLOSE = 4.0, 2.0


@dataclass(frozen=True)
class TwoByTwoFlow:
    """The flow at each asked time, in coordinates that rounding cannot carry to the wrong side."""

    times: Tensor
    """(T,): the times."""
    log_singular_values: Tensor
    """(T, 2): natural logarithms of the singular values, the larger first."""
    angles: Tensor
    """(T, 2): those of the first left and the first right singular vector, in radians."""
    determinant_sign: int
    """1 or -1; the flow keeps it."""
    observed: tuple[float, float, float] = (1.0, 1.0, 0.0)
    """The observed values of ``w_12``, ``w_21`` and ``w_22``."""

    @property
    def product(self) -> Tensor:
        """(T, 2, 2): the product matrices."""
        s = torch.exp(self.log_singular_values)
        s[:, 1] *= self.determinant_sign
        left, right = _rotation(self.angles[:, 0]), _rotation(self.angles[:, 1])
        return (left * s[:, None, :]) @ right.mT

    @property
    def unobserved_entry(self) -> Tensor:
        """(T,): ``w_11``."""
        return self.product[:, 0, 0]

    @property
    def loss(self) -> Tensor:
        """(T,): the loss."""
        return _gradient(self.product, self.observed).square().sum(dim=(1, 2)) / 2

    @property
    def effective_rank(self) -> Tensor:
        """(T,): the effective rank, from the logarithms, so exact however small the second is."""
        share = torch.softmax(self.log_singular_values, dim=1)
        return torch.exp(-torch.special.xlogy(share, share).sum(dim=1))


def two_by_two_flow(
    start: Any,
    depth: int,
    times: Any,
    *,
    observed: Any = (1.0, 1.0, 0.0),
    tolerance: float = 1e-12,
) -> TwoByTwoFlow:
    r"""Follow the balanced gradient flow of the problem to very late times.

    With :math:`W = R(\theta) \, \mathrm{diag}(\sigma_1, \delta \sigma_2) \, R(\varphi)^\top`, where
    :math:`R` are rotations and :math:`\delta` is the sign of the determinant, and
    :math:`M = R(\theta)^\top \nabla \ell \, R(\varphi)`,

    .. math::
        \frac{\mathrm d}{\mathrm d t} \ln \sigma_1 &= -N \sigma_1^{1 - 2/N} M_{11}, \qquad
        \frac{\mathrm d}{\mathrm d t} \ln \sigma_2 = -N \sigma_2^{1 - 2/N} \, \delta M_{22}, \\
        \dot\theta &= -\frac{\sigma_1 M_{21} + \delta \sigma_2 M_{12}}
                            {\sigma_1^{2/N} - \sigma_2^{2/N}}, \qquad
        \dot\varphi = -\frac{\sigma_1 M_{12} + \delta \sigma_2 M_{21}}
                            {\sigma_1^{2/N} - \sigma_2^{2/N}}.

    In the entries of :math:`W` the small singular value is a difference of large numbers: rounding
    flips the sign of the determinant, and the flow "converges" to a wrong answer with no loss. Here
    the sign cannot change. While the singular values are close the angles are not determined;
    there, the product matrix itself is followed, which is then harmless.

    Parameters
    ----------
    start : (2, 2) matrix
        The product matrix at the first time; not singular.
    depth : int
        The number of factors, at least 2.
    times : (T,) vector
        Increasing times, the first one that of the start.
    observed : (3,) vector
        The observed values of ``w_12``, ``w_21`` and ``w_22``.
    tolerance : float
        Relative tolerance of a step of LSODA, which is implicit where the flow is stiff.

    Returns
    -------
    TwoByTwoFlow
        The flow at the asked times.

    Raises
    ------
    ValueError
        If an argument does not fit or the start is singular.
    RuntimeError
        If the integrator gives up.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), Theorem 3 and Lemma 2, for the problem of Razin and Cohen
    (2020); the use of these coordinates is ours.
    """
    W = checks.matrix(start, "start", (2, 2))
    depth = checks.whole_number(depth, "depth", 2, "at depth 1 the determinant may change sign")
    times = increasing(times, "times")
    observed = tuple(checks.vector(observed, "observed", 3).tolist())
    tolerance = checks.positive(tolerance, "tolerance")
    sign = _determinant_sign(W)

    def entries_rate(_: float, state: np.ndarray) -> np.ndarray:
        at = torch.from_numpy(state).reshape(2, 2)
        return product_dynamics(at, _gradient(at, observed), depth).flatten().numpy()

    def entries_apart(_: float, state: np.ndarray) -> float:
        first, second = np.linalg.svd(state.reshape(2, 2), compute_uv=False)
        return first - _APART * second

    def coordinates_close(_: float, state: np.ndarray) -> float:
        return state[0] - state[1] - math.log(_CLOSE)

    entries_apart.terminal = coordinates_close.terminal = True
    entries_apart.direction, coordinates_close.direction = 1, -1
    now, end = float(times[0]), float(times[-1])
    rows: list[np.ndarray] = []
    coordinates = _coordinates(W.numpy(), sign)
    in_entries = coordinates[0] - coordinates[1] < math.log(_APART)
    while True:
        solution = solve_ivp(
            entries_rate
            if in_entries
            else lambda _, x: _coordinates_rate(x, depth, sign, observed),
            (now, end),
            _product(coordinates, sign).ravel() if in_entries else coordinates,
            method="LSODA",
            t_eval=times.numpy()[len(rows) :],
            rtol=tolerance,
            atol=tolerance / 10_000,
            events=entries_apart if in_entries else coordinates_close,
        )
        if solution.status < 0:
            raise RuntimeError(f"the flow could not be followed: {solution.message}")
        # scipy gives lists, not arrays, for a phase in which no time was asked for.
        found = np.reshape(solution.y, (len(coordinates), -1)).T
        rows += [_coordinates(x.reshape(2, 2), sign) for x in found] if in_entries else list(found)
        if solution.status == 0:
            break
        now, last = solution.t_events[0][0], solution.y_events[0][0]
        coordinates = _coordinates(last.reshape(2, 2), sign) if in_entries else last
        in_entries = not in_entries
    table = torch.from_numpy(np.stack(rows))
    return TwoByTwoFlow(times, table[:, :2], table[:, 2:], sign, observed)


def _determinant_sign(start: Tensor) -> int:
    s = torch.linalg.svdvals(start)
    if s[1] <= 4 * torch.finfo(s.dtype).eps * s[0]:
        raise ValueError(
            f"start must have a determinant, got {start.tolist()}: the flow keeps its sign"
        )
    return 1 if start[0, 0] * start[1, 1] > start[0, 1] * start[1, 0] else -1


def _gradient(W: Tensor, observed: tuple[float, float, float] = (1.0, 1.0, 0.0)) -> Tensor:
    gradient = W.clone()
    gradient[..., 0, 0] = 0
    gradient[..., 0, 1] -= observed[0]
    gradient[..., 1, 0] -= observed[1]
    gradient[..., 1, 1] -= observed[2]
    return gradient


def _rotation(angle: Tensor) -> Tensor:
    c, s = torch.cos(angle), torch.sin(angle)
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


def _product(coordinates: np.ndarray, sign: int) -> np.ndarray:
    at = torch.from_numpy(coordinates)[None]
    return TwoByTwoFlow(at[:, 0], at[:, :2], at[:, 2:], sign).product[0].numpy()


def _coordinates(W: np.ndarray, sign: int) -> np.ndarray:
    """Return ``(ln sigma_1, ln sigma_2, theta, phi)``."""
    U, s, Vt = np.linalg.svd(W)
    return np.array([*np.log(s), math.atan2(U[1, 0], U[0, 0]), math.atan2(Vt[0, 1], Vt[0, 0])])


def _coordinates_rate(
    state: np.ndarray, depth: int, sign: int, observed: tuple[float, float, float]
) -> np.ndarray:
    """Return the rates of the four coordinates; in scalars, for it is called ten thousand times."""
    log_first, log_second, theta, phi = map(float, state)
    first, second = math.exp(log_first), sign * math.exp(log_second)
    c, s, C, S = math.cos(theta), math.sin(theta), math.cos(phi), math.sin(phi)
    g12 = first * c * S - second * s * C - observed[0]
    g21 = first * s * C - second * c * S - observed[1]
    g22 = first * s * S + second * c * C - observed[2]
    # The gradient times the right singular vectors (C, S) and (-S, C), then M.
    top1, low1 = g12 * S, g21 * C + g22 * S
    top2, low2 = g12 * C, g22 * C - g21 * S
    m11, m12 = c * top1 + s * low1, c * top2 + s * low2
    m21, m22 = c * low1 - s * top1, c * low2 - s * top2
    apart = math.exp(2 / depth * log_first) - math.exp(2 / depth * log_second)
    return np.array(
        [
            -depth * math.exp((1 - 2 / depth) * log_first) * m11,
            -depth * math.exp((1 - 2 / depth) * log_second) * sign * m22,
            -(first * m21 + second * m12) / apart,
            -(first * m12 + second * m21) / apart,
        ]
    )
