"""The ledger as the chapter ``claims`` prints it."""

from __future__ import annotations

import html
import os
from collections import Counter
from pathlib import Path
from typing import Any

from dmf_utils.claims import Claim, Verdict, badge, show, typeset
from dmf_utils.publishing import ledger
from dmf_utils.publishing.project import Project

__all__ = ["counts", "measured_rows", "rows_with_verdict"]


def measured_rows() -> list[dict[str, Any]]:
    """The ledger as measured: the file the driver names in ``DMF_CLAIMS``, else the last book's.

    Raises
    ------
    FileNotFoundError
        If the book was not built yet.
    """
    named = os.environ.get("DMF_CLAIMS")
    path = Path(named) if named else Project.find().claims
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there yet: `make book` measures the claims")
    return ledger.read(path)


def counts(rows: list[dict[str, Any]]) -> str:
    """How many claims have which verdict, as HTML."""
    number = Counter(row["verdict"] for row in rows)
    items = [f"<li>{badge(verdict)} <b>{number[verdict]}</b></li>" for verdict in Verdict]
    return f'<ul class="dmf-counts">{"".join(items)}</ul>'


def rows_with_verdict(
    rows: list[dict[str, Any]], claims: dict[str, Claim], verdict: Verdict
) -> str:
    """The rows of one verdict as HTML, by group, each linked to the cell that decides it."""
    chosen = [row for row in rows if row["verdict"] == verdict and row["id"] in claims]
    if not chosen:
        return '<p class="dmf-none">None.</p>'
    parts = []
    for group in dict.fromkeys(claims[row["id"]].group for row in chosen):
        parts.append(f'<p class="dmf-group">{html.escape(group)}</p>')
        parts += [
            _row(row, claims[row["id"]]) for row in chosen if claims[row["id"]].group == group
        ]
    return "".join(parts)


def _row(row: dict[str, Any], claim: Claim) -> str:
    verdict = Verdict(row["verdict"])
    facts = [html.escape(claim.paper), f"paper: {typeset(claim.expected)}"]
    if verdict is not Verdict.NOT_RUN:
        link = f"{html.escape(claim.chapter)}.html#claim-{claim.id}"
        facts.append(f'measured: <a href="{link}">{html.escape(show(row["measured"]))}</a>')
    facts.append(f"rule: {html.escape(claim.rule.text)}")
    if verdict is Verdict.PARTLY and claim.partly is not None:
        facts.append(f"looser rule: {html.escape(claim.partly.text)}")
    return (
        f'<div class="dmf-claim dmf-{verdict.replace(" ", "-")}">{badge(verdict)} '
        f'<div>{typeset(claim.statement)} <span class="dmf-facts">{"; ".join(facts)}</span>'
        "</div></div>"
    )
