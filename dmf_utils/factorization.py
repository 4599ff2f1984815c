r"""Deep matrix factorizations :math:`W = W_N \cdots W_1`: starts, product, gradients, balancedness.

Factors are listed first to last, ``[W_1, ..., W_N]``: ``W_1`` has shape ``(hidden, d')``, ``W_N``
shape ``(d, hidden)``, those between ``(hidden, hidden)``; at depth 1 there is one, ``(d, d')``.
"""

from __future__ import annotations

import functools
import math
import operator
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Start",
    "balanced",
    "balanced_factors",
    "balancedness_gap",
    "factor_gradients",
    "gaussian",
    "identity",
    "product_matrix",
]


class Start(Protocol):
    """A rule that makes the factors at time 0."""

    def factors(
        self, shape: tuple[int, int], depth: int, hidden: int | None = None
    ) -> list[Tensor]: ...


@dataclass(frozen=True)
class gaussian:
    r"""Start with independent Gaussian entries, rescaled to a given norm of the product matrix.

    The entries of a factor are drawn with variance one over its number of columns; then all factors
    are multiplied by the same number, so that :math:`\|W(0)\|_F` is `norm`. Not balanced, but the
    nearer to it the smaller `norm` is.

    Parameters
    ----------
    norm : float
        Frobenius norm of the product matrix at time 0, positive.
    seed : int
        Seed of the draw.
    """

    norm: float
    seed: int

    def __post_init__(self) -> None:
        _check_norm(self.norm)
        _check_size("seed", self.seed, 0)

    def factors(
        self, shape: tuple[int, int], depth: int, hidden: int | None = None
    ) -> list[Tensor]:
        """Factors ``[W_1, ..., W_N]`` for a product matrix of this `shape`."""
        rng = np.random.default_rng([self.seed, _START_STREAM])
        drawn = [
            torch.from_numpy(rng.standard_normal(size) / math.sqrt(size[1]))
            for size in factor_shapes(shape, depth, hidden)
        ]
        scale = (self.norm / torch.linalg.matrix_norm(product_matrix(drawn))) ** (1 / depth)
        return [scale * W for W in drawn]


@dataclass(frozen=True)
class identity:
    r"""Start :math:`W_j(0) = \alpha I`, the same :math:`\alpha` for all factors; balanced.

    Where a factor is not square, the identity is that of size ``min(d, d')``, bordered by zeros:
    so the start stays balanced, and :math:`\|W(0)\|_F = \alpha^N \sqrt{\min(d, d')}`.

    Parameters
    ----------
    norm : float
        Frobenius norm of the product matrix at time 0, positive.
    """

    norm: float

    def __post_init__(self) -> None:
        _check_norm(self.norm)

    def factors(
        self, shape: tuple[int, int], depth: int, hidden: int | None = None
    ) -> list[Tensor]:
        """Factors ``[W_1, ..., W_N]`` for a product matrix of this `shape`."""
        sizes = factor_shapes(shape, depth, hidden)
        rank = min(min(size) for size in sizes)
        alpha = (self.norm / math.sqrt(rank)) ** (1 / depth)
        made = [torch.zeros(size, dtype=torch.float64) for size in sizes]
        for W in made:
            W[:rank, :rank].fill_diagonal_(alpha)
        return made


@dataclass(frozen=True)
class balanced:
    r"""Balanced start whose product matrix is a rescaled Gaussian matrix.

    Parameters
    ----------
    norm : float
        Frobenius norm of the product matrix at time 0, positive.
    seed : int
        Seed of the draw.
    """

    norm: float
    seed: int

    def __post_init__(self) -> None:
        _check_norm(self.norm)
        _check_size("seed", self.seed, 0)

    def factors(
        self, shape: tuple[int, int], depth: int, hidden: int | None = None
    ) -> list[Tensor]:
        """Factors ``[W_1, ..., W_N]`` for a product matrix of this `shape`."""
        sizes = factor_shapes(shape, depth, hidden)
        rank = min(min(size) for size in sizes)
        rng = np.random.default_rng([self.seed, _START_STREAM])
        # Drawn as a product through `rank`, so that a narrow hidden size can hold it.
        W = torch.from_numpy(rng.standard_normal(tuple(shape)))
        if rank < min(shape):
            U, s, Vh = torch.linalg.svd(W, full_matrices=False)
            W = (U[:, :rank] * s[:rank]) @ Vh[:rank]
        return balanced_factors(W * (self.norm / torch.linalg.matrix_norm(W)), depth, hidden)


_START_STREAM = 1  # keeps a start's random numbers apart from those of a problem of the same seed


def balanced_factors(W: Tensor, depth: int, hidden: int | None = None) -> list[Tensor]:
    r"""Balanced factors of a given product matrix.

    With the singular value decomposition :math:`W = U S V^\top` they are
    :math:`W_1 = S^{1/N} V^\top,\; W_j = S^{1/N},\; W_N = U S^{1/N}`, bordered by zeros up to
    the hidden size. All :math:`W_{j+1}^\top W_{j+1} - W_j W_j^\top` vanish.

    Parameters
    ----------
    W : Tensor, shape (d, d')
    depth : int
        Number of factors N, at least 1.
    hidden : int, optional
        Hidden size, default ``min(d, d')``.

    Returns
    -------
    list of Tensor
        ``[W_1, ..., W_N]``.

    Raises
    ------
    ValueError
        If the rank of `W` exceeds the hidden size, or `W` is no matrix of finite numbers.

    References
    ----------
    S. Arora, N. Cohen, E. Hazan, *On the Optimization of Deep Networks*, ICML 2018, the
    construction of balanced initialization.
    """
    W = torch.as_tensor(W, dtype=torch.float64)
    if W.ndim != 2:
        raise ValueError(f"W must be a matrix (d, d'), got shape {tuple(W.shape)}")
    if not torch.isfinite(W).all():
        raise ValueError("W has NaN or infinite entries; replace or remove them")
    sizes = factor_shapes(tuple(W.shape), depth, hidden)
    if depth == 1:
        return [W.clone()]
    U, s, Vh = torch.linalg.svd(W, full_matrices=False)
    width = sizes[0][0]
    kept = min(width, s.numel())
    floor = max(W.shape) * torch.finfo(W.dtype).eps * s[0]
    if (s[kept:] > floor).any():
        raise ValueError(
            f"hidden = {width} is below the rank {int((s > floor).sum())} of W; use a larger one"
        )
    # What is zero but for rounding must be zero in the factors: (1e-16)^(1/4) is 1e-4.
    root = torch.where(s > floor, s, 0.0)[:kept] ** (1 / depth)
    first, middle, last = (
        torch.zeros(z, dtype=W.dtype) for z in (sizes[0], (width,) * 2, sizes[-1])
    )
    first[:kept] = root[:, None] * Vh[:kept]
    middle[:kept, :kept] = torch.diag(root)
    last[:, :kept] = U[:, :kept] * root
    return [first, *(middle.clone() for _ in range(depth - 2)), last]


def product_matrix(factors: Sequence[Tensor]) -> Tensor:
    r"""Product matrix :math:`W = W_N \cdots W_1`.

    Parameters
    ----------
    factors : sequence of Tensor
        ``[W_1, ..., W_N]``, each of shape ``(..., d_j, d_{j-1})``.

    Returns
    -------
    Tensor, shape (..., d_N, d_0)
    """
    return functools.reduce(lambda W, factor: factor @ W, factors)


def factor_gradients(factors: Sequence[Tensor], gradient: Tensor) -> list[Tensor]:
    r"""Gradients of :math:`\varphi(W_1, \dots, W_N) = \ell(W_N \cdots W_1)`.

    .. math:: \partial\varphi/\partial W_j
        = (W_N \cdots W_{j+1})^\top \, \nabla\ell(W) \, (W_{j-1} \cdots W_1)^\top

    from the prefix products and one sweep back: 3N - 3 matrix products in all, the product matrix
    included.

    Parameters
    ----------
    factors : sequence of Tensor
        ``[W_1, ..., W_N]``, each of shape ``(..., d_j, d_{j-1})``.
    gradient : Tensor, shape (..., d_N, d_0)
        :math:`\nabla\ell` at the product matrix.

    Returns
    -------
    list of Tensor
        One gradient a factor, of the factor's shape.
    """
    out = [torch.empty_like(W) for W in factors]
    flat = [[W.reshape(-1, *W.shape[-2:]) for W in several] for several in (factors, out)]
    prefixes = prefix_products(flat[0])
    sweep_back(flat[0], prefixes, gradient.reshape(prefixes[-1].shape), flat[1])
    return out


def balancedness_gap(factors: Sequence[Tensor]) -> Tensor:
    r"""Largest :math:`\|W_{j+1}^\top W_{j+1} - W_j W_j^\top\|_F` over :math:`j`; 0 at depth 1.

    Gradient flow conserves every one of these matrices from any start; the start is called
    balanced if they all vanish (section 3 of the paper).

    Parameters
    ----------
    factors : sequence of Tensor
        ``[W_1, ..., W_N]``, each of shape ``(..., d_j, d_{j-1})``.

    Returns
    -------
    Tensor, shape (...)
    """
    if len(factors) < 2:
        return factors[0].new_zeros(factors[0].shape[:-2])
    gaps = [
        torch.linalg.matrix_norm(upper.mT @ upper - lower @ lower.mT)
        for lower, upper in pairwise(factors)
    ]
    return torch.stack(gaps).amax(0)


def factor_shapes(
    shape: tuple[int, int], depth: int, hidden: int | None = None
) -> list[tuple[int, int]]:
    """Shapes of ``[W_1, ..., W_N]``; a hidden size below ``min(d, d')`` is allowed, but said.

    Raises
    ------
    ValueError
        If `depth` or `hidden` is below 1, or `shape` is not two positive sizes.
    TypeError
        If one of them is not a whole number.
    """
    if len(shape) != 2:
        raise ValueError(f"shape must be two positive sizes (d, d'), got {tuple(shape)!r}")
    shape = _check_size("shape[0]", shape[0], 1), _check_size("shape[1]", shape[1], 1)
    depth = _check_size("depth", depth, 1)
    hidden = min(shape) if hidden is None else _check_size("hidden", hidden, 1)
    if hidden < min(shape) and depth > 1:
        warnings.warn(
            f"hidden = {hidden} is below min(d, d') = {min(shape)}: the factorization limits the "
            "rank, which the paper's model does not; leave hidden out for a full-dimensional one",
            stacklevel=3,
        )
    rows, columns = shape
    sizes = [columns, *[hidden] * (depth - 1), rows]
    return [(sizes[j + 1], sizes[j]) for j in range(depth)]


def prefix_products(factors: Sequence[Tensor]) -> list[Tensor]:
    """``[W_1, W_2 W_1, ..., W_N ... W_1]`` of factors ``(B, d_j, d_{j-1})``."""
    prefixes = [factors[0]]
    for W in factors[1:]:
        prefixes.append(torch.bmm(W, prefixes[-1]))
    return prefixes


def sweep_back(
    factors: Sequence[Tensor], prefixes: Sequence[Tensor], gradient: Tensor, out: Sequence[Tensor]
) -> None:
    """Write the gradients into `out`, given the prefix products; the engine's inner loop."""
    for j in range(len(factors) - 1, 0, -1):
        torch.bmm(gradient, prefixes[j - 1].mT, out=out[j])
        # The last of these products is the first factor's gradient, and goes where it belongs.
        gradient = torch.bmm(factors[j].mT, gradient, out=out[0] if j == 1 else None)
    if len(factors) == 1:
        out[0].copy_(gradient)


def _check_size(name: str, value: int, minimum: int) -> int:
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if size < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
    return size


def _check_norm(norm: float) -> None:
    if isinstance(norm, (str, bool)) or not hasattr(norm, "__float__"):
        raise TypeError(f"norm must be a number, got {norm!r}")
    if not (math.isfinite(norm) and norm > 0):
        raise ValueError(
            f"norm must be a positive number (the Frobenius norm of the product matrix at time 0), "
            f"got {norm!r}; zero is a saddle that the flow never leaves"
        )
