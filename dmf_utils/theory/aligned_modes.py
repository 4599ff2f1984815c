r"""The learning of modes one by one: full observation of a target, singular vectors aligned.

The loss is :math:`\ell(W) = \frac12 \|W - Y\|_F^2` and the singular vectors of the product matrix
are those of the target :math:`Y`. Each singular value then moves by itself towards its own target,
by an equation that has a closed solution.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from dmf_utils._support import checks

__all__ = [
    "aligned_singular_value",
    "incremental_learning_log_start",
    "time_to_reach",
]


def time_to_reach(value: Any, start: float, target: float, depth: int) -> Tensor:
    r"""Compute the time at which an aligned singular value has a given value.

    The loss is :math:`\ell(W) = \frac12 \|W - Y\|_F^2` and the singular vectors are those of
    :math:`Y`, so that :math:`\dot s = N s^{2 - 2/N} (y - s)`. With :math:`x = s / y` and
    :math:`a = 2 - 2/N` the time from :math:`s_0` to :math:`s` is

    .. math::
        t = \frac{G(s / y) - G(s_0 / y)}{N y^{a}}, \qquad
        G(x) = \int^x \frac{\mathrm{d} \xi}{\xi^{a} (1 - \xi)},

    where :math:`G` is :math:`-\ln |1 - x|` for depth 1, :math:`\ln (x / |1 - x|)` for depth 2, and
    for depth 3 and more :math:`\frac{x^{1-a}}{1-a} \, {}_2F_1(1, 1-a; 2-a; x)` below the target. It
    is evaluated on both sides of the target with :math:`w = x^{1/N}` and the roots of one
    :math:`\omega_k = e^{2 \pi i k / N}`,

    .. math::
        G = -\frac{N}{N-2} \, w^{2-N} - \mathrm{Re} \sum_k \omega_k^2 \ln(w - \omega_k).

    Parameters
    ----------
    value : (T,) vector or number
        The values :math:`s` to reach, between the start and the target, target excluded.
    start : float
        :math:`s_0`; positive for depth 2 and more, where a zero never moves.
    target : float
        :math:`y`, positive.
    depth : int
        The number of factors, at least 1.

    Returns
    -------
    tensor of the shape of ``value``
        The times.

    Raises
    ------
    ValueError
        If start or target is not positive, or a value is not between them.

    References
    ----------
    Saxe, McClelland and Ganguli (2014) for depth 2; the form for depth 3 and more is ours.
    """
    depth, start, target = _aligned_arguments(depth, start, target)
    value = checks.real_tensor(value, "value")
    inside = (value - start) * (value - target) <= 0
    if not torch.all(inside & (value != target)):
        raise ValueError(
            f"value must lie between start {start:g} and target {target:g}, target excluded, "
            f"got {value.tolist()}: the target itself takes infinite time"
        )
    if start == target:  # then inside holds for no value but the target
        raise ValueError("start must differ from target: a start at the target never moves")
    # The start goes through the same vector loops as the values: NumPy's loops for single numbers
    # round differently on some processors, and the start's own time would not be zero.
    x = np.append(value.numpy().ravel(), start) / target
    spans = _antiderivative(x, depth)
    times = np.where(x == x[-1], 0.0, spans - spans[-1]) / (depth * target ** (2 - 2 / depth))
    return torch.as_tensor(times[:-1]).reshape(value.shape)


def aligned_singular_value(times: Any, start: float, target: float, depth: int) -> Tensor:
    r"""Solve :math:`\dot s = N s^{2 - 2/N} (y - s)`, the motion of an aligned singular value.

    The loss is :math:`\ell(W) = \frac12 \|W - Y\|_F^2` and the singular vectors are those of
    :math:`Y`. Then

    .. math::
        N = 1 &: \quad s = y + (s_0 - y) e^{-t}, \\
        N = 2 &: \quad s = y / (1 + (y / s_0 - 1) e^{-2 y t}),

    and for :math:`N \ge 3` the time is a known function of :math:`s`, `time_to_reach`, which is
    inverted by bracketing.

    Parameters
    ----------
    times : (T,) vector or number
        The times :math:`t \ge 0`.
    start : float
        :math:`s_0`; positive for depth 2 and more.
    target : float
        :math:`y`, positive.
    depth : int
        The number of factors, at least 1.

    Returns
    -------
    tensor of the shape of ``times``
        The values :math:`s(t)`.

    Raises
    ------
    ValueError
        If start or target is not positive, or a time is negative.

    References
    ----------
    Saxe, McClelland and Ganguli (2014) for depth 2; the form for depth 3 and more is ours.
    """
    depth, start, target = _aligned_arguments(depth, start, target)
    times = checks.real_tensor(times, "times")
    if torch.any(times < 0):
        raise ValueError(f"times must not be negative, got {times.min():g}")
    if depth == 1:
        return target + (start - target) * torch.exp(-times)
    if depth == 2:
        return target / (1 + (target / start - 1) * torch.exp(-2 * target * times))
    scaled = depth * target ** (2 - 2 / depth) * times.numpy()
    values = [_invert(t, start / target, depth) for t in scaled.ravel()]
    return target * torch.tensor(values, dtype=torch.float64).reshape(times.shape)


def incremental_learning_log_start(
    ratio: float,
    depth: int,
    *,
    target: float = 1.0,
    learned: float = 0.9,
    unlearned: float = 0.1,
) -> Tensor:
    r"""Compute how small a start must be for two modes to be learned one after the other.

    Two aligned singular values with targets :math:`r y > y` start at the same :math:`s_0`. They
    are learned one after the other if the first is above 90 % of its target before the second is
    above 10 % of its own. That holds exactly for :math:`s_0` below a threshold, which shrinks like
    :math:`\exp(-c / (r - 1))` for :math:`N = 2` and like :math:`(r - 1)^{N / (N - 2)}` for
    :math:`N \ge 3` as :math:`r \to 1`.

    Parameters
    ----------
    ratio : float
        :math:`r`, above 1.
    depth : int
        The number of factors, at least 2: for depth 1 both modes take the same time.
    target : float
        :math:`y`, the smaller target; positive.
    learned, unlearned : float
        The two fractions of the targets, ``0 < unlearned <= learned < 1``.

    Returns
    -------
    0-dimensional tensor
        :math:`\ln s_0` at the threshold. The logarithm, since for depth 2 the start itself is soon
        below the smallest number.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Gissin, Shalev-Shwartz and Daniely (2020). Arora, Cohen, Hu and Luo (2019) do not state it.
    """
    ratio = checks.number(ratio, "ratio", lambda x: x > 1, "above 1")
    depth = checks.whole_number(depth, "depth", 2, "at depth 1 both modes take the same time")
    target = checks.positive(target, "target")
    learned = checks.number(learned, "learned", lambda x: 0 < x < 1, "between 0 and 1")
    unlearned = checks.number(
        unlearned, "unlearned", lambda x: 0 < x <= learned, "positive and at most learned"
    )
    speed = ratio ** (2 - 2 / depth)  # of the first mode, relative to the second

    def lead(log_start: float) -> float:
        """Return the time to spare when the second mode leaves its start, in units of 1/(N y^a)."""
        first = _span(log_start - math.log(ratio), learned, depth) / speed
        return _span(log_start, unlearned, depth) - first

    # At its own 10 % the second mode has no time left; the lead grows as the start shrinks.
    above, below = math.log(unlearned), math.log(unlearned) - 1.0
    while lead(below) <= 0:
        below *= 2
    found = brentq(lead, below, above, xtol=1e-13, rtol=1e-14, maxiter=500)
    return torch.tensor(found + math.log(target), dtype=torch.float64)


def _aligned_arguments(depth: int, start: float, target: float) -> tuple[int, float, float]:
    depth = checks.whole_number(depth, "depth", 1)
    target = checks.positive(target, "target")
    start = checks.number(start, "start") if depth == 1 else checks.positive(start, "start")
    return depth, start, target


def _antiderivative(x: Any, depth: int) -> Any:
    """Return G(x), an antiderivative of 1 / (x^a (1 - x)) with a = 2 - 2/N, on each side of 1."""
    if depth == 1:
        return -np.log(np.abs(1 - x))
    if depth == 2:
        return np.log(x) - np.log(np.abs(1 - x))
    # SciPy's hypergeometric function loses all digits close to x = 1, where its parameters are a
    # case of their own up to rounding. With x = w^N the integral is elementary: the integrand is
    # N (w^(1-N) + w / (1 - w^N)), and the poles of the second part are the N-th roots of one.
    w = np.asarray(x, dtype=float) ** (1 / depth)
    k = np.arange(1, depth)
    root = np.exp(2j * np.pi * k / depth)
    poles = (root**2 * np.log(w[..., None] - root)).real.sum(-1) + np.log(np.abs(1 - w))
    return depth * w ** (2.0 - depth) / (2 - depth) - poles


def _span(log_x0: float, x: float, depth: int) -> float:
    """Return G(x) - G(x0), from the logarithm of x0 so that x0 may be below the smallest number."""
    if depth == 2:
        return float(_antiderivative(x, 2)) - log_x0 + math.log1p(-math.exp(log_x0))
    return float(_antiderivative(x, depth) - _antiderivative(math.exp(log_x0), depth))


def _invert(span: float, x0: float, depth: int) -> float:
    """Return x between x0 and 1 with G(x) - G(x0) = span."""
    if span == 0 or x0 == 1:
        return x0
    begin = float(_antiderivative(x0, depth))
    # In the logarithm of x, so that a small start keeps its digits.
    end = math.log1p(math.copysign(4 * np.finfo(float).eps, x0 - 1))

    def late(log_x: float) -> float:
        return float(_antiderivative(math.exp(log_x), depth)) - begin - span

    if late(end) <= 0:  # closer to the target than float64 can tell
        return 1.0
    return math.exp(brentq(late, math.log(x0), end, xtol=1e-15, rtol=1e-15, maxiter=500))
