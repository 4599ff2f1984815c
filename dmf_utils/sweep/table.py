"""A grid of runs turned into a tidy table: in parallel, cached, resumable.

A run is a mapping of plain values, for instance
``{"n_observed": 2000, "depth": 3, "norm": 1e-3, "seed": 4}``; what it leaves out takes the paper's
value from `DEFAULTS`. Runs that can be stepped together form a chunk; a chunk is computed by one
worker and stored as one file, so a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dmf_utils._support.checks import whole_number
from dmf_utils._support.machine import memory_in_bytes, processors
from dmf_utils._support.progress import progress_bar
from dmf_utils._support.threads import one_thread
from dmf_utils.flow.trajectory import Record
from dmf_utils.sweep.cache import ChunkCache
from dmf_utils.sweep.compute import COUNTED, MEASURED, RECORDED, compute_chunk
from dmf_utils.sweep.executors import ThisProcess, WorkerProcesses
from dmf_utils.sweep.run_parameters import (
    DEFAULTS,
    SHARE_OF_MEMORY,
    Chunk,
    chunks,
    complete_run,
    grid,
    needed_bytes,
)
from dmf_utils.sweep.scheduler import computed

__all__ = ["DEFAULTS", "grid", "project_cache", "run_options", "sweep", "trajectory_table"]

_FLOATS = dict.fromkeys(
    [name for name, value in DEFAULTS.items() if type(value) is float]
    + [name for name in (*MEASURED, "seconds") if name != "status"],
    float,
)


def sweep(
    runs: Iterable[Mapping[str, Any]],
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    cache: str | Path | None = None,
    trajectories: Record | None = None,
    device: str = "cpu",
    label: str = "sweep",
    progress: bool = True,
) -> pd.DataFrame:
    """Compute all runs, and return one row for each, in their order.

    A run is computed in one thread, and once, however often it is named. Whatever the order of the
    runs, the workers, the executor and what the cache holds: all but the seconds is the same, to
    the last bit where the same libraries run on the same kind of processor. In completion a run
    does not depend on those it is stepped with; in sensing, whose measurements a chunk shares in
    one matrix product, other runs in the sweep may change its last digits.

    Parameters
    ----------
    runs : iterable of mapping
        Parameters of each run, see `DEFAULTS`; `grid` makes them.
    workers : int, optional
        Processes, default one for each processor, or for each in the share that ``DMF_THREADS``
        states, as of a chapter beside others; fewer where the measurements of sensing would not
        fit into memory. With 1 nothing is started. If one dies, its chunk is computed again.
    executor : concurrent.futures.Executor, optional
        Where to compute instead, for instance a `dmf_utils.sweep.cluster.Cluster`, or
        ``dask.distributed.Client(...).get_executor()``. It is not shut down.
    cache : path, optional
        Folder of finished chunks. Keys are made of a chunk's parameters and of the source of the
        numerics, so a change of either computes anew. Several sweeps may share one.
    trajectories : Record, optional
        Times at which runs of flow and descent write down their loss, and how many leading
        singular values; see `trajectory_table`. Without measures and factors.
    device : str
        Where the batches are stepped, such as ``"cuda"``.
    label : str
        Name in the progress bar.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    pandas.DataFrame
        The parameters, then status, loss, error (mean squared over all entries), nuclear norm,
        effective rank, time (of the flow), gap (of the minimum nuclear norm), gradients, seconds;
        with `trajectories` also lists of times, losses and singular values.

    Raises
    ------
    ValueError, TypeError
        For an unknown parameter or a value that does not fit, or more memory needed than there is,
        before any run is made.
    RuntimeError
        If a chunk ends every process that computes it.

    Warns
    -----
    RuntimeWarning
        Once, if runs ended otherwise than asked; and for each damaged file of the cache.
    SweepWarning
        If a worker died and how much was lost, or if the cache cannot be written.
    """
    if workers is not None:
        workers = whole_number(workers, "workers", 1)
    options = run_options(trajectories, device)
    if "device" in options and executor is None and not _is_usable(device):
        raise ValueError(f"device = {device!r}: torch finds none here; leave it out for the CPU")
    complete = [complete_run(run, at) for at, run in enumerate(runs)]
    times_named = Counter(map(_identity, complete))
    rows: dict[tuple[object, ...], dict[str, Any]] = {}
    n_done = 0

    def done(chunk: Chunk, found: list[dict[str, Any]]) -> None:
        nonlocal n_done
        rows.update(zip(map(_identity, chunk.runs), found, strict=True))
        n_done += sum(times_named[_identity(run)] for run in chunk.runs)

    with (
        closing(ChunkCache(cache, options)) as kept,
        progress_bar(label, len(complete), progress) as bar,
    ):
        missing = []
        for chunk in chunks(complete):
            found = kept.find(chunk, stacklevel=3)
            if found is None:
                missing.append(chunk)
            else:
                done(chunk, found)
        bar.update_to(n_done)
        # Closed at once when interrupted, not when the traceback is forgotten.
        with (
            _pool(missing, workers, executor) as pool,
            closing(computed(missing, pool, kept, options, label, compute_chunk)) as results,
        ):
            for chunk, found in results:
                kept.keep(chunk, found)
                done(chunk, found)
                bar.update_to(n_done)
    return _table(complete, rows, label, with_trajectories=trajectories is not None)


def trajectory_table(table: pd.DataFrame) -> pd.DataFrame:
    """What the runs of a sweep wrote down, one row for each run and time.

    Parameters
    ----------
    table : DataFrame
        From `sweep` with `trajectories`.

    Returns
    -------
    pandas.DataFrame
        Columns run (the row in `table`), time, loss, sigma_1, sigma_2, …

    Raises
    ------
    ValueError
        If the table has no trajectories.
    """
    if not set(RECORDED) <= set(table.columns):
        raise ValueError("table has no trajectories; make it by sweep(..., trajectories=Record(…))")
    count = max((len(values[0]) for values in table["singular_values"] if values), default=0)
    sigmas = [f"sigma_{k + 1}" for k in range(count)]
    lines = [
        (run, time, loss, *values, *[float("nan")] * (count - len(values)))
        for run, *recorded in zip(table.index, *(table[name] for name in RECORDED), strict=True)
        for time, loss, values in zip(*recorded, strict=True)
    ]
    return pd.DataFrame(lines, columns=["run", "time", "loss", *sigmas])


def project_cache() -> Path:
    """Folder of the book's own sweeps: that of ``DMF_CACHE``, else ``_build/cache``."""
    default = Path(__file__).resolve().parents[2] / "_build" / "cache"
    return Path(os.environ.get("DMF_CACHE") or default)


def run_options(trajectories: Record | None = None, device: str = "cpu") -> dict[str, Any]:
    """What else than its runs decides a chunk: plain values, none where all is as usual.

    Raises
    ------
    ValueError, TypeError
        If one is not what `sweep` takes.
    """
    options: dict[str, Any] = {}
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"device must be such as 'cpu' or 'cuda:0', got {device!r}") from error
    if kind != "cpu":
        options["device"] = device
    if trajectories is not None:
        if not isinstance(trajectories, Record):
            raise TypeError(f"trajectories must be a Record, got {trajectories!r}")
        if trajectories.measures or trajectories.factors:
            raise ValueError(
                "trajectories of a sweep hold losses and singular values only; leave measures and "
                "factors out"
            )
        options["times"] = list(trajectories.times)
        options["n_singular_values"] = trajectories.singular_values
    return options


def _is_usable(device: str) -> bool:
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError):  # as each of its kinds says it
        return False
    return True


def _identity(run: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(run.values())


@contextmanager
def _pool(
    missing: list[Chunk], workers: int | None, executor: Executor | None
) -> Iterator[Executor]:
    """Where to compute; what is started here ends here, at once if it ends with an exception."""
    if executor is not None:
        # Its threads, if it has any, share with this one what is said and in how many threads.
        with nullcontext() if hasattr(executor, "recover") else _quietly_in_one_thread():
            yield executor
        return
    largest = max((needed_bytes(run) for chunk in missing for run in chunk.runs), default=0)
    together = int(SHARE_OF_MEMORY * memory_in_bytes() / largest) if largest else len(missing)
    workers = max(1, min(workers or processors(), len(missing), together))
    if workers == 1:
        with _quietly_in_one_thread():
            yield ThisProcess()
        return
    pool = WorkerProcesses(workers)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


@contextmanager
def _quietly_in_one_thread() -> Iterator[None]:
    """Without warnings of single runs: the column `status` says it, and one warning for all."""
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _table(
    complete: list[dict[str, Any]],
    rows: Mapping[tuple[object, ...], dict[str, Any]],
    label: str,
    with_trajectories: bool,
) -> pd.DataFrame:
    """The rows in the order of the runs, and a warning if some did not end as asked."""
    recorded = RECORDED if with_trajectories else ()
    nothing = {name: [] for name in recorded}
    table = pd.DataFrame(
        [run | nothing | rows[_identity(run)] for run in complete],
        columns=[*DEFAULTS, *MEASURED, *COUNTED, *recorded],
    ).astype(_FLOATS)  # also where a column is empty
    unfinished = table[table.status != "reached"]
    if len(unfinished):
        warnings.warn(
            f"{label}: {len(unfinished)} of {len(table)} runs did not reach their end: "
            f"{unfinished.status.value_counts().to_dict()}; see the column `status`",
            RuntimeWarning,
            stacklevel=3,
        )
    return table
