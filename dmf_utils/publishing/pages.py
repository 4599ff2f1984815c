"""Turn the chapters' runs into the tree that Jupyter Book builds the pages from."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable

import nbformat
from nbformat import NotebookNode

from dmf_utils._support.errors import InputError
from dmf_utils.claims import measured, page as ledger_page
from dmf_utils.claims.ledger import Claim
from dmf_utils.claims.recording import bundle
from dmf_utils.publishing import figures, parameter_table
from dmf_utils.publishing.execution import Run
from dmf_utils.publishing.parameters import Parameter
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.status_page import seeds, status
from dmf_utils.publishing.terminal import clock
from dmf_utils.publishing.theorem_index import boxes, theorem_index

__all__ = ["assemble", "page"]

_GENERATED = re.compile(r"^<!-- generated: (\S+) -->$", flags=re.MULTILINE)

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
    notebooks = {}
    for chapter, run in runs.items():
        notebooks[chapter] = shown = page(project, chapter)
        render_again(shown, claims)
        if project.quick:
            first = next(cell for cell in shown.cells if cell.cell_type == "markdown")
            first.source = with_banner(first.source)
        facts = run_facts(project, run, parameters[chapter])
        shown.cells.append(nbformat.v4.new_markdown_cell(facts, id="how-this-page-was-made"))
        (target / f"{chapter}.ipynb").parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(shown, target / f"{chapter}.ipynb")
    figures.write(target, target / "figures")  # for the texts that show one
    order = [name for name in project.documents() if name in runs]
    made: dict[str, Callable[[], str]] = {
        "status": lambda: status(project, {name: runs[name] for name in order}, parameters),
        "theorems": lambda: theorem_index(
            box for name in order for box in boxes(name, notebooks[name])
        ),
        "verdicts": lambda: ledger_page.tables(measured.read(project.claims), order),
    }
    for path in sorted(target.rglob("*.md")):
        text = _fill(path.read_text(encoding="utf-8"), made, path.name)
        path.write_text(with_banner(text) if project.quick else text, encoding="utf-8")


def _fill(text: str, made: dict[str, Callable[[], str]], name: str) -> str:
    """The text with what is generated in the place of each ``<!-- generated: … -->``."""

    def generate(found: re.Match[str]) -> str:
        if found[1] not in made:
            raise InputError(f"book/{name}: {found[0]} must name one of {', '.join(made)}")
        return made[found[1]]()

    return _GENERATED.sub(generate, text)


def page(project: Project, chapter: str) -> NotebookNode:
    """The chapter's present text with the outputs of its run.

    If the code has changed since (only when chapters were named on the command line), the page
    shows the run's own code and text, so that what stands above an output is what made it.
    """
    shown = nbformat.read(project.chapter_path(chapter), as_version=4)
    executed = nbformat.read(project.runs / f"{chapter}.ipynb", as_version=4)
    injected = [cell for cell in executed.cells if _tagged(cell, "injected-parameters")]
    executed.cells = [cell for cell in executed.cells if cell not in injected]
    sources = [cell for cell in shown.cells if cell.cell_type == "code"]
    results = [cell for cell in executed.cells if cell.cell_type == "code"]
    if [cell.source for cell in sources] == [cell.source for cell in results]:
        for source, result in zip(sources, results, strict=True):
            source.outputs, source.execution_count = result.outputs, result.execution_count
    else:
        shown = executed
    for cell in injected:
        cell.metadata.tags = [*cell.metadata.tags, "hide-input"]
        places = [n for n, other in enumerate(shown.cells) if _tagged(other, "parameters")]
        shown.cells.insert(places[0] + 1, cell)
    for part in (shown, *shown.cells):
        part.metadata.pop("papermill", None)  # it carries paths and times
    return shown


def _tagged(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def render_again(notebook: NotebookNode, claims: dict[str, Claim]) -> None:
    """Show each recorded claim as the present ledger judges it, without a new run.

    The entry meant for the driver is left out: the page's builder would warn of it.
    """
    for output, id, value in measured.recorded(notebook):
        shown = bundle(claims[id], value)
        output["data"] = NotebookNode({kind: shown[kind] for kind in ("text/html", "text/plain")})


def with_banner(text: str) -> str:
    """The text with the quick size's banner below its first heading."""
    heading = re.search(r"^# .*\n?", text, flags=re.MULTILINE)
    place = heading.end() if heading else 0
    return f"{text[:place].rstrip()}\n{_QUICK_BANNER}\n{text[place:]}"


def run_facts(project: Project, run: Run, parameters: dict[str, Parameter]) -> str:
    """The block at a page's end: size, seeds, versions, run time, and a table of the parameters."""
    chosen = [f"`{name}` = {value}" for name, value in seeds(run, parameters)]
    facts = {
        "Size": "quick, not the paper's" if project.quick else "the paper's",
        "Run time": f"{clock(run.seconds)} (minutes:seconds), on {run.date}",
        "Versions": ", ".join(f"{name} {number}" for name, number in run.versions.items()),
    }
    if run.hardware:
        facts["Machine"] = run.hardware
    if chosen:
        facts["Seeds"] = ", ".join(chosen)
    lines = [":::{admonition} How this page was made", ":class: dmf-run"]
    lines += [f"- **{name}**: {value}" for name, value in facts.items()]
    lines += ["", *parameter_table.as_markdown(parameters, run.parameters)]
    return "\n".join([*lines, ":::", ""])
