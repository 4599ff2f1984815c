"""What a completion remarks about itself: what it leaves open, and what decides its error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd

from dmf_utils.user_data.determined import Determined
from dmf_utils.user_data.matrix import ObservedMatrix
from dmf_utils.user_data.offsets import Scale
from dmf_utils.user_data.split import Split

__all__ = ["about_dominance", "about_split_and_size", "collected", "leave_open"]

_COUNTED = 0.5  # share of the total error of one column that is remarked


def about_split_and_size(
    data: ObservedMatrix, split: Split, test: float, hidden: int | None, given: int | None
) -> list[str]:
    """What differs from what was asked: fewer test entries, or a bound of the rank."""
    said = []
    asked = round(test * data.n_observed)
    if len(split.test) < asked:
        said.append(
            f"{len(split.test)} test entries, not {asked}: more would leave a row or a column empty"
        )
    if hidden is not None and hidden < min(data.shape):
        why = "as asked" if given else "chosen by how many entries are observed"
        said.append(
            f"hidden size {hidden}, {why}, not min(d, d') = {min(data.shape)}: it bounds the rank"
        )
    return said


@contextmanager
def collected(remarks: list[str]) -> Iterator[None]:
    """Turn warnings of the solvers into remarks, but not those of the hidden size."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    remarks += [str(w.message) for w in caught if not str(w.message).startswith("hidden = ")]


def leave_open(
    data: ObservedMatrix, determined: Determined, matrix: np.ndarray, fill: bool
) -> list[str]:
    """Put NaN where nothing is determined, unless asked to fill, and say so."""
    is_open = ~determined.mask
    is_open[data.row_index, data.column_index] = False
    count, total = int(is_open.sum()), is_open.size - data.n_observed
    if not fill:
        matrix[is_open] = np.nan
    if count == 0:
        return []
    rows, columns = (int((x < 0).sum()) for x in (determined.rows, determined.columns))
    parts = determined.n_components
    rank = determined.rank
    reasons = [f"{parts} groups of rows and columns share no entry"] if parts > 1 else []
    if rows or columns:
        reasons.append(f"{rows} rows and {columns} columns have too few for rank {rank}")
    if not reasons:
        reasons.append(f"matrices of rank {rank} may differ there and agree where it is observed")
    why = "; ".join(reasons)
    done = "filled in all the same" if fill else "left as NaN"
    return [
        f"{count} of {total} unobserved entries ({100 * count / total:.3g} %) are determined by "
        f"nothing that is observed, and {done}: {why}"
    ]


def about_dominance(by_column: pd.DataFrame, name: str, scale: Scale) -> list[str]:
    """One column that makes most of the error, by its size and not by a chance error."""
    top = by_column.iloc[0]
    decides = top.deviation > 3 * by_column.deviation.median()
    if scale != "none" or len(by_column) < 3 or top.share <= _COUNTED or not decides:
        return []
    return [
        f"one column, {by_column.index[0]!r}, makes {100 * top.share:.0f} % of the squared error "
        f"of {name}: the error in the table is that column's; see the errors by column, or give "
        "each its own unit (scale columns)"
    ]
