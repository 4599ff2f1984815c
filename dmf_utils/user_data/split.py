"""Which observed entries are fitted, which choose, and which judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmf_utils._support.checks import number, whole_number
from dmf_utils.user_data.matrix import ObservedMatrix

__all__ = ["Split", "split_entries"]

_A_SHARE = "a share between 0 and 1, such as 0.1"


@dataclass(frozen=True)
class Split:
    """Positions in the list of observed entries.

    Attributes
    ----------
    fitted : ndarray of int
    validation : ndarray of int
        By which every method chooses: when to stop, how strong a penalty is.
    test : ndarray of int
        By which all methods are judged, and which none of them sees.
    """

    fitted: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_entries(data: ObservedMatrix, test: float, validation: float, seed: int) -> Split:
    """Split the observed entries at random, so that every row and column keeps a fitted one.

    Parameters
    ----------
    data : ObservedMatrix
    test, validation : float
        Shares of the observed entries.
    seed : int

    Raises
    ------
    TypeError, ValueError
        For shares that are none, or if not one entry can be spared.
    """
    for name, share in (("test", test), ("validation", validation)):
        least = name == "validation"  # none may choose, but some must judge
        number(share, name, lambda x, least=least: 0 < x < 1 or (least and x == 0), _A_SHARE)
    if test + validation >= 1:
        raise ValueError(
            f"test and validation are {test:g} and {validation:g}: together they must leave "
            "entries to fit; lower them"
        )
    generator = np.random.default_rng(whole_number(seed, "seed", 0))
    left = [np.bincount(index).tolist() for index in (data.row_index, data.column_index)]
    rows, columns = data.row_index.tolist(), data.column_index.tolist()
    wanted = [round(share * data.n_observed) for share in (test, validation)]
    taken: list[int] = []
    for at in generator.permutation(data.n_observed).tolist():
        if len(taken) == sum(wanted):
            break
        i, j = rows[at], columns[at]
        if left[0][i] > 1 and left[1][j] > 1:
            left[0][i] -= 1
            left[1][j] -= 1
            taken.append(at)
    # Where too few can be spared, both sets are smaller in proportion.
    first = round(len(taken) * wanted[0] / max(sum(wanted), 1))
    if first == 0 or (wanted[1] > 0 and first == len(taken)):
        raise ValueError(
            f"of {data.n_observed} observed entries, {first} can be test entries and "
            f"{len(taken) - first} validation entries (shares {test:g} and {validation:g}; every "
            "row and column keeps one): too few; give more entries, or other shares"
        )
    both = np.array(taken, dtype=int)
    fitted = np.setdiff1d(np.arange(data.n_observed), both)
    return Split(fitted, np.sort(both[first:]), np.sort(both[:first]))
