"""The library with which numpy multiplies, and where it is faster than the one of torch.

On processors of AMD with AVX-512, numpy's OpenBLAS multiplies matrices of 100 rows 1.1 (single
precision) to 1.3 times (double) as fast as torch's MKL, and matrices of 1000 rows 1.4 times.
That is on one thread: the threads of the two libraries wait for each other. Elsewhere nothing was
measured, and torch is left alone. The choice depends on nothing but the processor, the libraries
and the threads, so that the last digits of a result do not depend on the hour.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dmf_utils._support.machine import processor
from dmf_utils._support.threads import numpy_library, threads_for

__all__ = [
    "BY_TORCH",
    "Products",
    "by_numpy",
    "fastest_products",
    "multiply",
    "outruns_torch",
]

_LEAST_BY_NUMPY = 100_000  # multiplications: of fewer, the handling of arrays takes longer
_LARGE = 300  # rows, columns and inner size: by smaller transposed ones, torch is faster

_WITH_AVX_512 = {"SkylakeX", "Cooperlake", "SapphireRapids", "Sapphirerapids"}


@cache
def outruns_torch() -> bool:
    """Whether it is known to multiply faster than the library of torch."""
    library = numpy_library()
    has_kernels = library is not None and library.architecture in _WITH_AVX_512
    return has_kernels and torch.backends.mkl.is_available() and "AMD" in processor()


def by_numpy(A: Tensor, B: Tensor, out: Tensor | None = None) -> Tensor:
    """`A B` by numpy's library, for matrices or batches of them that autograd does not follow."""
    if out is None:
        return torch.from_numpy(np.matmul(A.numpy(), B.numpy()))
    np.matmul(A.numpy(), B.numpy(), out=out.numpy())
    return out


class Products(NamedTuple):
    """How matrices of some size are multiplied: functions of two and of ``out=``.

    Attributes
    ----------
    plain, by_transposed : callable
        With a matrix whose rows are contiguous on the right, and with one whose columns are.
    """

    plain: Callable[..., Tensor]
    by_transposed: Callable[..., Tensor]


BY_TORCH = Products(torch.bmm, torch.bmm)


def fastest_products(rows: int, inner: int, columns: int) -> Products:
    """The way that is known to be fastest for matrices ``(rows, inner)`` and ``(inner, columns)``.

    They must be real, in the processor's memory, and autograd must not follow them.
    """
    if rows * inner * columns < _LEAST_BY_NUMPY or not outruns_torch():
        return BY_TORCH
    if threads_for(max(rows, inner, columns)) > 1:
        return BY_TORCH
    is_large = min(rows, inner, columns) >= _LARGE
    return Products(by_numpy, by_numpy if is_large else torch.bmm)


def multiply(A: Tensor, B: Tensor, out: Tensor | None = None) -> Tensor:
    """`A B` of two real matrices, the fastest way that is known."""
    is_plain = A.device.type == "cpu" and not (A.requires_grad or B.requires_grad)
    products = fastest_products(*A.shape, B.shape[1]) if is_plain else BY_TORCH
    chosen = products.plain if B.stride(1) == 1 else products.by_transposed
    return by_numpy(A, B, out) if chosen is by_numpy else torch.mm(A, B, out=out)
