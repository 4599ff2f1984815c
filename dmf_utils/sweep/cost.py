"""What a sweep will take: an estimate from gradients timed here, to an order of magnitude."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from dmf_utils._support.threads import one_thread
from dmf_utils.factorization.initialization import gaussian
from dmf_utils.flow.batch import prepare
from dmf_utils.sweep.compute import compute_chunk, problem_of
from dmf_utils.sweep.run_parameters import Chunk, needed_bytes, state_bytes

__all__ = ["Estimate", "estimate", "least_seconds"]

# Gradients that a run may need. A flow at the paper's size took 400 to 2000 of them; descent at the
# authors' learning rate of 1e-3 made some 30,000 steps, and the more the smaller the rate.
_GRADIENTS_OF_FLOW = 1000
_LENGTH_OF_DESCENT = 30.0
_MEASUREMENTS = 200  # that a gradient of sensing is timed with; it is proportional to them


@dataclass(frozen=True)
class Estimate:
    """What computing chunks takes.

    Attributes
    ----------
    seconds : float
        Of one processor, for all chunks together.
    bytes_of_worker : int
        Memory of a process at the largest of the chunks.
    """

    seconds: float
    bytes_of_worker: int


def estimate(chunks: Sequence[Chunk]) -> Estimate:
    """Time gradients of each depth and size here, and multiply.

    A flow is taken for 1000 gradients, descent for 30 steps over the learning rate, each at most
    for what `max_steps` allows. Of the other methods one run of each kind is computed.

    Parameters
    ----------
    chunks : sequence of Chunk
    """
    timed: dict[tuple[object, ...], float] = {}
    seconds, largest = 0.0, 0
    with one_thread():
        for chunk in chunks:
            for run in chunk.runs:
                is_followed = run["depth"] is not None
                names = ["problem", "method", "rows", "columns", "depth", "precision"]
                names += ["gradient_precision"] if is_followed else ["rank", "n_observed"]
                kind = tuple(run[name] for name in names)
                if kind not in timed:
                    timed[kind] = _gradient_seconds(run) if is_followed else _run_seconds(run)
                seconds += timed[kind] * (_count(run) if is_followed else 1)
            largest = max(largest, _batch_bytes(chunk))
    return Estimate(seconds, psutil.Process().memory_info().rss + largest)


def _count(run: Mapping[str, Any]) -> float:
    """Gradients expected of a run, in units of those that `_gradient_seconds` timed."""
    if run["method"] == "flow":
        count = min(_GRADIENTS_OF_FLOW, 6 * run["max_steps"], run["max_gradients"])
    else:
        count = min(_LENGTH_OF_DESCENT / run["learning_rate"], run["max_steps"])
    if run["problem"] == "sensing":
        count *= run["n_observed"] / min(run["n_observed"], _MEASUREMENTS)
    return count


def _gradient_seconds(run: dict[str, Any]) -> float:
    """Time of one gradient, a factorization, in a batch where that is small."""
    few = dict(run)
    if run["problem"] == "sensing":
        few["n_observed"] = min(run["n_observed"], _MEASUREMENTS)
    batch = 8 if max(run["rows"], run["columns"]) <= 200 else 1
    single = "float32" in (run["gradient_precision"], run["precision"])
    dtype = torch.float32 if single else torch.float64
    starts = [gaussian(1e-2, seed) for seed in range(batch)]
    made, states, _ = prepare(problem_of(few), run["depth"], starts, None, "cpu", dtype)
    if single:
        made.gradient_problem = made.problem
    out = torch.empty_like(states)
    return least_seconds(lambda: made.gradient(states, out=out)) / batch


def _run_seconds(run: dict[str, Any]) -> float:
    """Time of one run, computed."""
    begin = time.perf_counter()
    compute_chunk([run])
    return time.perf_counter() - begin


def _batch_bytes(chunk: Chunk) -> int:
    run = chunk.runs[-1]  # the deepest
    together = 1 if run["depth"] is None else len(chunk.runs)
    return needed_bytes(run) + together * state_bytes(run)


def least_seconds(work: Callable[[], object], together: float = 0.02) -> float:
    """The least time of one call, over repeats that take some seconds together."""
    work()
    best, spent = float("inf"), 0.0
    while spent < together:
        begin = time.perf_counter()
        work()
        took = time.perf_counter() - begin
        best, spent = min(best, took), spent + took
    return best
