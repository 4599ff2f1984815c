"""Where the time of a gradient goes, and how it grows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from dmf_utils import MatrixCompletion, gaussian
from dmf_utils._support.threads import few_threads
from dmf_utils.flow.batch import prepare
from dmf_utils.sweep.cost import least_seconds

_TOGETHER = 0.2  # seconds of repeats


def peak_fraction() -> None:
    """The rate of the inner loop beside that of one large, and one small, matrix product."""
    large = torch.randn(1500, 1500, dtype=torch.float64)
    small = torch.randn(100, 100, dtype=torch.float64)
    peak = 2 * 1500**3 / least_seconds(lambda: large @ large, _TOGETHER)
    product = 2 * 100**3 / least_seconds(lambda: small @ small, _TOGETHER)
    print(
        f"\nMatrix products on one thread: {peak / 1e9:.1f} GFLOP/s at 1500×1500, "
        f"{product / 1e9:.1f} at 100×100"
    )
    for depth in (2, 3, 4):
        spent = _gradient_seconds(100, depth, 8)
        rate = (3 * depth - 3) * 2 * 100**3 / spent
        print(
            f"  gradient at depth {depth}, batch of 8: {1e3 * spent:.3f} ms a factorization, "
            f"{rate / 1e9:.1f} GFLOP/s in its products: {rate / peak:.0%} of the peak, "
            f"{rate / product:.0%} of products of this size"
        )


def growth() -> None:
    """Time of one gradient a factorization: against size, depth and batch.

    Runs of completion are stepped in batches for the sake of small matrices: eight whole runs
    at depth 2 and 3 took 1.7 to 1.8 times as long one by one at n = 20, 1.3 to 1.6 times at n = 40
    (processor time, one thread, gradients in single precision). At n = 100 products take the time,
    and a batch gains nothing (0.9 to 1.0 times).
    """
    print("\nOne gradient, milliseconds a factorization")
    print("  n, depth 3, batch 1:     " + _line((50, 100, 200, 400), lambda n: (n, 3, 1)))
    print("  depth, n = 100, batch 1: " + _line((2, 3, 4, 5, 6), lambda depth: (100, depth, 1)))
    print("  batch, n = 100, depth 3: " + _line((1, 2, 4, 8, 16, 32, 64), lambda b: (100, 3, b)))


def _line(values: tuple[int, ...], case: Callable[[int], tuple[int, int, int]]) -> str:
    return ", ".join(f"{v}: {1e3 * _gradient_seconds(*case(v)):.3f}" for v in values)


def _gradient_seconds(n: int, depth: int, batch: int) -> float:
    problem = MatrixCompletion.random((n, n), 5, n * n // 5, 0)
    starts = [gaussian(1e-2, seed) for seed in range(batch)]
    made, states, _ = prepare(problem, depth, starts, None, "cpu", torch.float64)
    out = torch.empty_like(states)
    with few_threads(100):
        return least_seconds(lambda: made.gradient(states, out=out), _TOGETHER) / batch
