r"""One singular value as a function of another, when there is a single measurement.

The singular vectors of the product matrix stay those of the measurement, and time can be eliminated
between the equations of two singular values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmf_utils._support import checks

__all__ = ["one_measurement_asymptote", "one_measurement_relation"]


def one_measurement_relation(
    other: Any, other_start: float, start: float, ratio: float, depth: int
) -> Tensor:
    r"""Compute one singular value from another, under a single measurement.

    The loss is :math:`\ell(W) = \frac12 (\langle A, W \rangle - y)^2`, and the start is balanced
    with singular vectors those of :math:`A = \sum_r \rho_r u_r v_r^\top`. With
    :math:`q = \rho_r / \rho_{r'}` and :math:`b = (N - 2) / N`,

    .. math::
        N = 1 &: \quad \sigma_r = \sigma_r(0) + q \, (\sigma_{r'} - \sigma_{r'}(0)), \\
        N = 2 &: \quad \sigma_r = \sigma_r(0) \, (\sigma_{r'} / \sigma_{r'}(0))^q, \\
        N \ge 3 &: \quad \sigma_r^{-b} = \sigma_r(0)^{-b}
                         + q \, (\sigma_{r'}^{-b} - \sigma_{r'}(0)^{-b}).

    Parameters
    ----------
    other : (T,) vector or number
        Values of :math:`\sigma_{r'}`; positive for depth 2 and more.
    other_start : float
        :math:`\sigma_{r'}(0)`; positive for depth 2 and more.
    start : float
        :math:`\sigma_r(0)`; positive for depth 2 and more.
    ratio : float
        :math:`q`, of any sign.
    depth : int
        The number of factors, at least 1.

    Returns
    -------
    tensor of the shape of ``other``
        The values of :math:`\sigma_r`.

    Raises
    ------
    ValueError
        If a singular value must be positive and is not, or if :math:`\sigma_r` has diverged before
        :math:`\sigma_{r'}` reaches a value asked for, which can happen for depth 3 and more.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), discussion of Theorem 3.
    """
    depth = checks.whole_number(depth, "depth", 1)
    other = checks.real_tensor(other, "other")
    ratio = checks.number(ratio, "ratio")
    if depth == 1:
        other_start = checks.number(other_start, "other_start")
        return checks.number(start, "start") + ratio * (other - other_start)
    other_start = checks.positive(other_start, "other_start")
    start = checks.positive(start, "start")
    if torch.any(other <= 0):
        raise ValueError(
            f"other must be positive for depth {depth}, got {other.min():g}: "
            "singular values that start positive stay so"
        )
    if depth == 2:
        return start * (other / other_start) ** ratio
    b = (depth - 2) / depth
    power = start**-b + ratio * (other**-b - other_start**-b)
    if torch.any(power <= 0):
        raise ValueError(
            f"other asks for {other[power <= 0].min():g}, which it never reaches: "
            "with this ratio and these starts the wanted singular value diverges before"
        )
    return power ** (-1 / b)


def one_measurement_asymptote(other_start: float, start: float, ratio: float, depth: int) -> Tensor:
    r"""Compute where a singular value stops while another grows without bound, for depth 3 or more.

    .. math::
        \lim_{\sigma_{r'} \to \infty} \sigma_r
        = \left( \sigma_r(0)^{-b} - q \, \sigma_{r'}(0)^{-b} \right)^{-1/b}, \qquad b = (N - 2) / N

    Parameters
    ----------
    other_start : float
        :math:`\sigma_{r'}(0)`, positive.
    start : float
        :math:`\sigma_r(0)`, positive.
    ratio : float
        :math:`q = \rho_r / \rho_{r'}`.
    depth : int
        The number of factors, at least 3; shallower factorizations have no asymptote.

    Returns
    -------
    0-dimensional tensor
        The limit of :math:`\sigma_r`.

    Raises
    ------
    ValueError
        If ``depth`` is below 3, a start is not positive, or :math:`\sigma_r` is the one that
        outgrows the other: the difference in the bracket is then not positive.

    References
    ----------
    Arora, Cohen, Hu and Luo (2019), discussion of Theorem 3.
    """
    depth = checks.whole_number(depth, "depth", 3, "linear and polynomial growth have no asymptote")
    other_start = checks.positive(other_start, "other_start")
    start = checks.positive(start, "start")
    ratio = checks.number(ratio, "ratio")
    b = (depth - 2) / depth
    power = start**-b - ratio * other_start**-b
    if power <= 0:
        raise ValueError(
            f"with ratio {ratio:g}, start {start:g} and other_start {other_start:g} the wanted "
            "singular value outgrows the other and has no asymptote; exchange the two"
        )
    return torch.tensor(power ** (-1 / b), dtype=torch.float64)
