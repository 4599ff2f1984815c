"""Starts: rules that make the factors at time 0."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dmf_utils._support.checks import number, whole_number
from dmf_utils.factorization.product import product_matrix

__all__ = ["Start", "balanced", "balanced_factors", "gaussian", "identity"]


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
        whole_number(self.seed, "seed", 0)

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
        whole_number(self.seed, "seed", 0)

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
    shape = whole_number(shape[0], "shape[0]", 1), whole_number(shape[1], "shape[1]", 1)
    depth = whole_number(depth, "depth", 1)
    hidden = min(shape) if hidden is None else whole_number(hidden, "hidden", 1)
    if hidden < min(shape) and depth > 1:
        warnings.warn(
            f"hidden = {hidden} is below min(d, d') = {min(shape)}: the factorization limits the "
            "rank, which the paper's model does not; leave hidden out for a full-dimensional one",
            stacklevel=3,
        )
    rows, columns = shape
    sizes = [columns, *[hidden] * (depth - 1), rows]
    return [(sizes[j + 1], sizes[j]) for j in range(depth)]


def _check_norm(norm: float) -> None:
    wanted = (
        "a positive number (the Frobenius norm of the product matrix at time 0; zero is a saddle "
        "that the flow never leaves)"
    )
    number(norm, "norm", lambda x: x > 0, wanted)
