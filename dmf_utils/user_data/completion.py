r"""Complete a partially observed matrix by several methods, and judge them on test entries.

The observed entries are split into three sets: *fitted* ones; *validation* entries, by which every
method chooses; and *test* entries, by which all are judged, and which none sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from dmf_utils._support.checks import positive, whole_number
from dmf_utils.factorization.initialization import gaussian
from dmf_utils.flow.settings import Settings
from dmf_utils.user_data.cost import (
    check_memory,
    checked_center,
    checked_depths,
    choose_hidden,
    forecast,
    gradient_dtype,
    runs_asked,
)
from dmf_utils.user_data.determined import Determined, determined_entries
from dmf_utils.user_data.judging import (
    Judge,
    best,
    checked_bounds,
    chosen_scale,
    column_errors,
    disagreements,
)
from dmf_utils.user_data.keeping import Kept
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.methods import Biases, Flow, Method, Penalty, Prediction
from dmf_utils.user_data.offsets import Center, Scale
from dmf_utils.user_data.remarks import (
    about_dominance,
    about_split_and_size,
    collected,
    leave_open,
)
from dmf_utils.user_data.split import Split, split_entries
from dmf_utils.user_data.supported_rank import supported_rank

__all__ = ["Completion", "complete"]


@dataclass(frozen=True)
class Completion:
    """What `complete` found; numbers in the unit of the data, or of each column if scaled.

    Attributes
    ----------
    data : ObservedMatrix
    split : Split
    table : DataFrame
        A row for each method: ``error``, the root mean square error on the test entries;
        ``spread``, its standard error; ``validation``, the error on the validation entries;
        ``residual`` on the entries that it was fitted to; ``effective_rank``, ``gradients``, and
        ``end``.
    paths : dict of DataFrame
        For each run of a flow, at each look, ``residual`` and ``error`` on the validation entries.
    method : str
        The one that completes: that of least validation error, unless another was asked for.
    matrix : ndarray, shape (d, d')
        Observed entries as given, the others as fitted to all observed entries; NaN where nothing
        determines them.
    singular_values : ndarray
        Of the matrix of low rank in the completion.
    determined : Determined
    column_errors, disagreements : DataFrame
        Test error by column, in its own unit; the test entries on which methods differ most.
    scale : {"none", "rows", "columns"}
        What has units of its own.
    remarks : tuple of str
        What did not go as asked, and what the file's reader remarked.
    """

    data: ObservedMatrix
    split: Split
    table: pd.DataFrame
    paths: dict[str, pd.DataFrame]
    method: str
    matrix: np.ndarray
    singular_values: np.ndarray
    determined: Determined
    column_errors: pd.DataFrame
    disagreements: pd.DataFrame
    scale: Scale
    remarks: tuple[str, ...]


def complete(
    data: ObservedMatrix,
    depths: Sequence[int] = (2, 3),
    *,
    test: float = 0.1,
    validation: float = 0.1,
    center: Center | Literal["auto"] | Sequence[Center] = "auto",
    scale: Scale | Literal["auto"] = "auto",
    bounds: tuple[float, float] | None = None,
    method: str | None = None,
    fill_undetermined: bool = False,
    start_norm: float = 1e-3,
    until_loss: float = 1e-6,
    tolerance: float | None = None,
    hidden: int | None = None,
    seed: int = 0,
    keep: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Completion:
    r"""Complete a matrix by gradient flow at several depths, beside what one would use instead.

    Each method is fitted to the fitted entries and chooses by the validation entries: a flow when
    to stop, biases their shrinkage, a nuclear norm its penalty. With what it chose it is fitted
    again to both and judged on the test entries. The method of least validation error is fitted
    once more, to all observed entries, and completes the matrix.

    Parameters
    ----------
    data : ObservedMatrix
    depths : sequence of int
        Numbers of factors to compare.
    test, validation : float
        Shares of the observed entries, between 0 and 1. With ``validation=0`` nothing is chosen: no
        run is stopped early, and the last depth completes.
    center : {"auto", "none", "mean", "rows", "columns", "both"}, or a sequence of them
        What is taken off before a matrix of low rank is fitted; of several, all are compared.
        ``"auto"`` compares none and both, with many entries none at the least depth only, with
        very many both alone.
    scale : {"auto", "none", "rows", "columns"}
        Whether rows or columns have units of their own. ``"auto"`` finds out by their spreads.
    bounds : (float, float), optional
        Least and largest possible value: predictions of all methods are clipped alike.
    method : str, optional
        The method that completes, by its name in the table.
    fill_undetermined : bool
        Whether entries that nothing determines are filled in all the same.
    start_norm : float
        :math:`\|W(0)\|_F`, where what is fitted has mean square 1.
    until_loss : float
        Mean squared residual at which a run ends at the latest, in the same unit.
    tolerance : float, optional
        Of the flow; by default 1e-4, of large problems 1e-3.
    hidden : int, optional
        Hidden size; by default min(d, d'), of large matrices twice the rank the data can carry,
        from 50 to 128.
    seed : int
        Of the split and of the start.
    keep : Path, optional
        A folder where finished runs are kept, until all is done.
    say : callable, optional
        Is told what is being done; bars are shown as well.

    Returns
    -------
    Completion

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, too few entries or none that differ, or a matrix that does not
        fit into memory; before any computing.
    """
    depths = checked_depths(depths)
    start_norm, until_loss = positive(start_norm, "start_norm"), positive(until_loss, "until_loss")
    coarse = gradient_dtype(data.shape)
    tolerance = (
        (1e-3 if coarse else 1e-4) if tolerance is None else positive(tolerance, "tolerance")
    )
    given = hidden if hidden is None else whole_number(hidden, "hidden", 1)
    hidden = given or choose_hidden(data.shape, data.n_observed)
    bounds = checked_bounds(bounds, data)
    memory = check_memory(data.shape, max(depths), hidden)
    split = split_entries(data, test, validation, seed)
    remarks = list(data.remarks) + about_split_and_size(data, split, test, hidden, given)
    judge = Judge(data, split, chosen_scale(scale, data, split), bounds)
    start = gaussian(start_norm, whole_number(seed, "seed", 0))
    settings = Settings(tolerance=tolerance, gradient_dtype=coarse)
    options = {"until_loss": until_loss, "hidden": hidden, "settings": settings}
    kept = _kept(keep, judge, options, start)
    options["progress"] = say is not None
    asked = runs_asked(checked_center(center), depths, data.n_observed)
    methods = _methods(asked, hidden or min(data.shape), start, options, kept)
    _check_method(method, methods)
    say = say or (lambda text: None)
    say(forecast(data, [n for each in asked.values() for n in each], start, hidden, memory))
    with collected(remarks):
        rows, judged = _judged(methods, judge)
        errors = {of: row["validation"] for of, row in rows.items()}
        name = method or best(errors, f"depth {depths[-1]}")
        chosen = next(one for one in methods if one.name == name)
        final = chosen.fit(judge.values, np.arange(data.n_observed))
    if kept.taken_up:
        remarks.append(f"{kept.taken_up} finished runs of an interrupted computation were used")
    table = pd.DataFrame(rows).T.infer_objects()
    found = _completion(judge, methods, table, judged, name, final, fill_undetermined, remarks)
    kept.clear()
    return found


def _completion(
    judge: Judge,
    methods: Sequence[Method],
    table: pd.DataFrame,
    judged: Mapping[str, Prediction],
    name: str,
    final: Prediction,
    fill_undetermined: bool,
    remarks: list[str],
) -> Completion:
    """What was found, with the matrix that the method `name` completes by its fit `final`."""
    data, split = judge.data, judge.split
    rank = supported_rank(judged[name], judge.values, split.test)
    determined = determined_entries(data.row_index, data.column_index, data.shape, rank)
    matrix = judge.completed(final)
    remarks = remarks + leave_open(data, determined, matrix, fill_undetermined)
    by_column = column_errors(judge, judged[name])
    remarks += about_dominance(by_column, name, judge.scaling.kind)
    return Completion(
        data,
        split,
        table,
        {one.name: judge.path(one) for one in methods if isinstance(one, Flow) and one.run.looks},
        name,
        matrix,
        judge.size * final.singular_values().numpy(),
        determined,
        by_column,
        disagreements(judge, judged),
        judge.scaling.kind,
        tuple(dict.fromkeys(remarks)),
    )


def _check_method(method: str | None, methods: Sequence[Method]) -> None:
    if method is not None and method not in [one.name for one in methods]:
        named = ", ".join(one.name for one in methods)
        raise ValueError(f"method must be one of {named}, got {method!r}")


def _methods(
    asked: Mapping[Center, Sequence[int]],
    hidden: int,
    start: gaussian,
    options: dict[str, object],
    kept: Kept,
) -> list[Method]:
    """Mean, biases, and for each way to centre every depth and the nuclear norm penalty."""
    methods: list[Method] = [Biases("mean")]
    for center, depths in asked.items():
        biases = Biases(center)
        if biases.center not in ("none", "mean"):
            methods.append(biases)
        methods += [Flow(biases, depth, start, options, kept) for depth in depths]
        methods.append(Penalty(biases, hidden, options["settings"].gradients_in))
    return methods


def _kept(folder: Path | None, judge: Judge, options: dict[str, object], start: gaussian) -> Kept:
    """Runs that are kept in a folder, for these data, this split and these options only."""
    values, split = judge.values, judge.split
    arrays = (values.i, values.j, values.z, split.fitted, split.validation)
    return Kept(folder, *(x.tobytes() for x in arrays), repr((options, start)).encode())


def _judged(
    methods: Sequence[Method], judge: Judge
) -> tuple[dict[str, dict[str, object]], dict[str, Prediction]]:
    """The row of each method, and its fit to fitted and validation entries together."""
    rows, judged = {}, {}
    for one in methods:
        error = one.choose(judge.values, judge.split.fitted, judge.split.validation)
        judged[one.name] = one.fit(judge.values, judge.both)
        rows[one.name] = judge.row(one, judged[one.name], error)
    return rows, judged
