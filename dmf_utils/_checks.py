"""Checks of arguments, shared by the modules that state the theory.

Each check returns the argument in the form the mathematics needs, or raises an error that names
the argument, says what it got, and how to mend it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmf_utils.factorization import balancedness_gap, product_matrix

# Factors are called balanced when their gap is below this, relative to the squared factors.
_BALANCED = 1e-9


def real_tensor(value: Any, name: str) -> Tensor:
    """Return ``value`` as a float64 tensor with finite entries."""
    try:
        # By NumPy: torch would read Python's floats in its own default precision.
        tensor = torch.as_tensor(value if isinstance(value, Tensor) else np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be numbers that torch.as_tensor accepts, got {type(value).__name__}"
        ) from error
    if tensor.is_complex():
        raise TypeError(f"{name} must be real, got {tensor.dtype}; pass its real part")
    tensor = tensor.to(torch.float64)
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} has entries that are NaN or infinite; replace or remove them")
    return tensor


def matrix(value: Any, name: str, shape: tuple[int, int] | None = None) -> Tensor:
    """Return ``value`` as a matrix, of the given shape if one is given."""
    tensor = real_tensor(value, name)
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(f"{name} must be a non-empty matrix, got shape {tuple(tensor.shape)}")
    if shape is not None and tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    return tensor


def vector(value: Any, name: str, length: int | None = None) -> Tensor:
    """Return ``value`` as a vector, of the given length if one is given."""
    tensor = real_tensor(value, name)
    if tensor.ndim != 1 or (length is not None and tensor.shape[0] != length):
        wanted = "a vector" if length is None else f"a vector of length {length}"
        raise ValueError(f"{name} must be {wanted}, got shape {tuple(tensor.shape)}")
    return tensor


def whole_number(value: Any, name: str, minimum: int, why: str = "") -> int:
    """Return ``value`` as an int that is at least ``minimum``."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} must be an integer, got {value!r}") from error
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}{why and ': ' + why}")
    return number


def number(
    value: Any,
    name: str,
    condition: Callable[[float], bool] = math.isfinite,
    wanted: str = "finite",
) -> float:
    """Return ``value`` as a finite float that fulfils ``condition``, worded as ``wanted``."""
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number, got {value!r}") from error
    if not (math.isfinite(result) and condition(result)):
        raise ValueError(f"{name} must be {wanted}, got {result}")
    return result


def positive(value: Any, name: str) -> float:
    """Return ``value`` as a finite float above zero."""
    return number(value, name, lambda x: x > 0, "a positive number")


def decomposition(U: Any, s: Any, V: Any, gradient: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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
    """Return factors that fit to be multiplied, W_1 first."""
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
    """Refuse factors that do not multiply to ``W`` or are not balanced; None passes."""
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
