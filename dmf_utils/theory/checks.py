"""Checks of arguments that the equations of the theory share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dmf_utils._support.checks import matrix, vector
from dmf_utils.factorization.product import balancedness_gap, product_matrix

# Factors are called balanced when their gap is below this, relative to the squared factors.
_BALANCED = 1e-9


def thin_decomposition(
    U: Any, s: Any, V: Any, gradient: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return thin singular vectors and values, and a gradient of the shape they imply."""
    gradient = matrix(gradient, "gradient")
    s = vector(s, "s")
    U = matrix(U, "U", (gradient.shape[0], s.shape[0]))
    V = matrix(V, "V", (gradient.shape[1], s.shape[0]))
    for name, vectors in (("U", U), ("V", V)):
        gap = (vectors.T @ vectors - torch.eye(s.shape[0], dtype=s.dtype)).abs().max()
        if gap > 1e-6:
            raise ValueError(
                f"the columns of {name} must be orthonormal, {name}^T {name} differs from the "
                f"identity by {gap:.1e}; take them from a singular value decomposition"
            )
    return U, s, V, gradient


def chain(factors: Sequence[Any]) -> list[Tensor]:
    """Return factors ``(d_j, d_{j-1})`` that fit to be multiplied, W_1 first."""
    matrices = [matrix(factor, f"factors[{j}]") for j, factor in enumerate(factors)]
    if not matrices:
        raise ValueError("factors must hold at least one matrix, got none")
    for j, (factor, following) in enumerate(pairwise(matrices)):
        if following.shape[1] != factor.shape[0]:
            raise ValueError(
                f"factors[{j + 1}] of shape {tuple(following.shape)} cannot multiply factors[{j}] "
                f"of shape {tuple(factor.shape)}; list W_1 first"
            )
    return matrices


def balanced_factors_of(factors: Sequence[Any] | None, W: Tensor, depth: int) -> None:
    """Refuse factors that do not multiply to ``W`` (d, d') or are not balanced; None passes."""
    if factors is None:
        return
    matrices = chain(factors)
    if len(matrices) != depth:
        raise ValueError(f"factors must hold depth = {depth} matrices, got {len(matrices)}")
    product = product_matrix(matrices)
    scale = torch.linalg.matrix_norm(W)
    if product.shape != W.shape or torch.linalg.matrix_norm(product - W) > _BALANCED * scale:
        raise ValueError("factors must multiply to the product matrix, W_N ... W_1 = W")
    squared = max(float(torch.linalg.matrix_norm(factor)) ** 2 for factor in matrices)
    gap = float(balancedness_gap(matrices))
    if gap > _BALANCED * squared:
        raise ValueError(
            f"factors must be balanced, their gap is {gap:.1e}: the equation holds for a balanced "
            "start only; take one from balanced_factors, or shrink the start"
        )


def increasing(value: Any, name: str) -> Tensor:
    """Return ``value`` as a vector of at least two strictly increasing numbers."""
    tensor = vector(value, name)
    if tensor.shape[0] < 2 or torch.any(tensor.diff() <= 0):
        raise ValueError(f"{name} must hold at least two increasing numbers; sort them")
    return tensor
