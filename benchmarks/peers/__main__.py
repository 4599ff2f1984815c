"""Print the table: six cells, our two precisions, and each peer at the same deviation."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable
from functools import partial

import threadpoolctl
import torch

from benchmarks.peers.solvers import SOLVERS, Solver, Task
from dmf_utils import MatrixCompletion, Settings, gaussian, gradient_flow

CELLS = [(depth, norm) for depth in (2, 3, 4) for norm in (1e-2, 1e-5)]
TOLERANCES = [10 ** (-k / 4) for k in range(8, 37)]  # 1e-2 to 1e-9, four a decade
ALLOWED = 1.2  # times our deviation


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved measurements of each")
    parser.add_argument("--cells", type=int, default=len(CELLS), help="how many of the six")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        pools = ", ".join(
            f"{p['internal_api']} {p['version']}" for p in threadpoolctl.threadpool_info()
        )
        print(f"{platform.processor() or platform.machine()}; torch {torch.__version__}; {pools}")
        print("n = 100, rank 5, m = 2000, to loss 1e-6; processor time, medians, ratio to ours\n")
        print("| depth, start | solver | gradients | deviation | s | ratio to ours in double |")
        print("|---|---|---|---|---|---|")
        for depth, norm in CELLS[: options.cells]:
            _cell(depth, norm, options.rounds)


def _cell(depth: int, norm: float, rounds: int) -> None:
    problem = MatrixCompletion.random((100, 100), 5, 2000, seed=0)
    start = gaussian(norm, seed=0)
    exact = gradient_flow(
        problem, depth, start, settings=Settings(method="dormand-prince", tolerance=1e-12)
    )
    size = float(torch.linalg.matrix_norm(exact.product))

    def deviation(W: torch.Tensor) -> float:
        return float(torch.linalg.matrix_norm(W - exact.product)) / size

    ours = {
        "dmf, double": lambda: gradient_flow(problem, depth, start),
        "dmf, single gradients": lambda: gradient_flow(
            problem, depth, start, settings=Settings(gradient_dtype=torch.float32)
        ),
    }
    runs: dict[str, Callable[[], object]] = dict(ours)
    about: dict[str, tuple[int, float]] = {}
    for name, run in ours.items():
        end = run()
        about[name] = end.n_gradients, deviation(end.product)
    goal = ALLOWED * about["dmf, double"][1]
    task = Task(problem, start.factors((100, 100), depth), exact.time)
    for name, make in SOLVERS.items():
        solve = make(task)

        def is_exact(tolerance: float, solve: Solver = solve) -> bool:
            return deviation(solve(tolerance)[0]) <= goal

        # The coarsest that is as exact as we are: to halve what is left takes a third of the runs.
        at = bisect_left(TOLERANCES, True, key=is_exact)
        if at == len(TOLERANCES):
            print(
                f"| {depth}, {norm:g} | {name} | – | above {goal:.1e} at every tolerance | – | – |"
            )
            continue
        W, count = solve(TOLERANCES[at])
        about[name] = count, deviation(W)
        runs[name] = partial(solve, TOLERANCES[at])
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            spent[name].append(time.process_time() - begin)
    medians = {name: statistics.median(seconds) for name, seconds in spent.items()}
    for name, seconds in medians.items():
        count, found = about[name]
        ratio = seconds / medians["dmf, double"]
        print(
            f"| {depth}, {norm:g} | {name} | {count} | {found:.1e} | {seconds:.3f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
