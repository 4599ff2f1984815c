r"""Depth 2 from unbalanced starts, in closed form: lambda-balanced factors.

Two factors are *lambda-balanced* if :math:`W_2^\top W_2 - W_1 W_1^\top = \lambda I`. The flow keeps
that. For a target :math:`Y` that is seen in full, with the loss
:math:`\ell(W) = \tfrac12 \|W - Y\|_F^2`, the stacked factor :math:`Q = (W_1^\top; W_2)` then obeys

.. math:: \dot Q = F Q - \tfrac12 Q Q^\top Q, \qquad
    F = \begin{pmatrix} -\lambda I / 2 & Y^\top \\ Y & \lambda I / 2 \end{pmatrix},

so that :math:`Q Q^\top` solves a Riccati equation, which has a closed form.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_utils._support import checks

__all__ = ["lambda_balanced_flow", "lambda_balanced_start", "tangent_kernel"]


def lambda_balanced_start(
    shape: tuple[int, int], imbalance: float, norm: float, seed: int
) -> list[Tensor]:
    r"""Random factors with :math:`W_2^\top W_2 - W_1 W_1^\top = \lambda I` and a given product.

    Parameters
    ----------
    shape : (int, int)
        ``(d, d')`` of the product matrix. The hidden size is ``min(d, d')``.
    imbalance : float
        :math:`\lambda`. Positive: the last factor is the larger one.
    norm : float
        Frobenius norm of the product matrix at time 0, positive.
    seed : int

    Returns
    -------
    list of Tensor
        ``[W_1, W_2]``.

    Raises
    ------
    ValueError
        For arguments out of range.
    """
    d, d_prime = (checks.whole_number(size, "shape", 1) for size in shape)
    imbalance = checks.number(imbalance, "imbalance")
    norm = checks.positive(norm, "norm")
    rng = np.random.default_rng(checks.whole_number(seed, "seed", 0))
    drawn = torch.from_numpy(rng.standard_normal((d, d_prime)))
    U, s, Vh = torch.linalg.svd(
        drawn * (norm / torch.linalg.matrix_norm(drawn)), full_matrices=False
    )
    # Sizes a, b with a b = s and a^2 - b^2 = imbalance; the larger one has no cancellation.
    large = torch.sqrt((torch.sqrt(imbalance**2 + 4 * s.square()) + abs(imbalance)) / 2)
    small = s / large
    last, first = (large, small) if imbalance >= 0 else (small, large)
    turn = torch.linalg.qr(torch.from_numpy(rng.standard_normal((len(s), len(s))))).Q
    return [turn @ (first[:, None] * Vh), (U * last) @ turn.T]


def lambda_balanced_flow(factors: Any, target: Any, times: Any) -> Tensor:
    r"""The product matrix of gradient flow on :math:`\tfrac12 \|W_2 W_1 - Y\|_F^2`, exactly.

    .. math:: Q Q^\top(t) = e^{Ft} Q_0 \Bigl(I + Q_0^\top \int_0^t e^{2 F s}\,\mathrm ds\; Q_0
        \Bigr)^{-1} Q_0^\top e^{Ft} ,

    whose lower left block is the product matrix.

    Parameters
    ----------
    factors : [W_1, W_2]
        Lambda-balanced, of any shapes that chain.
    target : (d, d') array
        :math:`Y`.
    times : (T,) array
        At least 0.

    Returns
    -------
    Tensor, shape (T, d, d')

    Raises
    ------
    ValueError
        If the factors are not lambda-balanced, the shapes do not fit, or a time is negative.

    References
    ----------
    K. Fukumizu (1998); L. Braun et al., *Exact learning dynamics of deep linear networks with prior
    knowledge*, NeurIPS 2022; C. Dominé et al., *From lazy to rich*, ICLR 2025.
    """
    if len(factors) != 2:
        raise ValueError(f"factors must be [W_1, W_2], got {len(factors)} factors")
    first, last = (checks.matrix(W, f"factors[{j}]") for j, W in enumerate(factors))
    if last.shape[1] != first.shape[0]:
        raise ValueError(f"factors do not chain: {tuple(last.shape)}, {tuple(first.shape)}")
    Y = checks.matrix(target, "target", (last.shape[0], first.shape[1]))
    t = checks.vector(times, "times")
    if (t < 0).any():
        raise ValueError(f"times must be at least 0, the least is {float(t.min())}")
    gap = last.T @ last - first @ first.T
    imbalance = float(gap.diagonal().mean())
    apart = float((gap - imbalance * torch.eye(len(gap), dtype=gap.dtype)).abs().max())
    scale = float(last.square().sum() + first.square().sum())
    if apart > 1e-9 * scale:
        raise ValueError(
            f"factors are not lambda-balanced: W_2^T W_2 - W_1 W_1^T differs from a multiple of "
            f"the identity by {apart:.1e}; make them with lambda_balanced_start"
        )
    d, d_prime = Y.shape
    half = torch.cat([torch.full((d_prime,), -imbalance / 2), torch.full((d,), imbalance / 2)])
    F = torch.diag(half.to(torch.float64))
    F[d_prime:, :d_prime], F[:d_prime, d_prime:] = Y, Y.T
    rates, vectors = torch.linalg.eigh(F)
    Q = vectors.T @ torch.cat([first.T, last])
    found, now = [], 0.0
    order = t.argsort()
    for moment in t[order].tolist():
        # In pieces: over long times growing and shrinking directions would drown each other.
        pieces = max(1, math.ceil((moment - now) * float(rates.abs().max())))
        for _ in range(pieces):
            Q = _advanced(Q, (moment - now) / pieces, rates)
        now = moment
        found.append(Q)
    turned = (vectors @ torch.stack(found))[order.argsort()]
    return turned[:, d_prime:] @ turned[:, :d_prime].mT


def _advanced(Q: Tensor, span: float, rates: Tensor) -> Tensor:
    """A stacked factor after some time, up to a rotation from the right; in F's eigenbasis."""
    # (e^(2 r t) - 1) / (2 r), which is t where r is 0.
    x = 2 * rates * span
    integral = span * torch.where(x.abs() < 1e-12, 1.0, torch.expm1(x) / x.where(x != 0, 1.0))
    # With I + Q^T integral Q = R^T R, the new factor is e^(r t) Q R^(-1).
    stacked = torch.cat([torch.eye(Q.shape[1], dtype=Q.dtype), integral.sqrt()[:, None] * Q])
    R = torch.linalg.qr(stacked, mode="r").R
    grown = torch.exp(rates * span)[:, None] * Q
    return torch.linalg.solve_triangular(R, grown, upper=True, left=False)


def tangent_kernel(factors: Any) -> Tensor:
    r"""The tangent kernel :math:`W_2 W_2^\top \otimes I + I \otimes W_1^\top W_1` of two factors.

    The product matrix, its rows laid end to end, moves at minus the kernel times the gradient. A
    kernel that stays as it was at time 0 is the *lazy* regime.

    Parameters
    ----------
    factors : [W_1, W_2]

    Returns
    -------
    Tensor, shape (d·d', d·d')
    """
    first, last = (checks.matrix(W, f"factors[{j}]") for j, W in enumerate(factors))
    rows, columns = last @ last.T, first.T @ first
    eye = torch.eye
    return torch.kron(rows, eye(len(columns), dtype=rows.dtype)) + torch.kron(
        eye(len(rows), dtype=rows.dtype), columns
    )
