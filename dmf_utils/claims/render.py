"""Verdicts and values as HTML and text."""

from __future__ import annotations

import html
import re

from dmf_utils.claims.ledger import Claim, Verdict
from dmf_utils.claims.rules import Measured

_SIGNS = {
    Verdict.REPRODUCED: "✓",
    Verdict.PARTLY: "≈",
    Verdict.NOT_REPRODUCED: "✗",
    Verdict.NOT_RUN: "–",
}


def _line(claim: Claim, measured: Measured, verdict: Verdict) -> str:
    return (
        f'<div class="dmf-claim dmf-{verdict.replace(" ", "-")}" id="claim-{claim.id}">'
        f"{badge(verdict)} <div>"
        f"{typeset(claim.statement)} "
        f'<span class="dmf-facts">{html.escape(claim.paper)} — paper: {typeset(claim.expected)}; '
        f"measured: {html.escape(show(measured))}; rule: {html.escape(claim.rule.text)}"
        "</span></div></div>"
    )


def badge(verdict: Verdict) -> str:
    """The verdict as HTML, told by a sign and a word, not by colour alone."""
    name = verdict.replace(" ", "-")
    return (
        f'<span class="dmf-badge dmf-{name}"><span aria-hidden="true">{_SIGNS[verdict]}</span> '
        f"{verdict}</span>"
    )


def typeset(text: str) -> str:
    """Escaped HTML in which formulas between dollar signs are left for MathJax."""
    return re.sub(
        r"\$([^$]+)\$", r'<span class="math mathjax_process">\\(\1\\)</span>', html.escape(text)
    )


def show(measured: Measured) -> str:
    """The measured value with four significant digits."""
    if isinstance(measured, dict):
        return ", ".join(f"{name}: {show(value)}" for name, value in measured.items())
    if isinstance(measured, list):
        return ", ".join(show(value) for value in measured)
    if isinstance(measured, bool):
        return "true" if measured else "false"
    return f"{measured:.4g}"
