"""What a sweep costs besides its runs, how it grows, and what large matrices take."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from benchmarks.memory import peak_bytes
from dmf_utils._support.threads import one_thread
from dmf_utils.sweep import table as sweeps
from dmf_utils.sweep.compute import compute_chunk
from dmf_utils.sweep.cost import estimate
from dmf_utils.sweep.executors import WorkerProcesses
from dmf_utils.sweep.run_parameters import chunks, complete_run, grid

_SMALL = {"rows": 20, "columns": 20, "rank": 1, "n_observed": 200, "depth": 2, "until_loss": 1e-4}
_MACHINES, _RUNS = 100, 10**6


class _Nowhere(Executor):
    """Answers every chunk with the same rows: what is left is the driver's own work."""

    room = 100

    def submit(self, work: Any, /, runs: Sequence[dict[str, Any]], *_: Any) -> Future:
        row = {"status": "reached", "loss": 1e-6, "error": 1e-4, "nuclear_norm": 20.0, "time": 3e3}
        future: Future = Future()
        future.set_result([row | {"n_gradients": 400, "seconds": 0.1} for _ in runs])
        return future


def grid_sizes(sizes: Sequence[int] = (10, 100, 500, 2000)) -> None:
    """Time of a run against the number of runs, in this process and in two."""
    print(
        "\nA sweep of small runs (n = 20, depth 2, 200 entries, to loss 1e-4), milliseconds a run"
    )
    for workers in (1, 2):
        line = []
        for size in sizes:
            begin = time.perf_counter()
            table = sweeps.sweep(grid(**_SMALL, seed=range(size)), workers=workers, progress=False)
            spent = time.perf_counter() - begin
            line.append(f"{size}: {1e3 * spent / size:.1f} ({1e3 * table.seconds.mean():.1f})")
        print(f"  {workers} workers, runs: in all (of the engine): {', '.join(line)}")


def projection(n_runs: int = 8000) -> None:
    """The driver's own time for a run, and what follows for a million of them."""
    runs = grid(**_SMALL, seed=range(n_runs))
    with tempfile.TemporaryDirectory() as folder:
        driver, resume = (
            _seconds(sweeps.sweep, runs, executor=_Nowhere(), cache=folder, progress=False) / n_runs
            for _ in range(2)
        )
    print(
        f"\nThe driver alone, {n_runs} runs: {1e3 * driver:.3f} ms a run, with files; "
        f"{1e3 * resume:.3f} ms a run to find them again"
    )
    cores = os.cpu_count() or 1
    print(f"{_RUNS:,} runs on {_MACHINES} machines of {cores} cores like these:")
    for name, run in _measured_runs():
        hours = _RUNS * run / (_MACHINES * cores) / 3600
        print(
            f"  {name}, {run:.3f} s a run: {hours:.2f} h of computing, {_RUNS * driver / 3600:.2f} "
            f"h of the driver, which falls behind from {run / driver:.0f} workers on"
        )


def _measured_runs() -> Iterator[tuple[str, float]]:
    """Seconds of a run in one thread, in a full chunk."""
    for name, common in (("n = 20", _SMALL), ("n = 100", {"gradient_precision": "float32"})):
        part = chunks([complete_run(run, 0) for run in grid(**common, seed=range(8))])[0]
        with one_thread():
            yield name, _seconds(compute_chunk, part.runs) / 8


def large_matrices(cases: Sequence[tuple[int, int]] = ((100, 8), (300, 8), (1000, 1))) -> None:
    """Gradients a second and peak memory of a chunk at depth 3, for two steps of each run."""
    print("\nLarge matrices at depth 3: a chunk's first two steps, in a process of its own")
    for n, count in cases:
        processes = WorkerProcesses(1)
        n_gradients, seconds, peak, before = processes.submit(_two_steps, n, count).result()
        processes.shutdown()
        part = _chunk(n, count)
        said = estimate([part]).bytes_of_worker
        print(
            f"  n = {n}, {count} runs: {n_gradients / seconds:.2f} gradients a second; "
            f"{peak / 2**30:.2f} GiB, of which {before / 2**30:.2f} before it began (`dmf sweep "
            f"--dry-run` says {said / 2**30:.2f})",
            flush=True,
        )


def _chunk(n: int, count: int) -> Any:
    runs = grid(rows=n, columns=n, n_observed=n * n // 5, max_steps=2, seed=range(count))
    return chunks([complete_run(run, 0) for run in runs])[0]


def _two_steps(n: int, count: int) -> tuple[int, float, int, int]:
    """Gradients, seconds, and bytes of this process at its peak and before."""
    before = peak_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that two steps do not reach the end
        rows = compute_chunk(_chunk(n, count).runs)
    peak = peak_bytes()
    return (
        sum(row["n_gradients"] for row in rows),
        sum(row["seconds"] for row in rows),
        peak,
        before,
    )


def _seconds(work: Any, *arguments: Any, **options: Any) -> float:
    begin = time.perf_counter()
    work(*arguments, **options)
    return time.perf_counter() - begin
