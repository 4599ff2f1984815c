r"""Descent with a constant step and what practice adds to it: noise, decay, spectral steps.

A batch of factorizations is stepped together:

.. math:: W_j \leftarrow (1 - \eta \kappa) W_j - \eta\, g_j ,

with :math:`g_j` the gradient in :math:`W_j`, or its polar factor; the gradient in the product
matrix may be disturbed first, as by stochastic batches or noise on the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dmf_utils._support import checks
from dmf_utils.factorization.product import factor_gradients, product_matrix
from dmf_utils.problems.base import Problem

__all__ = ["batch_noise", "label_noise", "noisy_descent", "polar_factor"]

Disturb = Callable[[Tensor], Tensor]


def noisy_descent(
    problem: Problem,
    factors: Sequence[Tensor],
    learning_rate: float | Callable[[int], float],
    n_steps: int,
    *,
    weight_decay: float = 0.0,
    disturb: Disturb | None = None,
    spectral: bool = False,
    look: Callable[[int, list[Tensor]], None] | None = None,
    look_every: int = 1,
) -> list[Tensor]:
    r"""Step a batch of factorizations, and look at it on the way.

    Parameters
    ----------
    problem : Problem
        One for the batch, or a stack.
    factors : [W_1, ..., W_N]
        Each (B, rows, columns).
    learning_rate : float or function of the step's number
        :math:`\eta`, positive.
    n_steps : int
        At least 1.
    weight_decay : float
        :math:`\kappa`, at least 0.
    disturb : function, optional
        Takes the gradient (B, d, d') in the product matrix, returns what is used in its place:
        see `batch_noise` and `label_noise`.
    spectral : bool
        Whether each factor's gradient is replaced by its polar factor, as in Muon without momentum.
    look : function, optional
        Called with the step's number and the factors, at step 0, every `look_every` steps and at
        the end. It must not keep the factors without a copy.
    look_every : int

    Returns
    -------
    list of Tensor
        The factors at the end.

    Raises
    ------
    ValueError
        For arguments out of range, or factors without a batch dimension.
    RuntimeError
        If the factors are no longer finite.
    """
    W = [checks.real_tensor(one, f"factors[{j}]").clone() for j, one in enumerate(factors)]
    if any(one.ndim != 3 for one in W):
        raise ValueError("factors must have shapes (B, rows, columns); take W.unsqueeze(0) for one")
    n_steps = checks.whole_number(n_steps, "n_steps", 1)
    look_every = checks.whole_number(look_every, "look_every", 1)
    decay = checks.number(weight_decay, "weight_decay", lambda x: x >= 0, "at least 0")
    rate = learning_rate if callable(learning_rate) else None
    constant = None if rate else checks.positive(learning_rate, "learning_rate")
    for step in range(n_steps):
        if look is not None and step % look_every == 0:
            look(step, W)
        eta = constant if rate is None else rate(step)
        gradient = problem.loss_and_gradient(product_matrix(W))[1]
        if disturb is not None:
            gradient = disturb(gradient)
        slopes = factor_gradients(W, gradient)
        if spectral:
            slopes = [polar_factor(slope) for slope in slopes]
        W = [(1 - eta * decay) * one - eta * slope for one, slope in zip(W, slopes, strict=True)]
    if not all(torch.isfinite(one).all() for one in W):
        raise RuntimeError("descent diverged; lower the learning rate")
    if look is not None:
        look(n_steps, W)
    return W


def polar_factor(matrices: Any) -> Tensor:
    r"""The polar factor :math:`U V^\top` of matrices :math:`U \Sigma V^\top`; zero stays zero.

    Parameters
    ----------
    matrices : (..., d, d') array

    Returns
    -------
    Tensor
        Singular values below 1e-12 of the largest are left out: they have no direction.
    """
    G = checks.real_tensor(matrices, "matrices")
    U, s, Vh = torch.linalg.svd(G, full_matrices=False)
    kept = (s > 1e-12 * s[..., :1]).to(G.dtype)
    return (U * kept[..., None, :]) @ Vh


def batch_noise(share: float, seed: int) -> Disturb:
    """Stochastic batches for completion: each step sees a random `share` of the observed entries.

    The gradient that is left is divided by `share`, so that its expectation is the full one.
    """
    share = checks.number(share, "share", lambda x: 0 < x <= 1, "above 0, at most 1")
    generator = torch.Generator().manual_seed(checks.whole_number(seed, "seed", 0))

    def disturb(gradient: Tensor) -> Tensor:
        seen = torch.rand(gradient.shape, generator=generator, dtype=gradient.dtype) < share
        return gradient * seen / share

    return disturb


def label_noise(operator: Any, size: float, scale: float, seed: int) -> Disturb:
    r"""Noise on the labels: each step sees :math:`y_i + \xi_i`, drawn anew.

    Parameters
    ----------
    operator : (m, d·d') array
        The measurement matrices as rows.
    size : float
        Standard deviation of :math:`\xi_i`.
    scale : float
        The number c in front of the loss's sum of squares.
    seed : int
    """
    A = checks.matrix(operator, "operator")
    size, scale = checks.positive(size, "size"), checks.positive(scale, "scale")
    generator = torch.Generator().manual_seed(checks.whole_number(seed, "seed", 0))

    def disturb(gradient: Tensor) -> Tensor:
        noise = torch.randn((len(gradient), len(A)), generator=generator, dtype=A.dtype)
        return gradient - (2 * scale * size) * (noise @ A).view(gradient.shape)

    return disturb
