"""Errors on test entries, in the unit of the data: in all, by column, and between methods."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from dmf_utils._support.checks import number
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.methods import Flow, Method, Prediction, Values
from dmf_utils.user_data.offsets import Scale, fit_scaling, unlike_axis
from dmf_utils.user_data.split import Split

__all__ = ["Judge", "best", "checked_bounds", "chosen_scale", "column_errors", "disagreements"]


class Judge:
    """The data in the unit of the computation, and the way back to theirs.

    Parameters
    ----------
    data : ObservedMatrix
    split : Split
    scale : {"none", "rows", "columns"}
    bounds : (float, float), optional
        To which predictions are clipped.

    Raises
    ------
    ValueError
        If all fitted entries are equal.
    """

    def __init__(
        self,
        data: ObservedMatrix,
        split: Split,
        scale: Scale,
        bounds: tuple[float, float] | None,
    ) -> None:
        self.data, self.split = data, split
        self.size = float(np.abs(data.values).max())
        fitted = data.values[split.fitted]
        if self.size == 0 or np.all(fitted == fitted[0]):
            raise ValueError(f"all fitted entries are {fitted[0]:g}: there is nothing to learn")
        self.bounds = None if bounds is None else tuple(b / self.size for b in bounds)
        self.y = data.values / self.size  # of size one, so that no square over- or underflows
        i, j, at = data.row_index, data.column_index, split.fitted
        self.scaling = fit_scaling(i[at], j[at], self.y[at], data.shape, scale)
        self.shift, self.unit = self.scaling.of(i, j)
        self.values = Values(i, j, (self.y - self.shift) / self.unit, data.shape)
        self.both = np.sort(np.concatenate([split.fitted, split.validation]))

    def predicted(self, found: Prediction, which: np.ndarray) -> np.ndarray:
        """Predictions at entries, in units of the largest value, within the bounds."""
        z = found.at(self.values.i[which], self.values.j[which])
        y = self.shift[which] + self.unit[which] * z
        return y if self.bounds is None else np.clip(y, *self.bounds)

    def row(self, method: Method, found: Prediction, chosen: float) -> dict[str, object]:
        """The row of a method in the table."""
        test, scale = self.split.test, self.size if self.scaling.kind == "none" else 1.0
        errors = (self.predicted(found, test) - self.y[test]) / self.unit[test]
        squares = errors**2
        error = math.sqrt(float(squares.mean()))
        # Of the root of a mean: half the standard error of the mean, over the root.
        spread = 0.5 * float(squares.std()) / math.sqrt(len(squares)) / error if error > 0 else 0.0
        left = (self.predicted(found, self.both) - self.y[self.both]) / self.unit[self.both]
        return {
            "error": scale * error,
            "spread": scale * spread,
            "validation": scale * math.sqrt(chosen),
            "residual": scale * math.sqrt(float(np.mean(left**2))),
            "effective_rank": found.effective_rank(),
            "gradients": found.n_gradients,
            "end": method.end,
        }

    def path(self, flow: Flow) -> pd.DataFrame:
        """The looks of a run, as root mean squares in the unit of the table."""
        unit = flow.unit * (self.size if self.scaling.kind == "none" else 1.0)
        return unit * pd.DataFrame(flow.run.looks, columns=["residual", "error"]) ** 0.5

    def completed(self, found: Prediction) -> np.ndarray:
        """The completed matrix, observed entries as given."""
        matrix = self.scaling.put_back(found.matrix())
        if self.bounds is not None:
            np.clip(matrix, *self.bounds, out=matrix)
        largest = np.finfo(float).max / max(self.size, 1.0)
        np.clip(matrix, -largest, largest, out=matrix)
        matrix *= self.size
        matrix[self.values.i, self.values.j] = self.data.values
        return matrix


def column_errors(judge: Judge, found: Prediction) -> pd.DataFrame:
    """Test error of each column in its own unit, largest share of the total first.

    Returns
    -------
    DataFrame
        ``entries``, ``error``, ``deviation`` of the test values from their column's fitted mean,
        and ``share`` of the squared error of all columns.
    """
    test = judge.split.test
    j, y = judge.values.j, judge.y
    size = judge.data.shape[1]
    counts = np.bincount(j[judge.both], minlength=size)
    means = np.bincount(j[judge.both], y[judge.both], minlength=size) / np.maximum(counts, 1)
    frame = pd.DataFrame(
        {
            "column": j[test],
            "square": (judge.predicted(found, test) - y[test]) ** 2,
            "deviation": (y[test] - means[j[test]]) ** 2,
        }
    )
    by = frame.groupby("column").agg(
        entries=("square", "size"),
        error=("square", "mean"),
        deviation=("deviation", "mean"),
        share=("square", "sum"),
    )
    by["share"] /= by["share"].sum() or 1.0
    for name in ("error", "deviation"):
        by[name] = judge.size * np.sqrt(by[name])
    by.index = pd.Index([judge.data.columns[k] for k in by.index], name="column")
    return by.sort_values("share", ascending=False, kind="stable")


def disagreements(judge: Judge, judged: Mapping[str, Prediction], count: int = 5) -> pd.DataFrame:
    """The test entries on which the methods differ most, with what each says."""
    test, data = judge.split.test, judge.data
    said = {name: judge.predicted(found, test) for name, found in judged.items()}
    every = np.array(list(said.values())) / judge.unit[test]
    at = np.argsort(-(every.max(0) - every.min(0)), kind="stable")[:count]
    table = pd.DataFrame(
        {
            data.names[0]: [data.rows[k] for k in data.row_index[test[at]]],
            data.names[1]: [data.columns[k] for k in data.column_index[test[at]]],
            f"{data.names[2]} (observed)": data.values[test[at]],
        }
    )
    rest = pd.DataFrame({name: judge.size * of_one[at] for name, of_one in said.items()})
    return pd.concat([table, rest], axis=1)


def checked_bounds(
    bounds: tuple[float, float] | None, data: ObservedMatrix
) -> tuple[float, float] | None:
    """Bounds, if any, that are in order and hold all observed values."""
    if bounds is None:
        return None
    low, high = (number(bound, "bounds") for bound in bounds)
    if not low < high:
        raise ValueError(f"bounds must be a smaller and a larger number, got {low:g} and {high:g}")
    outside = data.values[(data.values < low) | (data.values > high)]
    if len(outside):
        raise ValueError(
            f"bounds are {low:g} and {high:g}, but {len(outside)} observed values lie outside, "
            f"such as {outside[0]:g}"
        )
    return low, high


def chosen_scale(scale: str, data: ObservedMatrix, split: Split) -> Scale:
    """What has units of its own, found out by the fitted entries if not said."""
    if scale not in ("auto", "none", "rows", "columns"):
        raise ValueError(f"scale must be auto, none, rows or columns, got {scale!r}")
    if scale != "auto":
        return scale
    at = split.fitted
    size = np.abs(data.values).max() or 1.0
    return unlike_axis(
        data.row_index[at], data.column_index[at], data.values[at] / size, data.shape
    )


def best(errors: dict[str, float], otherwise: str) -> str:
    """The method of least error; where none is known, the last whose name ends so."""
    known = {name: error for name, error in errors.items() if not math.isnan(error)}
    if known:
        return min(known, key=known.__getitem__)
    return next(name for name in reversed(errors) if name.endswith(otherwise))
