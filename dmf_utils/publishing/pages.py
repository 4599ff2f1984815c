"""Turn the chapters' runs into the tree that Jupyter Book builds the pages from."""

from __future__ import annotations

import re
import shutil
from typing import Any

import nbformat
from nbformat import NotebookNode

from dmf_utils.claims import Claim
from dmf_utils.publishing import ledger
from dmf_utils.publishing.parameters import Parameter
from dmf_utils.publishing.progress import clock
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.runs import Run

__all__ = ["assemble"]

_QUICK_BANNER = """
:::{admonition} Quick size, not the paper's
:class: warning dmf-quick
This page was made at a small size, for a look or a test. Its numbers and figures are not those of
the paper's size, and its verdicts do not count.
:::
"""


def assemble(
    project: Project,
    runs: dict[str, Run],
    parameters: dict[str, dict[str, Parameter]],
    claims: dict[str, Claim],
) -> None:
    """Write the executed chapters and all that belongs to them into ``executed/``, anew.

    Parameters
    ----------
    project
        Where to read and to write.
    runs, parameters
        The record and the parameters of each chapter.
    claims
        The ledger, by which recorded values are judged and shown again.
    """
    target = project.executed
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        project.book,
        target,
        ignore=shutil.ignore_patterns("*.ipynb", ".*", "_ext", "quick", "__pycache__"),
    )
    if project.quick:
        for path in target.rglob("*.md"):
            path.write_text(with_banner(path.read_text(encoding="utf-8")), encoding="utf-8")
    for chapter, run in runs.items():
        page = _page(project, chapter)
        ledger.render_again(page, claims)
        if project.quick:
            first = next(cell for cell in page.cells if cell.cell_type == "markdown")
            first.source = with_banner(first.source)
        facts = run_facts(project, run, parameters[chapter])
        page.cells.append(nbformat.v4.new_markdown_cell(facts, id="how-this-page-was-made"))
        (target / f"{chapter}.ipynb").parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(page, target / f"{chapter}.ipynb")


def _page(project: Project, chapter: str) -> NotebookNode:
    """The chapter's present text with the outputs of its run.

    If the code has changed since (only when chapters were named on the command line), the page
    shows the run's own code and text, so that what stands above an output is what made it.
    """
    page = nbformat.read(project.chapter_path(chapter), as_version=4)
    executed = nbformat.read(project.runs / f"{chapter}.ipynb", as_version=4)
    injected = [cell for cell in executed.cells if _tagged(cell, "injected-parameters")]
    executed.cells = [cell for cell in executed.cells if cell not in injected]
    sources = [cell for cell in page.cells if cell.cell_type == "code"]
    results = [cell for cell in executed.cells if cell.cell_type == "code"]
    if [cell.source for cell in sources] == [cell.source for cell in results]:
        for source, result in zip(sources, results, strict=True):
            source.outputs, source.execution_count = result.outputs, result.execution_count
    else:
        page = executed
    for cell in injected:
        cell.metadata.tags = [*cell.metadata.tags, "hide-input"]
        places = [n for n, other in enumerate(page.cells) if _tagged(other, "parameters")]
        page.cells.insert(places[0] + 1, cell)
    for part in (page, *page.cells):
        part.metadata.pop("papermill", None)  # it carries paths and times
    return page


def _tagged(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def with_banner(text: str) -> str:
    """The text with the quick size's banner below its first heading."""
    heading = re.search(r"^# .*\n?", text, flags=re.MULTILINE)
    place = heading.end() if heading else 0
    return f"{text[:place].rstrip()}\n{_QUICK_BANNER}\n{text[place:]}"


def run_facts(project: Project, run: Run, parameters: dict[str, Parameter]) -> str:
    """The block at a page's end: size, seeds, versions, run time, and a table of the parameters."""
    values = {name: run.parameters.get(name, entry.default) for name, entry in parameters.items()}
    seeds = [f"`{name}` = {value}" for name, value in values.items() if "seed" in name]
    facts = {
        "Size": "quick, not the paper's" if project.quick else "the paper's",
        "Run time": f"{clock(run.seconds)} (minutes:seconds), on {run.date}",
        "Versions": ", ".join(f"{name} {number}" for name, number in run.versions.items()),
    }
    if seeds:
        facts["Seeds"] = ", ".join(seeds)
    lines = [":::{admonition} How this page was made", ":class: dmf-run"]
    lines += [f"- **{name}**: {value}" for name, value in facts.items()]
    if parameters:
        lines += ["", "| Parameter | Value | Type | Meaning |", "|---|---|---|---|"]
        for name, entry in parameters.items():
            cells = [
                _code(name),
                _code(values[name]),
                _code(entry.annotation),
                _cell(entry.meaning),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ":::", ""])


def _code(value: Any) -> str:
    text = value if isinstance(value, str) and value else repr(value)
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    """Text that does not end its cell in a Markdown table."""
    return text.replace("|", r"\|")
