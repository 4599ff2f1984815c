"""Turn the chapters' executions into the tree that Jupyter Book builds the pages from."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable

import nbformat
from nbformat import NotebookNode

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils._support.notebooks import has_tag, write_notebook
from dmf_utils.claims import measured, page as ledger_page
from dmf_utils.claims.ledger import Claim
from dmf_utils.claims.recording import bundle
from dmf_utils.publishing import figures, lectures
from dmf_utils.publishing.chapter import Chapter
from dmf_utils.publishing.parameters import as_code, as_markdown
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.reading import reading_minutes
from dmf_utils.publishing.status_page import seeds, status
from dmf_utils.publishing.terminal import clock
from dmf_utils.publishing.theorem_index import boxes, theorem_index

__all__ = ["assemble", "page", "run_facts", "with_banner"]

_GENERATED = re.compile(r"^<!-- generated: (\S+) -->$", flags=re.MULTILINE)

_QUICK_BANNER = """
:::{admonition} Quick size, not the paper's
:class: warning dmf-quick
This page was made at a small size, for a look or a test. Its numbers and figures are not those of
the paper's size, and its verdicts do not count.
:::
"""


def assemble(project: Project, chapters: dict[str, Chapter], claims: dict[str, Claim]) -> None:
    """Write the executed chapters and all that belongs to them into ``executed/``, anew.

    Parameters
    ----------
    project
        Where to write.
    chapters
        By name; each was executed.
    claims
        The ledger, by which recorded values are judged and shown again.
    """
    target = project.executed
    files.clear(target)
    ignored = shutil.ignore_patterns("*.ipynb", ".*", "_ext", "quick", "__pycache__")
    shutil.copytree(project.book, target, ignore=ignored)
    notebooks = {}
    for name, chapter in chapters.items():
        notebooks[name] = shown = _finished(chapter, claims)
        write_notebook(shown, target / f"{name}.ipynb")
    figures.write(target, target / "figures")  # for the texts that show one
    order = [name for name in project.documents() if name in chapters]
    made: dict[str, Callable[[], str]] = {
        "status": lambda: status(project, [chapters[name] for name in order]),
        "theorems": lambda: theorem_index(
            box for name in order for box in boxes(name, notebooks[name])
        ),
        "lectures": lambda: lectures.page(project, [chapters[name] for name in order]),
        "verdicts": lambda: ledger_page.tables(measured.read(project.claims), order),
    }
    for path in sorted(target.rglob("*.md")):
        text = _fill(path.read_text(encoding="utf-8"), made, path.name)
        path.write_text(with_banner(text) if project.quick else text, encoding="utf-8")


def _finished(chapter: Chapter, claims: dict[str, Claim]) -> NotebookNode:
    """A chapter's page with all that the build adds to it."""
    shown = page(chapter)
    _render_again(shown, claims)
    first = next(cell for cell in shown.cells if cell.cell_type == "markdown")
    if chapter.parameters:  # the ledger's page is no reading
        first.source = _below_heading(first.source, _times(chapter))
    if chapter.project.quick:
        first.source = with_banner(first.source)
    facts = run_facts(chapter)
    shown.cells.append(nbformat.v4.new_markdown_cell(facts, id="how-this-page-was-made"))
    return shown


def _times(chapter: Chapter) -> str:
    """How long the page takes to read, and how long its code took."""
    minutes = reading_minutes(chapter.source)
    word = "minute" if minutes == 1 else "minutes"
    ran = f"; run time {clock(chapter.last.seconds)} (minutes:seconds)" if chapter.last else ""
    return f"\n*Reading time about {minutes} {word}{ran}.*\n"


def _fill(text: str, made: dict[str, Callable[[], str]], name: str) -> str:
    """The text with what is generated in the place of each ``<!-- generated: … -->``."""

    def generate(found: re.Match[str]) -> str:
        if found[1] not in made:
            raise InputError(f"book/{name}: {found[0]} must name one of {', '.join(made)}")
        return made[found[1]]()

    return _GENERATED.sub(generate, text)


def page(chapter: Chapter) -> NotebookNode:
    """The chapter's present text with the outputs of its execution.

    If the code has changed since (only when chapters were named on the command line), the page
    shows the code and text that were executed, so that what stands above an output made it.
    """
    shown, executed = copy.deepcopy(chapter.source), copy.deepcopy(chapter.executed)
    injected = [cell for cell in executed.cells if has_tag(cell, "injected-parameters")]
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
        places = [n for n, other in enumerate(shown.cells) if has_tag(other, "parameters")]
        shown.cells.insert(places[0] + 1, cell)
    for part in (shown, *shown.cells):
        part.metadata.pop("papermill", None)  # it carries paths and times
    return shown


def _render_again(notebook: NotebookNode, claims: dict[str, Claim]) -> None:
    """Show each recorded claim as the present ledger judges it, without a new execution.

    The entry meant for the driver is left out: the page's builder would warn of it.
    """
    for output, id, value in measured.recorded(notebook):
        shown = bundle(claims[id], value)
        output["data"] = NotebookNode({kind: shown[kind] for kind in ("text/html", "text/plain")})


def with_banner(text: str) -> str:
    """The text with the quick size's banner below its first heading."""
    return _below_heading(text, _QUICK_BANNER)


def _below_heading(text: str, added: str) -> str:
    heading = re.search(r"^# .*\n?", text, flags=re.MULTILINE)
    place = heading.end() if heading else 0
    return f"{text[:place].rstrip()}\n{added}\n{text[place:]}"


def run_facts(chapter: Chapter) -> str:
    """The block at a page's end: size, seeds, versions, run time, and a table of the parameters."""
    done = chapter.last
    if done is None:
        raise InputError(f"chapter {chapter.name!r} was never executed")
    chosen = [f"`{name}` = {as_code(value)}" for name, value in seeds(chapter)]
    facts = {
        "Size": "quick, not the paper's" if chapter.project.quick else "the paper's",
        "Run time": f"{clock(done.seconds)} (minutes:seconds), on {done.date}",
        "Versions": ", ".join(f"{name} {number}" for name, number in done.versions.items()),
    }
    if done.hardware:
        facts["Machine"] = done.hardware
    if chosen:
        facts["Seeds"] = ", ".join(chosen)
    lines = [":::{admonition} How this page was made", ":class: dmf-run"]
    lines += [f"- **{name}**: {value}" for name, value in facts.items()]
    lines += ["", *as_markdown(chapter.parameters, done.parameters)]
    return "\n".join([*lines, ":::", ""])
