"""A grid of runs turned into a tidy table: in parallel, cached, resumable.

A run is a mapping of plain values, for instance
``{"n_observed": 2000, "depth": 3, "norm": 1e-3, "seed": 4}``; what it leaves out takes the paper's
value from `DEFAULTS`. Runs that can be stepped together form a chunk; a chunk is computed by one
worker and stored as one file, so a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import signal
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import threadpoolctl
import torch

from dmf_utils import chunk_store, convex, factorization, norms, problems
from dmf_utils._checks import whole_number
from dmf_utils._memory import memory_in_bytes, sensing_bytes
from dmf_utils.descent import gradient_descent
from dmf_utils.flow import gradient_flow
from dmf_utils.progress import progress_bar

__all__ = ["DEFAULTS", "grid", "project_cache", "sweep"]

#: What a run that does not say otherwise is: the paper's problem, size and stopping rule.
DEFAULTS: dict[str, Any] = {
    "problem": "completion",  # or "sensing"
    "rows": 100,
    "columns": 100,
    "rank": 5,  # of the ground truth
    "n_observed": 2000,  # entries or measurements
    "seed": 0,  # of the instance and, in a stream of its own, of the start
    "method": "flow",  # or "descent" (the authors' normalized step), "min_nuclear_norm", "truth"
    "depth": 3,
    "start": "gaussian",  # or "identity", "balanced"
    "norm": 1e-2,  # Frobenius norm of the product matrix at time 0
    "until_loss": 1e-6,
    "tolerance": 3e-5,  # of the flow
    "gradient_precision": "float64",  # of the flow; "float32" halves the time of a gradient
    "learning_rate": 1e-3,  # of descent
    "max_steps": 1_000_000,
    "precision": "float64",  # or "float32", that of the authors' code
}
# What plays no part in a method is left empty in the table, and out of the key.
_ONLY_FOR_RUNS = (
    *("depth", "start", "norm", "until_loss", "tolerance", "learning_rate", "max_steps"),
    *("gradient_precision", "precision"),
)
_UNUSED = {
    "flow": ("learning_rate",),
    "descent": ("tolerance", "gradient_precision"),
    "min_nuclear_norm": _ONLY_FOR_RUNS,
    "truth": _ONLY_FOR_RUNS,
}
_ACCEPTED: dict[type, tuple[type, ...]] = {
    int: (int, np.integer),
    float: (int, float, np.integer, np.floating),
    str: (str,),
}
_GAP = 1e-6  # relative duality gap at which the convex problem counts as solved
_SHARE_OF_MEMORY = 0.8  # of the machine's, that the measurements of all workers may take
_CHUNK = 8  # runs; fixed, so that neither keys nor results depend on the number of workers
_MEASURED = ("status", "loss", "error", "nuclear_norm", "effective_rank", "time", "gap")
_COUNTED = ("n_gradients", "seconds")
_FLOATS = dict.fromkeys(
    [name for name, value in DEFAULTS.items() if type(value) is float]
    + [name for name in (*_MEASURED, "seconds") if name != "status"],
    float,
)


def grid(**axes: object) -> list[dict[str, Any]]:
    """All combinations of the values given, the last axis fastest.

    Parameters
    ----------
    **axes
        For each parameter of a run a value, or a list or an array of values.

    Returns
    -------
    list of dict
        One run each; lists of several calls can be added.
    """
    several = (list, tuple, range, np.ndarray)
    lists = [list(v) if isinstance(v, several) else [v] for v in axes.values()]
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*lists)]


def sweep(
    runs: Iterable[Mapping[str, Any]],
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    cache: str | Path | None = None,
    label: str = "sweep",
    progress: bool = True,
) -> pd.DataFrame:
    """Compute all runs, and return one row for each, in their order.

    Parameters
    ----------
    runs : iterable of mapping
        Parameters of each run, see `DEFAULTS`; `grid` makes them.
    workers : int, optional
        Processes, default one for each processor; fewer where the measurements of sensing would
        not fit into memory. With 1 nothing is started.
    executor : concurrent.futures.Executor, optional
        Where to compute instead, for instance ``dask.distributed.Client(...).get_executor()``.
        It is not shut down.
    cache : path, optional
        Folder of finished chunks. Keys are made of a chunk's parameters and of the source of the
        numerics, so a change of either computes anew.
    label : str
        Name in the progress bar.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    pandas.DataFrame
        The parameters, then status, loss, error (mean squared over all entries), nuclear norm,
        effective rank, time (of the flow), gap (of the minimum nuclear norm), gradients, seconds.
        All but the seconds are the same whatever the workers and the cache.

    Raises
    ------
    ValueError, TypeError
        For an unknown parameter or a value that does not fit, or more memory needed than there is,
        before any run is made.

    Warns
    -----
    RuntimeWarning
        Once, if runs ended otherwise than asked; and for each damaged file of the cache.
    """
    if workers is not None:
        workers = whole_number(workers, "workers", 1)
    complete = [_complete(run, at) for at, run in enumerate(runs)]
    chunks = _chunks(complete)
    folder = None if cache is None else Path(cache)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    rows: dict[int, dict[str, Any]] = {}
    with progress_bar(label, len(complete), progress) as bar:
        missing = []
        for chunk in chunks:
            found = (
                None if folder is None else chunk_store.read(folder, [complete[i] for i in chunk])
            )
            if found is None:
                missing.append(chunk)
            else:
                rows.update(zip(chunk, found, strict=True))
        bar.update_to(len(rows))
        # Closed at once when interrupted, not when the traceback is forgotten. And here, not where
        # a chunk is computed, because threads share their filters of warnings.
        with (
            closing(_compute(complete, missing, workers, executor)) as computed,
            _without_warnings(),
        ):
            for chunk, found in computed:
                if folder is not None:
                    chunk_store.write(folder, [complete[i] for i in chunk], found)
                rows.update(zip(chunk, found, strict=True))
                bar.update_to(len(rows))
    table = pd.DataFrame(
        [complete[i] | rows[i] for i in range(len(complete))],
        columns=[*DEFAULTS, *_MEASURED, *_COUNTED],
    ).astype(_FLOATS)  # also where a column is empty
    unfinished = table[table.status != "reached"]
    if len(unfinished):
        warnings.warn(
            f"{label}: {len(unfinished)} of {len(table)} runs did not reach their end: "
            f"{unfinished.status.value_counts().to_dict()}; see the column `status`",
            RuntimeWarning,
            stacklevel=2,
        )
    return table


def project_cache() -> Path:
    """Folder of the book's own sweeps: that of ``DMF_CACHE``, else ``_build/cache``."""
    default = Path(__file__).resolve().parents[1] / "_build" / "cache"
    return Path(os.environ.get("DMF_CACHE") or default)


def _complete(run: Mapping[str, Any], at: int) -> dict[str, Any]:
    """The run with all its parameters, checked; None where the method does not use one."""
    if not isinstance(run, Mapping):
        raise TypeError(f"run {at} must be a mapping of parameters, got {run!r}; see `grid`")
    for name, value in run.items():
        if name not in DEFAULTS:
            raise ValueError(f"run {at}: unknown parameter {name!r}; known are {list(DEFAULTS)}")
        kind = type(DEFAULTS[name])
        if isinstance(value, bool) or not isinstance(value, _ACCEPTED[kind]):
            raise TypeError(f"run {at}: {name} must be of type {kind.__name__}, got {value!r}")
    whole = {name: type(default)(run.get(name, default)) for name, default in DEFAULTS.items()}
    choices = {
        "problem": ("completion", "sensing"),
        "method": tuple(_UNUSED),
        "start": ("gaussian", "identity", "balanced"),
        "gradient_precision": ("float64", "float32"),
        "precision": ("float64", "float32"),
    }
    for name, allowed in choices.items():
        if whole[name] not in allowed:
            raise ValueError(f"run {at}: {name} must be one of {allowed}, got {whole[name]!r}")
    positive = ("rows", "columns", "n_observed", "depth", "norm", "until_loss", "tolerance")
    for name in (*positive, "learning_rate", "max_steps"):
        if not 0 < whole[name] < math.inf:
            raise ValueError(f"run {at}: {name} must be positive and finite, got {whole[name]!r}")
    if whole["seed"] < 0:
        raise ValueError(f"run {at}: seed must be at least 0, got {whole['seed']!r}")
    smaller = min(whole["rows"], whole["columns"])
    if not 0 <= whole["rank"] <= smaller:
        raise ValueError(f"run {at}: rank must be in 0…{smaller}, got {whole['rank']!r}")
    entries = whole["rows"] * whole["columns"]
    if whole["problem"] == "completion" and whole["n_observed"] > entries:
        raise ValueError(
            f"run {at}: n_observed must be at most rows·columns = {entries}, "
            f"got {whole['n_observed']!r}"
        )
    needed, present = _bytes(whole), memory_in_bytes()
    if needed > _SHARE_OF_MEMORY * present:
        raise ValueError(
            f"run {at}: n_observed = {whole['n_observed']} measurements of shape "
            f"({whole['rows']}, {whole['columns']}) need {needed / 2**30:.1f} GiB with "
            f"{whole['method']!r}, this machine has {present / 2**30:.1f} GiB; take fewer"
        )
    return whole | dict.fromkeys(_UNUSED[whole["method"]])


def _bytes(run: Mapping[str, Any]) -> int:
    """Memory that a run's measurements take; entries take next to nothing."""
    if run["problem"] != "sensing":
        return 0
    return sensing_bytes(run["rows"], run["columns"], run["n_observed"], run["method"])


def _chunks(complete: list[dict[str, Any]]) -> list[list[int]]:
    """Indices of runs that are stepped together; the chunks that take longest first."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, run in enumerate(complete):
        apart = {"norm"} if run["problem"] == "sensing" else {"norm", "seed"}
        key = tuple(value for name, value in run.items() if name not in apart)
        groups.setdefault(key, []).append(i)
    chunks = [
        group[at : at + _CHUNK] for group in groups.values() for at in range(0, len(group), _CHUNK)
    ]
    return sorted(chunks, key=lambda chunk: -(complete[chunk[0]]["depth"] or 0))


def _compute(
    complete: list[dict[str, Any]],
    chunks: list[list[int]],
    workers: int | None,
    executor: Executor | None,
) -> Generator[tuple[list[int], list[dict[str, Any]]], None, None]:
    """Results of the chunks as they become ready."""
    if not chunks:
        return
    largest = max(_bytes(complete[i]) for chunk in chunks for i in chunk)
    together = int(_SHARE_OF_MEMORY * memory_in_bytes() / largest) if largest else len(chunks)
    workers = max(1, min(workers or os.cpu_count() or 1, len(chunks), together))
    if executor is None and workers == 1:
        for chunk in chunks:
            yield chunk, _run_chunk([complete[i] for i in chunk])
        return
    pool = executor or ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    futures: dict[Future, list[int]] = {}

    def stop() -> None:
        for future in futures:
            future.cancel()
        if executor is None:
            pool.shutdown(wait=True, cancel_futures=True)

    try:
        for chunk in chunks:
            futures[pool.submit(_run_chunk, [complete[i] for i in chunk])] = chunk
        for future in as_completed(list(futures)):
            found = future.result()
            yield futures.pop(future), found
    except (Exception, KeyboardInterrupt):
        stop()  # what has not begun is dropped, what is done is kept
        for future, chunk in futures.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield chunk, future.result()
        raise
    finally:
        stop()


def _start_worker() -> None:
    """One thread a process: two that spin on small products cost far more than they give."""
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    warnings.simplefilter("ignore", RuntimeWarning)  # as `_without_warnings`
    # Ctrl-C, which a terminal sends to all, ends a worker. As an exception it would end one chunk
    # only: the pool has already handed out the next ones, and waits for them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Without those of single runs: the column `status` says it, and one warning for all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _run_chunk(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of runs that share all but seed and norm of the start."""
    first = runs[0]
    is_shared = first["problem"] == "sensing"  # one instance, see `_chunks`
    made = [_problem(first)] * len(runs) if is_shared else [_problem(run) for run in runs]
    if first["method"] == "truth":
        return [_row(p, p.ground_truth, "reached") for p in made]
    if first["method"] == "min_nuclear_norm":
        return [_convex_row(p) for p in made]
    make_start = getattr(factorization, first["start"])
    starts = [
        make_start(run["norm"])
        if first["start"] == "identity"
        else make_start(run["norm"], run["seed"])
        for run in runs
    ]
    asked = {
        "until_loss": first["until_loss"],
        "max_steps": first["max_steps"],
        "dtype": getattr(torch, first["precision"]),
    }
    if first["method"] == "flow":
        is_single = first["gradient_precision"] == "float32"
        asked |= {
            "tolerance": first["tolerance"],
            "gradient_dtype": torch.float32 if is_single else None,
        }
        ends = gradient_flow(made, first["depth"], starts, **asked)
    else:
        rate = first["learning_rate"]
        ends = gradient_descent(
            made, first["depth"], starts, learning_rate=rate, normalized=True, **asked
        )
    return [
        _row(p, end.product, end.status.value)
        | {
            "loss": end.loss,
            "time": end.time,
            "n_gradients": end.n_gradients,
            "seconds": end.seconds,
        }
        for p, end in zip(made, ends, strict=True)
    ]


@lru_cache(maxsize=1)  # a chunk's: at the paper's size one takes 0.4 GB
def _sensing(shape: tuple[int, int], rank: int, count: int, seed: int) -> problems.MatrixSensing:
    return problems.MatrixSensing.random(shape, rank, count, seed)


def _problem(run: Mapping[str, Any]) -> problems.MatrixCompletion | problems.MatrixSensing:
    about = ((run["rows"], run["columns"]), run["rank"], run["n_observed"], run["seed"])
    if run["problem"] == "sensing":
        return _sensing(*about)
    return problems.MatrixCompletion.random(*about)


def _row(problem: Any, W: torch.Tensor, status: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys((*_MEASURED, *_COUNTED))
    row |= {"status": status, "n_gradients": 0, "seconds": 0.0, "loss": float("nan")}
    if bool(torch.isfinite(W).all()):
        row |= {
            "loss": float(problem.loss(W)),
            "error": float(problem.error(W)),
            "nuclear_norm": float(norms.nuclear_norm(W)),
            "effective_rank": float(norms.effective_rank(W)),
        }
    return row


def _convex_row(problem: Any) -> dict[str, Any]:
    found = convex.min_nuclear_norm(problem, tolerance=_GAP)
    status = "reached" if found.gap <= _GAP else "step limit"
    return _row(problem, found.matrix, status) | {"gap": found.gap, "seconds": found.seconds}
