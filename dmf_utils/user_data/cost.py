"""What is asked of a completion, and what it will cost: runs, hidden size, memory and time."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import psutil
import torch

from dmf_utils._support.checks import whole_number
from dmf_utils.factorization.initialization import Start
from dmf_utils.flow.batch import prepare
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.offsets import Center

__all__ = [
    "check_memory",
    "checked_center",
    "checked_depths",
    "choose_hidden",
    "expected_seconds",
    "forecast",
    "gradient_dtype",
    "in_words",
    "runs_asked",
]

_FULL_UP_TO = 200  # a matrix with fewer rows or columns gets its full hidden size
_RANKS, _LEAST, _MOST = 2, 50, 128  # hidden size over the rank that the data can carry; its limits
_BOTH_WAYS, _ONE_WAY = 50_000, 300_000  # entries up to which all is run both ways, beyond which one
_DEEPEST = 30  # number of factors; the products' cost grows with it, and what is seen does not
_GRADIENTS = 700  # that a run and its repetitions on more entries take, roughly


def choose_hidden(shape: tuple[int, int], n_observed: int) -> int | None:
    r"""The hidden size where none is asked for; None is the full one.

    A matrix of rank `r` has :math:`r (d + d' - r)` degrees of freedom, which must not be more than
    the observed entries. Large matrices get twice the largest such rank, from 50 to 128.
    """
    if min(shape) <= _FULL_UP_TO:
        return None
    total = sum(shape)
    root = math.sqrt(max(total**2 - 4 * n_observed, 0))
    rank = math.ceil((total - root) / 2)
    hidden = min(_MOST, max(_LEAST, _RANKS * rank))
    return hidden if hidden < min(shape) else None


def check_memory(shape: tuple[int, int], depth: int, hidden: int | None = None) -> float:
    """Bytes that a completion needs at its peak; refused if they are not free.

    Raises
    ------
    ValueError
        With what it needs and what is there.
    """
    d, d_prime = shape
    k = hidden or min(shape)
    parameters = d * d_prime if depth == 1 else k * (d + d_prime) + (depth - 2) * k * k
    needed = 8 * (20 * parameters + 9 * d * d_prime)
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"a {d} × {d_prime} matrix at depth {depth} needs about {needed / 2**30:.1f} GiB of "
            f"memory, {free / 2**30:.1f} GiB are free: keep fewer rows or "
            "columns, or give a small hidden size"
        )
    return needed


def expected_seconds(
    problem: MatrixCompletion, depths: Sequence[int], start: Start, hidden: int | None
) -> float:
    """A rough forecast of the runs of all depths, from one gradient of each that is timed."""
    dtype = gradient_dtype(problem.shape) or torch.float64
    total = 0.0
    for depth in depths:
        batch, states, _ = prepare(problem, depth, start, hidden, "cpu", torch.float64)
        batch.gradient_problem = problem.to("cpu", dtype)
        states = states.to(dtype)
        out = torch.empty_like(states)
        batch.gradient(states, out)
        begin = time.perf_counter()
        batch.gradient(states, out)
        total += _GRADIENTS * (time.perf_counter() - begin)
    return total


def forecast(
    data: ObservedMatrix, depths: Sequence[int], start: Start, hidden: int | None, memory: float
) -> str:
    """Size, time and memory in a line, before anything is computed."""
    problem = MatrixCompletion.from_entries(
        *(data.row_index, data.column_index), np.sign(data.values), data.shape
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the hidden size
        seconds = expected_seconds(problem, depths, start, hidden)
    size = f"{data.shape[0]} × {data.shape[1]}, {data.n_observed} observed"
    return f"{size}: {in_words(seconds)}, up to {max(memory / 2**30, 0.1):.1f} GiB of memory"


def checked_depths(depths: Sequence[int]) -> list[int]:
    """Different numbers of factors, at least one; a ValueError or TypeError says what is not."""
    depths = [whole_number(depth, "depths", 1) for depth in depths]
    if depths and max(depths) > _DEEPEST:
        raise ValueError(
            f"depths must be at most {_DEEPEST}, got {max(depths)}: what more factors change is "
            "seen with a few"
        )
    if not depths or len(set(depths)) < len(depths):
        raise ValueError(f"depths must be different numbers, at least one, got {depths}")
    return depths


def checked_center(center: str | Sequence[str]) -> Literal["auto"] | list[Center]:
    """The ways to centre as a list, or "auto"; a ValueError says what is neither."""
    if isinstance(center, str) and center == "auto":
        return "auto"
    several = list(center) if isinstance(center, (list, tuple)) else [center]
    known = ("none", "mean", "rows", "columns", "both")
    if not several or any(one not in known or several.count(one) > 1 for one in several):
        raise ValueError(
            "center must be auto, none, mean, rows, columns or both, or different ones of these "
            f"but auto, got {center!r}"
        )
    return several


def runs_asked(
    center: Literal["auto"] | Sequence[Center], depths: Sequence[int], n_observed: int
) -> dict[Center, list[int]]:
    """For each way to centre, the depths to run.

    Without centring a flow is stiff: the mean is learned first, and all else is slow beside it.
    So ``"auto"`` asks less of that with many entries.
    """
    if center != "auto":
        return {one: list(depths) for one in center}
    if n_observed > _ONE_WAY:
        return {"both": list(depths)}
    alone = list(depths) if n_observed <= _BOTH_WAYS else [min(depths)]
    return {"none": alone, "both": list(depths)}


def gradient_dtype(shape: tuple[int, int]) -> torch.dtype | None:
    """Large problems take their gradients in single precision: the data are not more precise."""
    return torch.float32 if shape[0] * shape[1] >= 90_000 else None


def in_words(seconds: float) -> str:
    """A time that is only roughly known."""
    if seconds < 10:
        return "some seconds"
    if seconds < 90:
        return f"about {10 * max(1, round(seconds / 10))} seconds"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"
