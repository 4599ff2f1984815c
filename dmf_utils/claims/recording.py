"""What a chapter calls to hand a measured value to the ledger."""

from __future__ import annotations

from typing import Any

from dmf_utils.claims import render
from dmf_utils.claims.ledger import Claim, load
from dmf_utils.claims.rules import Measured, plain_value

__all__ = ["MIME_TYPE", "bundle", "record"]

MIME_TYPE = "application/vnd.dmf.claim+json"


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
    return {
        MIME_TYPE: {"id": claim.id, "measured": measured},
        "text/html": render.line(claim, measured),
        "text/plain": render.text_line(claim, measured),
    }
