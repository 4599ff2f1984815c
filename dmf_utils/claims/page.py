"""The measured ledger as HTML for the chapter ``claims``, and its counts as Markdown tables."""

from __future__ import annotations

import html
import re
from collections import Counter

from dmf_utils.claims.ledger import Kind, Verdict
from dmf_utils.claims.measured import Row, count
from dmf_utils.claims.render import badge, css_class, show, typeset

__all__ = ["counts", "rows_with_verdict", "tables"]


def counts(rows: list[Row]) -> str:
    """How many claims of each kind have which verdict, as an HTML list of a line a kind."""
    lines = []
    for kind, number in count(rows).items():
        shown = "".join(f"<span>{badge(verdict)} {number[verdict]}</span>" for verdict in Verdict)
        lines.append(f"<li><b>{kind.label}</b>{shown}</li>")
    return f'<ul class="dmf-counts">{"".join(lines)}</ul>'


def tables(rows: list[Row], chapters: list[str]) -> str:
    """Two Markdown tables: verdicts by kind, and rows reproduced by chapter and kind."""
    lines = [
        f"| Kind of row | Rows | {' | '.join(verdict.capitalize() for verdict in Verdict)} |",
        "|---|" + "---:|" * 5,
    ]
    for kind, number in count(rows).items():
        shown = [number.total(), *(number[verdict] for verdict in Verdict)]
        lines.append(f"| {kind.label} | {' | '.join(map(str, shown))} |")
    lines += [
        "",
        "Reproduced, of the rows of each chapter:",
        "",
        f"| Chapter | {' | '.join(kind.label for kind in Kind)} |",
        "|---|" + "---:|" * len(Kind),
    ]
    for chapter in chapters:
        if own := [row for row in rows if row["chapter"] == chapter]:
            cells = " | ".join(_share(number) for number in count(own).values())
            lines.append(f"| {{doc}}`{chapter}` | {cells} |")
    return "\n".join(lines)


def _share(number: Counter[Verdict]) -> str:
    total = number.total()
    return f"{number[Verdict.REPRODUCED]}\u00a0of\u00a0{total}" if total else "–"


def rows_with_verdict(rows: list[Row], verdict: Verdict) -> str:
    """The rows of one verdict as HTML, by kind and group, each linked to the cell that decides it.

    A row whose cell has a figure, or stands below one in the same section, is linked to it too.
    """
    chosen = [row for row in rows if row["verdict"] == verdict]
    if not chosen:
        return '<p class="dmf-none">None.</p>'
    parts = []
    for kind in Kind:
        of_kind = [row for row in chosen if row["kind"] == kind]
        for group in dict.fromkeys(row["group"] for row in of_kind):
            parts.append(f'<p class="dmf-group">{kind.label} › {html.escape(group)}</p>')
            parts += [_row(row, verdict) for row in of_kind if row["group"] == group]
    return "".join(parts)


def _row(row: Row, verdict: Verdict) -> str:
    page = f"{html.escape(row['chapter'])}.html"
    cell = f"{page}#claim-{row['id']}"
    facts = [html.escape(row["paper"]), f"expected: {typeset(row['expected'])}"]
    if verdict is not Verdict.NOT_RUN:
        facts.append(f'measured: <a href="{cell}">{html.escape(show(row["measured"]))}</a>')
    facts.append(f"rule: {html.escape(row['rule'])}")
    if verdict is Verdict.PARTLY:
        facts.append(f"looser rule: {html.escape(row['looser_rule'])}")
    if verdict is Verdict.NOT_RUN:
        lacking = f"needs {html.escape(row['needs'])}; " if row["needs"] else ""
        facts.append(f'{lacking}chapter: <a href="{page}">{html.escape(row["chapter"])}</a>')
    decided = ""
    if row["title"] and verdict is not Verdict.NOT_RUN:
        links = [f'<a href="{cell}">{_section(row)}</a>']
        if row["figure"]:
            links.append(f'<a href="{page}#{html.escape(row["figure"])}">its figure</a>')
        decided = f'<span class="dmf-facts">Decided in {", with ".join(links)}.</span>'
    return (
        f'<div class="dmf-claim {css_class(verdict)}">{badge(verdict)} '
        f'<div>{typeset(row["statement"])} <span class="dmf-facts">{"; ".join(facts)}</span>'
        f"{decided}</div></div>"
    )


def _section(row: Row) -> str:
    """Chapter and section as one text, without Markdown's signs."""
    names = dict.fromkeys(filter(None, (row["title"], row["section"])))
    return typeset(re.sub(r"[*`]", "", " › ".join(names)))
