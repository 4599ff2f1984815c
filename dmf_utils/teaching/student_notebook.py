"""The notebook that students get: no solutions, no outputs, small parameters, plain Markdown."""

from __future__ import annotations

import ast
import re
from typing import Any

import nbformat

from dmf_utils._support.notebooks import has_tag
from dmf_utils.publishing import parameters
from dmf_utils.publishing.chapter import Chapter
from dmf_utils.teaching.solutions import Stripped, blank_cells, strip

__all__ = ["student_notebook", "with_plain_boxes", "with_values"]

_PLAIN = re.compile(
    r"(`{3,}|:{3,}|~{3,})\s*\{(exercise|exercise-start|exercise-end|admonition)\}\s*(.*)"
)
_NOTE = (
    "*Student notebook of the chapter “{title}”. It runs from top to bottom in under a "
    "minute{size}. It needs the book's package `dmf_utils`. The page also fills in what stands "
    "between braces: numbers, and the names of figures, chapters and papers.*"
)
_SIZE = ", as the parameters below are small: its numbers and verdicts are not those of the page"


def student_notebook(chapter: Chapter) -> Stripped:
    """Make a chapter's student notebook from its source.

    Parameters
    ----------
    chapter
        At any size; students get the classroom's, that of ``book/quick/``.

    Returns
    -------
    Stripped
        The notebook, and what was taken out of the chapter.

    Raises
    ------
    InputError, SolutionError
        If the chapter's parameters or its solutions are not in order.
    """
    values = _classroom_values(chapter)
    stripped = strip(chapter.source, chapter.name, blank_cells)
    cells = stripped.notebook.cells
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = with_plain_boxes(cell.source)
        elif cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if has_tag(cell, "parameters"):
                cell.source = with_values(cell.source, values)
    note = _NOTE.format(title=chapter.title, size=_SIZE if values else "")
    cells.insert(1, nbformat.v4.new_markdown_cell(note, id="student-notebook"))
    return stripped


def _classroom_values(chapter: Chapter) -> dict[str, Any]:
    return parameters.quick_values(chapter.project, chapter.name, chapter.parameters)


def classroom_parameters(chapter: Chapter) -> str:
    """The chapter's parameters cell as students get it; empty without one."""
    for cell in chapter.source.cells:
        if has_tag(cell, "parameters"):
            return with_values(cell.source, _classroom_values(chapter))
    return ""


def with_values(source: str, values: dict[str, Any]) -> str:
    """A parameters cell with other defaults; types and comments stay."""
    lines = [line.encode() for line in source.split("\n")]  # ast counts columns in bytes
    for statement in reversed(ast.parse(source).body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name, value = statement.target.id, statement.value
            if name in values and value is not None and value.end_lineno is not None:
                first, last = value.lineno - 1, value.end_lineno - 1
                head = lines[first][: value.col_offset]
                tail = lines[last][value.end_col_offset :]
                lines[first : last + 1] = [head + repr(values[name]).encode() + tail]
    return b"\n".join(lines).decode()


def with_plain_boxes(text: str) -> str:
    """Exercises and boxes without their directives, which a notebook would show as code."""
    kept: list[str] = []
    closing: list[tuple[str, bool]] = []  # fences still open: the mark, and whether we removed it
    in_options = False
    for line in text.split("\n"):
        mark = line.strip()
        if begin := _PLAIN.fullmatch(mark):
            closing.append((begin[1], True))
            if begin[2] == "admonition":
                kept += [f"**{begin[3]}**", ""]
                in_options = True
            elif begin[2] != "exercise-end":
                kept += [f"**Exercise. {begin[3]}**" if begin[3] else "**Exercise.**", ""]
                in_options = True
        elif (
            closing
            and mark
            and set(mark) == {closing[-1][0][0]}
            and len(mark) >= len(closing[-1][0])
        ):
            if not closing.pop()[1]:
                kept.append(line)
            in_options = False
        elif in_options and re.match(r":[\w-]+:", mark):
            continue
        elif other := re.match(r"(`{3,}|:{3,}|~{3,})", mark):
            closing.append((other[1], False))
            kept.append(line)
        else:
            if mark or kept[-1:] != [""]:
                kept.append(line)
            in_options = False
    return "\n".join(kept)
