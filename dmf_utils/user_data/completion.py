r"""Complete a partially observed matrix by depth, and judge it on entries that were held out.

The observed entries are parted into three sets: those that are *fitted*, those that a run is
*stopped* by, and those that are *held out*, on which all methods are judged and which none sees.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor

from dmf_utils._support.checks import positive, whole_number
from dmf_utils.convex.nuclear_norm import min_nuclear_norm
from dmf_utils.factorization.initialization import gaussian
from dmf_utils.factorization.norms import effective_rank, nuclear_norm, singular_values
from dmf_utils.flow.flow import gradient_flow
from dmf_utils.problems.completion import MatrixCompletion
from dmf_utils.user_data.early_stopping import StoppedRun, stopped_flow
from dmf_utils.user_data.matrix import OwnMatrix
from dmf_utils.user_data.split import Split, split_entries

__all__ = ["CONVEX", "MEAN", "OwnCompletion", "complete"]

CONVEX, MEAN = "minimum nuclear norm", "mean of the fitted entries"


@dataclass(frozen=True)
class OwnCompletion:
    """What `complete` found; all numbers in the unit of the data.

    Attributes
    ----------
    own : OwnMatrix
    split : Split
    table : DataFrame
        A row for each method: ``error``, the root mean square error on the held-out entries;
        ``spread``, its standard error; ``residual`` on the fitted entries; ``nuclear_norm``,
        ``effective_rank``, ``gradients`` and ``end``.
    paths : dict of DataFrame
        For each depth, at each look on the way, ``residual`` on the fitted entries and ``error`` on
        those that stop the run.
    depth : int
        Depth of `matrix`.
    matrix : ndarray, shape (d, d')
        Observed entries as given, the others as fitted to all observed entries.
    singular_values : ndarray, shape (min(d, d'),)
        Of the product matrix that the others are taken from.
    remarks : tuple of str
        What did not go as asked, and what the file's reader remarked.
    """

    own: OwnMatrix
    split: Split
    table: pd.DataFrame
    paths: dict[int, pd.DataFrame]
    depth: int
    matrix: np.ndarray
    singular_values: np.ndarray
    remarks: tuple[str, ...]


def complete(
    own: OwnMatrix,
    depths: Sequence[int] = (1, 2, 3),
    *,
    held_out: float = 0.1,
    stopping: float = 0.1,
    center: bool = False,
    start_norm: float = 1e-3,
    until_loss: float = 1e-6,
    tolerance: float = 1e-4,
    hidden: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> OwnCompletion:
    r"""Complete a matrix by gradient flow at several depths, beside the minimum nuclear norm.

    The values are divided by the root mean square of the fitted ones, so that `start_norm` and
    `until_loss` mean the same whatever the data's unit. Each depth is run on the fitted entries,
    and looked at whenever the residual has fallen by a fifth: the run is stopped where the error on
    the stopping entries was least. Noise is what the last part of a fit follows, so noisy data stop
    a run early and exact data let it go on to `until_loss`. The minimum nuclear norm solution fits
    the same entries exactly. The last of `depths` then runs again, on all observed entries and for
    the same time, and completes the matrix. The loss is a mean over entries, so equal times are
    comparable.

    Parameters
    ----------
    own : OwnMatrix
    depths : sequence of int
        Numbers of factors to compare, the one that completes the matrix last.
    held_out, stopping : float
        Shares of the observed entries, between 0 and 1. With ``stopping=0`` no run is stopped
        early.
    center : bool
        Whether the mean of the fitted entries is taken off before and put back after. Off by
        default: a constant added to all entries changes the rank by one at most, and the flow
        learns it first where it is large; taken off, it can hide that a matrix has low rank.
    start_norm : float
        :math:`\|W(0)\|_F`, where the entries have mean square 1.
    until_loss : float
        Mean squared residual at which a run ends at the latest, in the same unit.
    tolerance : float
        Of the flow.
    hidden : int, optional
        Hidden size, default min(d, d'). A smaller one makes large matrices feasible, and bounds the
        rank, which is a regularization of its own.
    seed : int
        Of the split and of the start.
    progress : bool
        Whether to show bars.

    Returns
    -------
    OwnCompletion

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, values that are all zero, too few entries, or a matrix that does
        not fit into memory; before any computing.

    Notes
    -----
    Product matrix and gradient are dense, and so are the factors.
    """
    depths = [whole_number(depth, "depths", 1) for depth in depths]
    if not depths or len(set(depths)) < len(depths):
        raise ValueError(f"depths must be different numbers, at least one, got {depths}")
    for name, value in (
        ("start_norm", start_norm),
        ("until_loss", until_loss),
        ("tolerance", tolerance),
    ):
        positive(value, name)
    if hidden is not None:
        whole_number(hidden, "hidden", 1)
    check_memory(own.shape, max(depths), hidden)
    parts = split_entries(own, held_out, stopping, seed)
    options = {"until_loss": until_loss, "tolerance": tolerance, "progress": progress}
    options["hidden"] = hidden
    task = _Task(own, parts, center, gaussian(start_norm, seed), options)
    remarks = list(own.remarks)
    asked = round(held_out * own.n_observed)
    if len(parts.held_out) < asked:
        remarks.append(
            f"{len(parts.held_out)} entries are held out, not {asked}: more would leave a row or a "
            "column empty"
        )
    constant = (task.mean_of_fitted - task.center) / task.unit
    mean = torch.full(own.shape, constant, dtype=torch.float64)
    table = {MEAN: task.judge(mean, "")}
    with _collected(remarks):
        runs = {depth: task.follow(depth) for depth in depths}
        for depth, run in runs.items():
            table[f"depth {depth}"] = task.judge(run.product, run.end, run.n_gradients)
        fitted = min_nuclear_norm(
            task.problem(parts.fitted), tolerance=1e-6, show_progress=progress
        )
        table[CONVEX] = task.judge(fitted.matrix, "all fitted")
        product = task.again(depths[-1], runs[depths[-1]])
    matrix = task.in_data_unit(product).numpy()
    matrix[own.row_index, own.column_index] = own.values
    return OwnCompletion(
        own,
        parts,
        pd.DataFrame(table).T.infer_objects(),
        {depth: task.in_data_unit_each(run) for depth, run in runs.items()},
        depths[-1],
        matrix,
        (task.unit * singular_values(product)).numpy(),
        tuple(remarks),
    )


def check_memory(shape: tuple[int, int], depth: int, hidden: int | None = None) -> None:
    """Refuse a matrix whose factors and steps would not fit into the memory that is free.

    Raises
    ------
    ValueError
        With what it needs and what is there.
    """
    d, d_prime = shape
    k = hidden or min(shape)
    parameters = d * d_prime if depth == 1 else k * (d + d_prime) + (depth - 2) * k * k
    needed = 8 * (20 * parameters + 20 * d * d_prime)
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"a {d} × {d_prime} matrix at depth {depth} needs about {needed / 2**30:.1f} GiB of "
            f"memory, {free / 2**30:.1f} GiB are free: keep fewer rows or "
            "columns, or give a small hidden size"
        )


@contextmanager
def _collected(remarks: list[str]) -> Iterator[None]:
    """Turn warnings of the solvers into remarks, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    remarks += dict.fromkeys(str(one.message) for one in caught)


class _Task:
    """The data in the unit of the computation, and what is done with them."""

    def __init__(
        self,
        own: OwnMatrix,
        split: Split,
        center: bool,
        start: gaussian,
        options: dict[str, Any],
    ) -> None:
        self.own, self.split, self.start, self.options = own, split, start, options
        self.mean_of_fitted = float(own.values[split.fitted].mean())
        self.center = self.mean_of_fitted if center else 0.0
        centred = own.values[split.fitted] - self.center
        largest = float(np.abs(centred).max())
        if largest == 0:
            what = "equal" if center else "zero"
            raise ValueError(f"all fitted entries are {what}: there is nothing to learn")
        self.unit = largest * math.sqrt(float(np.mean((centred / largest) ** 2)))
        self.rows, self.columns = (
            torch.from_numpy(own.row_index),
            torch.from_numpy(own.column_index),
        )
        self.values = torch.from_numpy((own.values - self.center) / self.unit)

    def problem(self, which: np.ndarray) -> MatrixCompletion:
        at = torch.from_numpy(which)
        return MatrixCompletion.from_entries(
            self.rows[at], self.columns[at], self.values[at], self.own.shape
        )

    def squares(self, W: Tensor, which: np.ndarray) -> Tensor:
        """Squared errors on the entries `which`, in the unit of the computation."""
        at = torch.from_numpy(which)
        return (W[self.rows[at], self.columns[at]] - self.values[at]) ** 2

    def follow(self, depth: int) -> StoppedRun:
        """Run on the fitted entries, up to the least error on the stopping ones."""
        stopping = self.split.stopping

        def error(W: Tensor) -> float:
            return float(self.squares(W, stopping).mean())

        return stopped_flow(
            self.problem(self.split.fitted),
            depth,
            self.start,
            error if len(stopping) else None,
            **self.options,
        )

    def again(self, depth: int, run: StoppedRun) -> Tensor:
        """The product matrix of the same run on all observed entries."""
        if run.is_early and run.time == 0:
            return run.product
        problem = self.problem(np.arange(self.own.n_observed))
        until_time = run.time if run.is_early else None
        return gradient_flow(
            problem, depth, self.start, until_time=until_time, **self.options
        ).product

    def in_data_unit_each(self, run: StoppedRun) -> pd.DataFrame:
        """The looks of a run, as root mean squares in the unit of the data."""
        return self.unit * pd.DataFrame(run.looks, columns=["residual", "error"]) ** 0.5

    def judge(self, W: Tensor, end: str, n_gradients: int = 0) -> dict[str, object]:
        """The row of a method in the table."""
        squares = self.squares(W, self.split.held_out).numpy()
        error = math.sqrt(float(squares.mean()))
        # Of the root of a mean: half the standard error of the mean, over the root.
        spread = 0.5 * float(squares.std()) / math.sqrt(len(squares)) / error if error > 0 else 0.0
        fitted = float(self.squares(W, self.split.fitted).mean())
        return {
            "error": self.unit * error,
            "spread": self.unit * spread,
            "residual": self.unit * math.sqrt(fitted),
            "nuclear_norm": self.unit * float(nuclear_norm(W)),
            "effective_rank": float(effective_rank(W)),
            "gradients": n_gradients,
            "end": end,
        }

    def in_data_unit(self, W: Tensor) -> Tensor:
        """A matrix in the unit of the data, its mean put back."""
        return self.unit * W + self.center
