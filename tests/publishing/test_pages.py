"""What the build writes into the pages by itself: status and index of theorems."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dmf_utils._support import machine
from dmf_utils._support.errors import InputError
from dmf_utils._support.notebooks import title
from dmf_utils.publishing import status_page, theorem_index
from dmf_utils.publishing.build import build_book
from dmf_utils.publishing.chapter import Execution
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.status_page import SectionTime

MakeBook = Callable[..., Project]


def timed(source: str, seconds: float) -> object:
    return new_code_cell(source, metadata={"papermill": {"duration": seconds}})


def test_times_are_summed_by_section_under_the_heading_above_it() -> None:
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# Title\n\nText."),
            timed("1", 1.0),
            new_markdown_cell("## One\n\n```\n# no heading\n```\n\n### Deep"),
            timed("2", 2.0),
            new_markdown_cell("Text without a heading."),
            timed("3", 3.0),
            timed("", 99.0),  # nothing ran
            new_markdown_cell("## Two"),
            new_code_cell("4"),
        ]
    )
    assert title(notebook) == "Title"
    assert status_page.section_times(notebook) == [
        SectionTime("Opening", 1, 1.0),
        SectionTime("One › Deep", 2, 5.0),
        SectionTime("Two", 1, 0.0),
    ]


def test_status_states_machine_versions_seeds_commit_and_times(make_book: MakeBook) -> None:
    project = make_book(
        "sum(range(seed))", parameters="seed: int = 7  # of the sum\nn: int = 1  # rows"
    )
    (project.book / "status.md").write_text("# Status\n\n<!-- generated: status -->\n")
    table = project.book / "_toc.yml"
    table.write_text(table.read_text() + "- file: status\n")
    build_book(project)
    text = (project.executed / "status.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| {doc}`small`")]
    assert re.search(r"\| \d+:\d\d \|", row)
    assert "`seed` = `7`" in row
    assert "`n`" not in row
    assert machine.hardware() in text
    assert "torch 2" in text
    assert "| Opening | 2 |" in text
    assert "generated:" not in text


def test_two_machines_are_kept_apart() -> None:
    here = Execution("k", {}, 61.0, "today", {"Python": "3.12", "commit": "abc"}, "one machine")
    there = Execution("k", {}, 3.0, "today", {"Python": "3.11"}, "another")
    a = SimpleNamespace(name="a", parameters={}, last=here)
    b = SimpleNamespace(name="b", parameters={}, last=there)
    text = status_page.status(Project(Path()), [a, b])
    assert "ran for 1:04" in text
    assert "| {doc}`a` | – | 1:01 | today | `abc` | – |" in text
    assert text.count("**Machine**") == 2
    assert "Python 3.12.\n  **Chapters**: {doc}`a`." in text


def test_hardware_names_cores_and_memory_but_not_the_machine() -> None:
    import platform

    text = machine.hardware()
    assert " of memory, " in text
    assert " core" in text
    assert platform.node() not in text


@pytest.mark.parametrize(
    ("opening", "name", "in_the_paper"),
    [
        ("```{prf:theorem} 2 of the paper", "Theorem 2", "Theorem 2"),
        (
            "> ```{prf:conjecture} 1 of the paper, informally",
            "Conjecture 1, informally",
            "Conjecture 1",
        ),
        (":::{prf:lemma} Motion; Lemma 2 of the paper", "Motion", "Lemma 2"),
        ("```{prf:theorem} Rates †", "Rates", "not in the paper\u00a0†"),
        ("```{prf:theorem} What it is (†)", "What it is", "not in the paper\u00a0†"),
        ("```{prf:theorem} Conservation", "Conservation", "no number"),
        (
            "```{prf:theorem} Proposition 1 of the paper, for this problem",
            "Proposition 1 of the paper, for this problem",
            "Proposition 1",
        ),
    ],
)
def test_boxes_are_found_with_the_papers_number(opening: str, name: str, in_the_paper: str) -> None:
    quote = opening[:2] if opening.startswith("> ") else ""
    text = f"Text.\n\n{opening}\n{quote}:label: a-label\n{quote}:nonumber:\n\nIt holds."
    proof = "```{prf:proof}\nClear.\n```"
    notebook = new_notebook(cells=[new_markdown_cell(text), new_markdown_cell(proof)])
    (box,) = theorem_index.boxes("small", notebook)
    assert (box.name, box.in_the_paper, box.label) == (name, in_the_paper, "a-label")
    row = theorem_index.theorem_index([box]).splitlines()[-1]
    assert row.startswith(f"| {{prf:ref}}`{name} <a-label>` | {box.kind} | {in_the_paper} |")


def test_an_unknown_generated_part_is_bad_input(make_book: MakeBook) -> None:
    project = make_book("1")
    (project.book / "intro.md").write_text("# A book\n\n<!-- generated: nothing -->\n")
    with pytest.raises(InputError, match=r"book/intro\.md: <!-- generated: nothing --> must name"):
        build_book(project)
