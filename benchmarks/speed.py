"""Gradient flow beside the authors' loop: one run, and the grid of Figure 1."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import psutil
import torch

from benchmarks.authors import train
from dmf_utils import MatrixCompletion, Settings, gaussian, gradient_flow
from dmf_utils.sweep.table import grid, sweep

SHAPE, RANK, SEED = (100, 100), 5, 0
PRECISIONS = {"double": torch.float64, "single": torch.float32}
DEPTHS, NORMS, COUNTS = [2, 3, 4], [1e-2, 1e-3, 1e-4, 1e-5], [2000, 5000]


def one_run() -> None:
    """Depth 3, 2000 observed entries, start 1e-2, to loss 1e-6; three instances, in turn."""
    print("\nOne run: depth 3, n = 100, m = 2000, start 1e-2, to loss 1e-6 (one thread)")
    ratios: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for seed in range(SEED, SEED + 3):
        problem = MatrixCompletion.random(SHAPE, RANK, 2000, seed)
        start = gaussian(norm=1e-2, seed=seed)
        loop = train(problem, start.factors(SHAPE, 3))
        exact = gradient_flow(
            problem, 3, start, settings=Settings(method="dormand-prince", tolerance=1e-12)
        )
        size = float(torch.linalg.matrix_norm(exact.product))
        print(
            f"  instance {seed}: authors' loop {loop.n_steps} steps, {loop.seconds:.2f} s, "
            f"{_distance(loop.product, exact.product) / size:.1e} from the reference at tolerance "
            f"1e-12 ({exact.n_gradients} gradients)"
        )
        for name, dtype in PRECISIONS.items():
            flows = [
                gradient_flow(problem, 3, start, settings=Settings(gradient_dtype=dtype))
                for _ in range(3)
            ]
            flow = min(flows, key=lambda run: run.seconds)
            ratios[name].append(loop.seconds / flow.seconds)
            print(
                f"    flow, gradients in {name} precision: {flow.n_gradients} gradients, "
                f"{flow.seconds:.3f} s, {_distance(flow.product, exact.product) / size:.1e} from "
                f"the reference; ratio {ratios[name][-1]:.1f}"
            )
    for name, seen in ratios.items():
        print(
            f"  median ratio of wall times, gradients in {name} precision: "
            f"{statistics.median(seen):.1f}"
        )


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(a - b))


def whole_grid(with_authors: bool) -> None:
    """Every depth, start and number of observations of one instance, in worker processes."""
    workers = os.cpu_count() or 1
    axes = {"depth": DEPTHS, "norm": NORMS, "n_observed": COUNTS, "rank": RANK, "seed": SEED}
    runs = grid(method="flow", gradient_precision="float32", **axes)
    few = grid(method="truth", rows=2, columns=2, rank=1, n_observed=range(1, workers + 1))
    print(f"\nFigure 1's grid: {len(runs)} runs in {workers} processes")
    with _PeakMemory() as memory, _workers() as pool:
        begin = time.perf_counter()
        sweep(few, executor=pool, progress=False)
        start = time.perf_counter() - begin
        spent = []
        for _ in range(3):
            begin = time.perf_counter()
            table = sweep(runs, executor=pool, progress=False)
            spent.append(time.perf_counter() - begin)
    each = statistics.median(spent) / len(runs)
    print(
        f"  flow, gradients in single precision: {', '.join(f'{s:.1f}' for s in spent)} s in all, "
        f"after {start:.1f} s for the start of the processes; median {each:.3f} s a run; "
        f"{table.n_gradients.mean():.0f} gradients a run; "
        f"{table.seconds.mean():.3f} s a run and core"
    )
    print(f"  peak memory of all processes together: {memory.peak / 2**20:.0f} MiB")
    if not with_authors:
        return
    of_loops = {}
    for depth, norm, count in product(DEPTHS, (NORMS[0], NORMS[-1]), COUNTS):
        problem = MatrixCompletion.random(SHAPE, RANK, count, SEED)
        loop = train(problem, gaussian(norm, SEED).factors(SHAPE, depth))
        of_loops[depth, norm, count] = loop.seconds
        print(
            f"  authors' loop, depth {depth}, m = {count}, start {norm:g}: {loop.n_steps} steps, "
            f"{loop.seconds:.1f} s, loss {loop.loss:.1e}",
            flush=True,
        )
    mean = statistics.mean(of_loops.values())
    print(
        f"  authors' loop: {mean:.1f} s a run, the mean of {len(of_loops)} measured runs (largest "
        "and smallest start; the two starts between are taken to cost as much: extrapolated)"
    )
    print(
        f"  ratio a run, flow on {workers} cores, their loop one run at a time: {mean / each:.0f}"
    )
    print(f"  ratio a run and core: {mean / table.seconds.mean():.0f}")


def grid_deviations() -> None:
    """How far every run of the grid ends from a reference at a tolerance of 1e-9."""
    cells = list(product(DEPTHS, COUNTS))
    with _workers() as pool:
        found = list(pool.map(_deviations, *zip(*cells, strict=True)))
    print("  relative distance (Frobenius) of the ends from references at tolerance 1e-9:")
    for (depth, count), distances in zip(cells, found, strict=True):
        seen = ", ".join(f"{distance:.1e}" for distance in distances)
        print(f"    depth {depth}, m = {count}, starts {NORMS[0]:g} to {NORMS[-1]:g}: {seen}")
    print(f"    largest: {max(map(max, found)):.1e}")


def _deviations(depth: int, count: int) -> list[float]:
    problem = MatrixCompletion.random(SHAPE, RANK, count, SEED)
    starts = [gaussian(norm, SEED) for norm in NORMS]
    runs = gradient_flow(
        [problem] * len(starts), depth, starts, settings=Settings(gradient_dtype=torch.float32)
    )
    exact = gradient_flow([problem] * len(starts), depth, starts, settings=Settings(tolerance=1e-9))
    return [
        _distance(run.product, end.product) / float(torch.linalg.matrix_norm(end.product))
        for run, end in zip(runs, exact, strict=True)
    ]


def _workers() -> ProcessPoolExecutor:
    """A process for each core, with one thread."""
    return ProcessPoolExecutor(
        os.cpu_count() or 1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    )


class _PeakMemory:
    """Memory of this process and its children together at their peak, sampled.

    Pages that they share, such as those of libraries, count once where the system tells (Linux).
    """

    def __enter__(self) -> _PeakMemory:
        self.peak, self._over = 0, threading.Event()
        self._watch = threading.Thread(target=self._sample)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._over.wait(0.2):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += _bytes(process)
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def _bytes(process: psutil.Process) -> int:
    """What a process takes; of pages that it shares with others its part."""
    whole = process.memory_full_info() if psutil.LINUX else process.memory_info()
    return getattr(whole, "pss", whole.rss)
