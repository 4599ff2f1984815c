"""How time and memory of one run grow with size and depth, and where one machine ends."""

from __future__ import annotations

import argparse
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from benchmarks.memory import peak_bytes
from dmf_utils import MatrixCompletion, Settings, gaussian, gradient_flow
from dmf_utils._support.machine import hardware, memory_in_bytes
from dmf_utils._support.threads import one_thread

SIZES = (50, 100, 200, 400, 800, 1600)
DEPTHS = (2, 3, 4, 5, 6)
_RANK, _SHARE, _DEPTH, _SIZE = 5, 0.2, 3, 400  # observed: a share of the entries
_WHOLE = 400  # rows up to which a run is made to its end
_FEW = 30  # gradients of a run that is not


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    n: int
    depth: int
    milliseconds: float  # a gradient, with all that a step needs beside it
    n_gradients: int | None  # to loss 1e-6; None if the run was not made to its end
    mebibytes: float  # at the peak, beyond what a run of 8 × 8 takes

    def row(self) -> str:
        count = "–" if self.n_gradients is None else str(self.n_gradients)
        return (
            f"| {self.n} | {self.depth} | {self.milliseconds:.3g} | {count} | "
            f"{self.mebibytes:.0f} |"
        )


def cost(n: int, depth: int) -> Cost:
    """Of the paper's kind of problem with `n` rows and columns; in a process of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gradient_flow(
            MatrixCompletion.random((8, 8), 1, 20, seed=0),
            depth,
            settings=Settings(max_gradients=99),
        )
    before = peak_bytes()
    problem = MatrixCompletion.random((n, n), _RANK, round(_SHARE * n * n), seed=0)
    is_whole, start = n <= _WHOLE and depth <= _DEPTH, gaussian(1e-2, seed=0)
    most = 1_000_000_000 if is_whole else _FEW
    begin = time.process_time()  # of one core: other work on the machine counts less
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore", RuntimeWarning)  # that a run was stopped is intended
        run = gradient_flow(problem, depth, start, 1e-6, settings=Settings(max_gradients=most))
    spent = 1e3 * (time.process_time() - begin) / run.n_gradients
    return Cost(
        n, depth, spent, run.n_gradients if is_whole else None, (peak_bytes() - before) / 2**20
    )


def table() -> list[Cost]:
    """Sizes at one depth, then depths at one size; printed as they come."""
    print(f"\nGrowth: rank {_RANK}, {_SHARE:.0%} of the entries observed; {hardware()}")
    print("| n | depth | ms a gradient | gradients to loss 1e-6 | MiB |\n|---|---|---|---|---|")
    found = []
    cases = [(n, _DEPTH) for n in SIZES] + [(_SIZE, d) for d in DEPTHS if d != _DEPTH]
    for n, depth in cases:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            found.append(process.submit(cost, n, depth).result())
        print(found[-1].row(), flush=True)
    print(_end(found))
    return found


def _end(found: list[Cost]) -> str:
    """Where one machine ends: what the largest size measured says of larger ones."""
    of_sizes = [c for c in found if c.depth == _DEPTH]
    largest = of_sizes[-1]
    count = next(c.n_gradients for c in reversed(of_sizes) if c.n_gradients)
    minutes = count * largest.milliseconds / 6e4
    room = 0.8 * memory_in_bytes() / 2**20
    fits = largest.n * (room / largest.mebibytes) ** 0.5  # numbers grow like n²
    days = minutes * (fits / largest.n) ** 3 / 1440  # products like n³
    return (
        f"Time ends before memory. With as many gradients as the largest run made to its end "
        f"({count}), n = {largest.n} at depth {_DEPTH} takes {minutes:.0f} minutes of one "
        f"core; the {room / 1024:.0f} GiB that a run may take hold n = {fits:.0f}, which would "
        f"take {days:.0f} days."
        if days > 1
        else f"Memory ends first: {room / 1024:.0f} GiB hold n = {fits:.0f} at depth {_DEPTH}, "
        f"which would take {24 * days:.0f} hours of one core; n = {largest.n} takes "
        f"{minutes:.0f} minutes."
    )


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__).parse_args()
    table()
