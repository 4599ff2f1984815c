"""One chunk of a sweep computed: rows of runs that are stepped together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from dmf_utils._support.threads import one_thread
from dmf_utils.convex.nuclear_norm import min_nuclear_norm
from dmf_utils.factorization import initialization, norms
from dmf_utils.flow.descent import gradient_descent
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.flow.settings import Settings
from dmf_utils.flow.trajectory import Record, Trajectory
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.problems.lockstep import in_lockstep
from dmf_utils.problems.sensing import MatrixSensing
from dmf_utils.sweep.source import SOURCE

__all__ = ["COUNTED", "MEASURED", "RECORDED", "compute_chunk", "problem_of"]

MEASURED = ("status", "loss", "error", "nuclear_norm", "effective_rank", "time", "gap")
COUNTED = ("n_gradients", "seconds")
RECORDED = ("times", "losses", "singular_values")  # lists, where a trajectory was asked for
_GAP = 1e-6  # relative duality gap at which the convex problem counts as solved,
_GAP_WITH_RESIDUAL = 1e-4  # and where observations may be missed: its certificate settles slowly
_SENSING: dict[tuple[Any, ...], MatrixSensing] = {}  # the instance of the last chunk


def compute_chunk(
    runs: Sequence[dict[str, Any]],
    options: Mapping[str, Any] | None = None,
    source: str = SOURCE,
) -> list[dict[str, Any]]:
    """Rows of runs that `chunks` put together, computed by one thread at a time.

    Parameters
    ----------
    runs : sequence of dict
        As `complete_run` makes them.
    options : mapping, optional
        ``device``; and ``times`` and ``n_singular_values`` of the trajectories to record.
    source : str
        The hash of the source, where the chunk was asked for.

    Raises
    ------
    RuntimeError
        If the source or the libraries are others here than there: the rows would be stored under a
        key that is not theirs.
    """
    if source != SOURCE:
        raise RuntimeError(
            "this process has another version of dmf_utils, numpy, scipy, cvxpy or torch than the "
            "one that asked for the chunk: install the same on all machines; and if files of "
            "dmf_utils were changed meanwhile, start the sweep again"
        )
    options = options or {}
    first = runs[0]
    is_shared = first["problem"] == "sensing"  # one instance, see `run_parameters.chunks`
    with one_thread():
        made = [problem_of(first)] * len(runs) if is_shared else [problem_of(run) for run in runs]
        if first["method"] == "truth":
            return [_row(p, p.ground_truth, "reached") for p in made]
        if first["method"] == "min_nuclear_norm":
            return [_convex_row(p, first["residual"]) for p in made]
        ends = _followed(made, runs, options)
        rows = [_end_row(p, end) for p, end in zip(made, ends, strict=True)]
    if "times" in options:
        for row, end in zip(rows, ends, strict=True):
            row |= {
                "times": end.times.tolist(),
                "losses": end.losses.tolist(),
                "singular_values": end.singular_values.tolist(),
            }
    return rows


def _followed(
    made: list[Any], runs: Sequence[dict[str, Any]], options: Mapping[str, Any]
) -> list[Trajectory]:
    """Trajectories of the runs of a chunk, by flow or by descent."""
    if runs[0]["method"] == "flow" and runs[0]["problem"] == "sensing":
        begin = time.perf_counter()
        tasks = [partial(_stepped, runs=[run], options=options) for run in runs]
        ends = [end for (end,) in in_lockstep(made[0], tasks)]
        # Each has waited for the others: its share is that of its gradients.
        seconds = (time.perf_counter() - begin) / sum(end.n_gradients for end in ends)
        return [replace(end, seconds=end.n_gradients * seconds) for end in ends]
    return _stepped(made, runs, options)


def _stepped(
    made: Any, runs: Sequence[dict[str, Any]], options: Mapping[str, Any]
) -> list[Trajectory]:
    first = runs[0]
    make_start = getattr(initialization, first["start"])
    starts = [
        make_start(run["norm"])
        if first["start"] == "identity"
        else make_start(run["norm"], run["seed"])
        for run in runs
    ]
    depth, until_loss = first["depth"], first["until_loss"]
    record = Record(options.get("times", ()), options.get("n_singular_values", 0))
    asked = {
        "max_steps": first["max_steps"],
        "dtype": getattr(torch, first["precision"]),
        "device": options.get("device", "cpu"),
    }
    if first["method"] == "descent":
        asked |= {"learning_rate": first["learning_rate"], "normalized": True}
        return gradient_descent(made, depth, starts, until_loss, record=record, **asked)
    is_single = first["gradient_precision"] == "float32"
    settings = Settings(
        tolerance=first["tolerance"],
        gradient_dtype=torch.float32 if is_single else None,
        max_gradients=first["max_gradients"],
        **asked,
    )
    return gradient_flow(made, depth, starts, until_loss, record=record, settings=settings)


def problem_of(run: Mapping[str, Any]) -> MatrixCompletion | MatrixSensing:
    """The instance that a run is about; of the last sensing instance it is the same object."""
    about = ((run["rows"], run["columns"]), run["rank"], run["n_observed"], run["seed"])
    if run["problem"] == "sensing":
        if about not in _SENSING:
            _SENSING.clear()  # before another is made: at the paper's size one takes 0.4 GB
            _SENSING[about] = MatrixSensing.random(*about)
        return _SENSING[about]
    return MatrixCompletion.random(*about)


def _row(problem: Any, W: torch.Tensor, status: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys((*MEASURED, *COUNTED))
    row |= {"status": status, "n_gradients": 0, "seconds": 0.0, "loss": float("nan")}
    W = W.cpu()
    if bool(torch.isfinite(W).all()):
        row |= {
            "loss": float(problem.loss(W)),
            "error": float(problem.error(W)),
            "nuclear_norm": float(norms.nuclear_norm(W)),
            "effective_rank": float(norms.effective_rank(W)),
        }
    return row


def _end_row(problem: Any, end: Trajectory) -> dict[str, Any]:
    return _row(problem, end.product, end.status.value) | {
        "loss": end.loss,
        "time": end.time,
        "n_gradients": end.n_gradients,
        "seconds": end.seconds,
    }


def _convex_row(problem: Any, residual: float) -> dict[str, Any]:
    asked = _GAP_WITH_RESIDUAL if residual else _GAP
    found = min_nuclear_norm(problem, residual=residual, tolerance=asked)
    status = "reached" if found.gap <= asked else "step limit"
    return _row(problem, found.matrix, status) | {"gap": found.gap, "seconds": found.seconds}
