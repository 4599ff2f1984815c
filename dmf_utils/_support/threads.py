"""How many threads multiply matrices: one for small products, everywhere.

Two threads that share a product of 100×100 wait for each other longer than they compute, and on a
busy machine a hundred times as long: each spins while the other has no processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import threadpoolctl
import torch

from dmf_utils._support.machine import stated_share

__all__ = ["few_threads", "numpy_library", "one_thread", "threads_for"]

SMALL = 300  # sizes below it are multiplied by one thread
_IS_LIMITED: ContextVar[bool] = ContextVar("is_limited", default=False)


@cache
def numpy_library() -> threadpoolctl.LibController | None:
    """OpenBLAS as numpy has it; None if it has another library.

    scipy, SCS and others bring one of their own, and which of them is listed first is chance.
    """
    found = [
        library
        for library in threadpoolctl.ThreadpoolController().lib_controllers
        if library.internal_api == "openblas"
    ]
    # In numpy.libs, or in numpy/.dylibs; what a whole environment shares is in neither.
    around = [Path(library.filepath).parts[-3:-1] for library in found]
    of_numpy = [any(part.startswith("numpy") for part in parts) for parts in around]
    shared = [not any(part.endswith((".libs", ".dylibs")) for part in parts) for parts in around]
    for wanted in (of_numpy, shared):
        for library, fits in zip(found, wanted, strict=True):
            if fits:
                return library
    return None


def threads_for(size: int) -> int:
    """How many threads multiply matrices of which this is the largest dimension."""
    if _IS_LIMITED.get():
        return 1
    share = stated_share()
    return 1 if size < SMALL else share or torch.get_num_threads()


@contextmanager
def few_threads(size: int) -> Iterator[None]:
    """One thread while matrices are small; for larger ones as many as there may be.

    Those are as many as before, or what the variable ``DMF_THREADS`` says: a process that is
    started with `one_thread_environment` computes all else in one thread.

    Parameters
    ----------
    size : int
        The largest dimension of the matrices that are multiplied; 1 for one thread in any case.
    """
    before, library, count = torch.get_num_threads(), numpy_library(), threads_for(size)
    before_in_numpy = 1 if library is None else library.num_threads
    torch.set_num_threads(count)
    if library is not None:
        library.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if library is not None:
            library.set_num_threads(before_in_numpy)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread while it lasts, whatever the size: the order of sums depends on no machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    token = _IS_LIMITED.set(True)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        _IS_LIMITED.reset(token)
        torch.set_num_threads(before)
