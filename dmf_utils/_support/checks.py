"""Checks of arguments, shared by the modules that state the theory.

Each check returns the argument in the form the mathematics needs, or raises an error that names
the argument, says what it got, and how to mend it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PIECE = 2**20  # numbers looked at together: torch would make a copy of all of them


def real_tensor(value: Any, name: str) -> Tensor:
    """Return ``value``, of any shape, as a float64 tensor with finite entries."""
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
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
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
    if isinstance(value, (str, bytes, bool)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, got {value!r}")
    result = float(value)
    if not (math.isfinite(result) and condition(result)):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return result


def positive(value: Any, name: str) -> float:
    """Return ``value`` as a finite float above zero."""
    return number(value, name, lambda x: x > 0, "a positive number")


def check_positive(**arguments: float | None) -> None:
    """Refuse an argument that is not a positive number; None passes."""
    for name, value in arguments.items():
        if value is not None:
            positive(value, name)


def as_float64(values: object, name: str) -> Tensor:
    """Return `values`, of any shape, in double precision; NaN and infinity pass."""
    try:
        # By NumPy: torch would round Python's floats to single precision.
        made = torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be numbers, got {type(values).__name__}") from error
    if made.is_complex():
        raise TypeError(f"{name} must be real, got {made.dtype}; pass its real part")
    return made.to(torch.float64)


def check_finite(name: str, values: Tensor) -> None:
    """Refuse NaN and infinite numbers in tensors of any shape."""
    pieces = values.reshape(-1).split(_PIECE)
    bad = sum(piece.numel() - int(torch.isfinite(piece).sum()) for piece in pieces)
    if bad:
        raise ValueError(
            f"{name} has {bad} NaN or infinite numbers; remove them, or leave those places "
            "unobserved"
        )
