"""A chapter records what it measured."""

from __future__ import annotations

from typing import Any

from dmf_utils.claims.ledger import MIME_TYPE, Claim, judge, load
from dmf_utils.claims.render import _SIGNS, _line, show
from dmf_utils.claims.rules import Measured, plain_value

__all__ = ["record"]


def record(id: str, value: Any) -> None:
    """Judge a chapter's own value of a claim and show the verdict in the page.

    Parameters
    ----------
    id
        The row's id in the ledger.
    value
        What was measured: a number, a list or dict of numbers, or a bool. Arrays and tensors are
        taken as lists.

    Raises
    ------
    ValueError
        If the ledger has no such row, or the value is not finite.
    TypeError
        If the value is of a kind that the row's rule cannot judge.
    """
    from IPython.display import display

    claims = load()
    if id not in claims:
        raise ValueError(f"id: got {id!r}, which book/claims.yml does not have; add the row first")
    measured = plain_value(value, f"claim {id!r}")
    display(bundle(claims[id], measured), raw=True)


def bundle(claim: Claim, measured: Measured) -> dict[str, Any]:
    """The claim's output in a notebook: for the page, for a terminal, and for the driver."""
    verdict = judge(claim, measured)
    return {
        MIME_TYPE: {"id": claim.id, "measured": measured},
        "text/html": _line(claim, measured, verdict),
        "text/plain": f"{_SIGNS[verdict]} {verdict}: {claim.statement} "
        f"Paper: {claim.expected}. Measured: {show(measured)}.",
    }
