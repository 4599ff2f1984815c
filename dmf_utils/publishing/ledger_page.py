"""The ledger as the chapter ``claims`` prints it."""

from __future__ import annotations

import html
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from dmf_utils._support.notebooks import headings, title
from dmf_utils.claims import measured
from dmf_utils.claims.ledger import Claim, Verdict
from dmf_utils.claims.render import badge, show, typeset
from dmf_utils.publishing import pages
from dmf_utils.publishing.chapter import Chapter
from dmf_utils.publishing.project import Project

__all__ = ["Place", "counts", "measured_rows", "places", "rows_with_verdict"]


@dataclass(frozen=True)
class Place:
    """Where a claim is decided.

    Attributes
    ----------
    chapter
        The chapter's title.
    section
        The heading above the cell.
    figure
        The name of the section's figure above the cell, or of the cell; empty if it has none.
    """

    chapter: str
    section: str
    figure: str


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
    return measured.read(path)


def places(claims: dict[str, Claim]) -> dict[str, Place]:
    """Where the chapters as last executed decide their claims, by the claims' ids."""
    project = Project.find()
    quick = project.at_size(quick=True)
    if Path(os.environ.get("DMF_CLAIMS", project.claims)).resolve() == quick.claims.resolve():
        project = quick
    found: dict[str, Place] = {}
    for name in {claim.chapter for claim in claims.values()} & set(project.chapters()):
        if (chapter := Chapter(project, name)).last:
            found |= _places_in(pages.page(chapter))
    return found


def _places_in(chapter: NotebookNode) -> dict[str, Place]:
    found: dict[str, Place] = {}
    section, figure = "", ""
    for cell in chapter.cells:
        if cell.cell_type == "markdown":
            for above, _ in headings(cell.source):
                section, figure = above, ""
            continue
        figure = cell.metadata.get("mystnb", {}).get("figure", {}).get("name", figure)
        for _, id, _ in measured.recorded(NotebookNode(cells=[cell])):
            found[id] = Place(title(chapter), section, figure)
    return found


def counts(rows: list[dict[str, Any]]) -> str:
    """How many claims have which verdict, as HTML."""
    number = Counter(row["verdict"] for row in rows)
    items = [f"<li>{badge(verdict)} <b>{number[verdict]}</b></li>" for verdict in Verdict]
    return f'<ul class="dmf-counts">{"".join(items)}</ul>'


def rows_with_verdict(
    rows: list[dict[str, Any]],
    claims: dict[str, Claim],
    verdict: Verdict,
    places: dict[str, Place],
) -> str:
    """The rows of one verdict as HTML, by group, each linked to the cell that decides it.

    A row whose cell has a figure, or stands below one in the same section, is linked to it too.
    """
    chosen = [row for row in rows if row["verdict"] == verdict and row["id"] in claims]
    if not chosen:
        return '<p class="dmf-none">None.</p>'
    parts = []
    for group in dict.fromkeys(claims[row["id"]].group for row in chosen):
        parts.append(f'<p class="dmf-group">{html.escape(group)}</p>')
        parts += [
            _row(row, claims[row["id"]], places.get(row["id"]))
            for row in chosen
            if claims[row["id"]].group == group
        ]
    return "".join(parts)


def _row(row: dict[str, Any], claim: Claim, place: Place | None) -> str:
    verdict = Verdict(row["verdict"])
    page = f"{html.escape(claim.chapter)}.html"
    facts = [html.escape(claim.paper), f"paper: {typeset(claim.expected)}"]
    if verdict is not Verdict.NOT_RUN:
        link = f"{page}#claim-{claim.id}"
        facts.append(f'measured: <a href="{link}">{html.escape(show(row["measured"]))}</a>')
    facts.append(f"rule: {html.escape(claim.rule.text)}")
    if verdict is Verdict.PARTLY and claim.partly is not None:
        facts.append(f"looser rule: {html.escape(claim.partly.text)}")
    if verdict is Verdict.NOT_RUN:
        lacking = f"needs {html.escape(claim.needs)}; " if claim.needs else ""
        facts.append(f'{lacking}chapter: <a href="{page}">{html.escape(claim.chapter)}</a>')
    decided = ""
    if place is not None and verdict is not Verdict.NOT_RUN:
        links = [f'<a href="{page}#claim-{claim.id}">{_section(place)}</a>']
        if place.figure:
            links.append(f'<a href="{page}#{html.escape(place.figure)}">its figure</a>')
        decided = f'<span class="dmf-facts">Decided in {", with ".join(links)}.</span>'
    return (
        f'<div class="dmf-claim dmf-{verdict.replace(" ", "-")}">{badge(verdict)} '
        f'<div>{typeset(claim.statement)} <span class="dmf-facts">{"; ".join(facts)}</span>'
        f"{decided}</div></div>"
    )


def _section(place: Place) -> str:
    """Chapter and section as one text, without Markdown's signs."""
    names = dict.fromkeys(filter(None, (place.chapter, place.section)))
    return typeset(re.sub(r"[*`]", "", " › ".join(names)))
