"""Claims, verdicts and measured values as HTML and as text."""

from __future__ import annotations

import html
import re
from collections import Counter

from dmf_utils.claims.ledger import Claim, Verdict, judge
from dmf_utils.claims.rules import Measured

__all__ = ["badge", "css_class", "line", "show", "text_line", "typeset"]

_SIGNS = {
    Verdict.REPRODUCED: "✓",
    Verdict.PARTLY: "≈",
    Verdict.NOT_REPRODUCED: "✗",
    Verdict.NOT_RUN: "–",
}
_MOST_LISTED, _FEW = 4, 3  # a longer list of so few different values is counted


def line(claim: Claim, measured: Measured) -> str:
    """A claim with its verdict as HTML, where the chapter decides it."""
    verdict = judge(claim, measured)
    facts = [
        f"{claim.kind.label}; {html.escape(claim.paper)}",
        f"expected: {typeset(claim.expected)}",
        f"measured: {html.escape(show(measured))}",
        f"rule: {html.escape(claim.rule.text)}",
    ]
    return (
        f'<div class="dmf-claim {css_class(verdict)}" id="claim-{claim.id}">{badge(verdict)} <div>'
        f'{typeset(claim.statement)} <span class="dmf-facts">{"; ".join(facts)}</span></div></div>'
    )


def text_line(claim: Claim, measured: Measured) -> str:
    """The same as plain text, for a terminal."""
    verdict = judge(claim, measured)
    return (
        f"{_SIGNS[verdict]} {verdict}: {claim.statement} ({claim.kind.label}.) "
        f"Expected: {claim.expected}. Measured: {show(measured)}."
    )


def badge(verdict: Verdict) -> str:
    """The verdict as HTML, told by a sign and a word, not by colour alone."""
    return (
        f'<span class="dmf-badge {css_class(verdict)}"><span aria-hidden="true">'
        f"{_SIGNS[verdict]}</span> {verdict}</span>"
    )


def css_class(verdict: Verdict) -> str:
    """The verdict's class in the pages' style sheet."""
    return f"dmf-{verdict.replace(' ', '-')}"


def typeset(text: str) -> str:
    """Escaped HTML in which formulas between dollar signs are left for MathJax."""
    return re.sub(
        r"\$([^$]+)\$", r'<span class="math mathjax_process">\\(\1\\)</span>', html.escape(text)
    )


def show(measured: Measured) -> str:
    """The measured value with four significant digits; a list of few different ones as counts."""
    if isinstance(measured, dict):
        return ", ".join(f"{name}: {show(value)}" for name, value in measured.items())
    if isinstance(measured, list):
        shown = Counter(show(value) for value in measured)
        if len(measured) > _MOST_LISTED and len(shown) <= _FEW:
            return ", ".join(f"{text} ({number} times)" for text, number in shown.items())
        return ", ".join(show(value) for value in measured)
    if isinstance(measured, bool):
        return "true" if measured else "false"
    return f"{measured:.4g}"
