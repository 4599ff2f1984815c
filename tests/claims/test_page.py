"""The ledger's page and the tables of the introduction."""

from __future__ import annotations

import re
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dmf_utils.claims import measured, page
from dmf_utils.claims.ledger import Verdict


@pytest.fixture
def rows(claim: Any, recording: Any) -> list[measured.Row]:
    claims = {
        "first-claim": claim(
            id="first-claim", statement=r"It is $\leq 1$.", rule={"range": [0, 1]}
        ),
        "second-claim": claim(
            id="second-claim", chapter="other", needs="data that a build may lack"
        ),
        "third-claim": claim(id="third-claim", kind="identity", group="A group"),
    }
    figure = {"figure": {"name": "fig-a", "caption": "…"}}
    chapter = new_notebook(
        cells=[
            new_markdown_cell("# A `chapter`\n\n## A <section>"),
            new_code_cell("draw()", metadata={"mystnb": figure}),
            recording(("first-claim", 1), ("third-claim", 1)),
        ]
    )
    return measured.collect(claims, {"small": chapter})


def test_the_tables_count_the_kinds_apart(rows: list[measured.Row]) -> None:
    lines = page.tables(rows, ["other", "small", "without"]).splitlines()
    assert lines[0] == "| Kind of row | Rows | Reproduced | Partly | Not reproduced | Not run |"
    assert lines[2:6] == [
        "| Claim of the paper | 2 | 1 | 0 | 0 | 1 |",
        "| Identity | 1 | 0 | 0 | 1 | 0 |",
        "| Ours | 0 | 0 | 0 | 0 | 0 |",
        "| Later paper | 0 | 0 | 0 | 0 | 0 |",
    ]
    assert lines[-2:] == [
        "| {doc}`other` | 0\u00a0of\u00a01 | – | – | – |",
        "| {doc}`small` | 1\u00a0of\u00a01 | 0\u00a0of\u00a01 | – | – |",
    ]


def test_the_page_counts_the_kinds_apart(rows: list[measured.Row]) -> None:
    lines = page.counts(rows).split("<li>")[1:]
    assert [re.sub(r"<[^>]+>", " ", line).split()[-1] for line in lines] == ["1", "0", "0", "0"]
    assert "<b>Claim of the paper</b>" in lines[0]
    assert "reproduced</span> 1</span>" in lines[0]
    assert "not reproduced</span> 1</span>" in lines[1]


def test_rows_link_to_cell_and_figure_and_say_what_was_lacking(rows: list[measured.Row]) -> None:
    found = page.rows_with_verdict(rows, Verdict.REPRODUCED)
    assert "Claim of the paper › Figure 1" in found
    assert found.count('<a href="small.html#claim-first-claim">') == 2
    assert "A chapter › A &lt;section&gt;" in found
    assert '<a href="small.html#fig-a">' in found
    assert r"\(\leq 1\)" in found
    assert "Identity › A group" in page.rows_with_verdict(rows, Verdict.NOT_REPRODUCED)
    lacking = page.rows_with_verdict(rows, Verdict.NOT_RUN)
    assert "needs data that a build may lack" in lacking
    assert "#claim-" not in lacking
    assert "None." in page.rows_with_verdict(rows, Verdict.PARTLY)
