"""Which observed entries are fitted, and which are kept back to judge the fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmf_utils._support.checks import number, whole_number
from dmf_utils.user_data.matrix import OwnMatrix

__all__ = ["Split", "split_entries"]

_A_SHARE = "a share between 0 and 1, such as 0.1"


@dataclass(frozen=True)
class Split:
    """Which observed entries are fitted, which stop a run, and which are held out.

    Attributes
    ----------
    fitted, stopping, held_out : ndarray of int
        Positions in the list of observed entries.
    """

    fitted: np.ndarray
    stopping: np.ndarray
    held_out: np.ndarray


def split_entries(own: OwnMatrix, held_out: float, stopping: float, seed: int) -> Split:
    """Part the observed entries at random, so that every row and column keeps a fitted one.

    Parameters
    ----------
    own : OwnMatrix
    held_out, stopping : float
        Shares of the observed entries.
    seed : int

    Raises
    ------
    TypeError, ValueError
        For shares that are none, or if not one entry can be held out.
    """
    for name, share in (("held_out", held_out), ("stopping", stopping)):
        least = name == "stopping"  # none may stop a run, but some must judge it
        number(share, name, lambda x, least=least: 0 < x < 1 or (least and x == 0), _A_SHARE)
    if held_out + stopping >= 1:
        raise ValueError(
            f"held_out and stopping are {held_out:g} and {stopping:g}: together they must leave "
            "entries to fit; lower them"
        )
    generator = np.random.default_rng(whole_number(seed, "seed", 0))
    left = [np.bincount(own.row_index), np.bincount(own.column_index)]
    wanted = [round(share * own.n_observed) for share in (held_out, stopping)]
    taken: list[int] = []
    for at in generator.permutation(own.n_observed).tolist():
        if len(taken) == sum(wanted):
            break
        i, j = own.row_index[at], own.column_index[at]
        if left[0][i] > 1 and left[1][j] > 1:
            left[0][i] -= 1
            left[1][j] -= 1
            taken.append(at)
    # Where too few can be spared, both sets are smaller in proportion.
    first = round(len(taken) * wanted[0] / max(sum(wanted), 1))
    if first == 0 or (wanted[1] > 0 and first == len(taken)):
        raise ValueError(
            f"of {own.n_observed} observed entries, {first} can be held out and "
            f"{len(taken) - first} can stop a run (shares {held_out:g} and {stopping:g}; every row "
            "and column keeps one): too few; give more entries, or other shares"
        )
    fitted = np.setdiff1d(np.arange(own.n_observed), taken)
    return Split(fitted, np.sort(taken[first:]), np.sort(taken[:first]))
