"""A chapter for students: its answers taken out, a place to answer in each one's stead."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import nbformat
from nbformat import NotebookNode

from dmf_utils._support.notebooks import has_tag
from dmf_utils.teaching import prompts

__all__ = ["Answer", "SolutionError", "Stripped", "blank_cells", "lined_space", "strip"]

CODE_HERE = "# YOUR CODE HERE"
_DIRECTIVE = re.compile(
    r"\s*(`{3,}|:{3,}|~{3,})\s*\{(solution|solution-start|solution-end|question)\}(.*)"
)
_OTHER_MARK = re.compile(r"^\s*#+\s*(?:BEGIN|END) SOLUTION\b", flags=re.MULTILINE)
_WORDS_ON_A_LINE = 10
_FEWEST_LINES, _MOST_LINES = 4, 14


class SolutionError(ValueError):
    """A solution whose beginning or end is missing; nothing is handed out then."""


@dataclass
class Answer:
    """The place of one solution, or of one answer in the text.

    Attributes
    ----------
    label
        The exercise that it solves; the cell that it stands in.
    texts
        What was taken out: sources, and outputs that are text.
    images
        What was taken out: pictures, base64 as notebooks hold them.
    code_ids
        The ids of the code cells among it.
    """

    label: str
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    code_ids: list[str] = field(default_factory=list)

    @property
    def n_lines(self) -> int:
        """How many ruled lines an answer of this length needs on paper."""
        words = sum(len(text.split()) for text in self.texts)
        return min(max(_FEWEST_LINES, 2 + words // _WORDS_ON_A_LINE), _MOST_LINES)


@dataclass(frozen=True)
class Stripped:
    """A notebook without solutions, and what was taken out of it."""

    notebook: NotebookNode
    answers: list[Answer]


def strip(
    notebook: NotebookNode, chapter: str, place: Callable[[Answer], list[NotebookNode]]
) -> Stripped:
    """Take out every solution, and every other answer.

    A solution is all between ``{solution-start}`` and ``{solution-end}``, code cells with their
    outputs included, and a ``{solution}`` block. An answer is a drop-down with that title, below
    a prompt to predict: the prompt stays. Of a ``{question}`` the choices stay, not which of them
    are right, nor what a reader is told of them.

    Parameters
    ----------
    notebook
        The chapter, with or without outputs; it is not changed.
    chapter
        Its name, for messages.
    place
        Gives the cells to put in a solution's stead: :func:`blank_cells` or :func:`lined_space`.

    Returns
    -------
    Stripped
        The cells that stay keep their ids.

    Raises
    ------
    SolutionError
        If a solution has no beginning or no end, or a prompt no answer.
    """
    reader = _Reader(chapter, place)
    for cell in notebook.cells:
        reader.read(copy.deepcopy(cell))
    reader.end()
    result = copy.copy(notebook)
    result.cells = reader.cells
    return Stripped(result, reader.answers)


def blank_cells(answer: Answer) -> list[NotebookNode]:
    """For a notebook: an empty text to overwrite, and an empty code cell if code was asked for."""
    name = _identifier(f"answer-{answer.label}")
    cells = [nbformat.v4.new_markdown_cell("*Write your answer here.*", id=name)]
    if answer.code_ids:
        cells.append(nbformat.v4.new_code_cell(CODE_HERE, id=answer.code_ids[0]))
    return cells


def lined_space(answer: Answer) -> list[NotebookNode]:
    """For a page that is printed: ruled lines, more of them where the solution was longer."""
    name = _identifier(f"answer-{answer.label}")
    rules = "<span></span>" * answer.n_lines
    box = f'<div class="dmf-answer" role="img" aria-label="Space for your answer">{rules}</div>'
    return [nbformat.v4.new_markdown_cell(box, id=name)]


def _identifier(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)[:64]


class _Reader:
    """Goes through the cells once; knows whether it stands inside a solution."""

    def __init__(self, chapter: str, place: Callable[[Answer], list[NotebookNode]]) -> None:
        self.cells: list[NotebookNode] = []
        self.answers: list[Answer] = []
        self._chapter, self._place = chapter, place
        self._gate: Answer | None = None

    def read(self, cell: NotebookNode) -> None:
        """Keep of a cell what is no solution."""
        if has_tag(cell, "solution") or _OTHER_MARK.search(cell.source):
            raise SolutionError(
                f"{self._chapter}, cell {cell.id}: marks a solution by a tag or by BEGIN SOLUTION; "
                "put it between {solution-start} and {solution-end}"
            )
        if cell.cell_type == "markdown":
            self._read_text(cell)
        elif self._gate is not None:
            _take(self._gate, cell)
        else:
            self.cells.append(cell)

    def end(self) -> None:
        """No solution may be open at the end."""
        if self._gate is not None:
            raise SolutionError(
                f"{self._chapter}: the solution of {self._gate.label} has no end; "
                "close it with {solution-end}"
            )

    def _put(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.cells += self._place(answer)

    def _inline(self, kind: str, title: str, body: str, id: str) -> list[str]:
        """What stays of an answer that stands within a text: its fence may be inside another."""
        answer = Answer(id, [body])
        if kind == "question":
            shown, told = prompts.unmarked(title, body)
            answer.texts = [told]
        else:
            shown = "\n\n".join(cell.source for cell in self._place(answer))
        self.answers.append(answer)
        return ["", shown, ""]

    def _read_text(self, cell: NotebookNode) -> None:
        where = f"{self._chapter}, cell {cell.id}"
        kept: list[str] = []
        pieces = 0
        if prompts.count(cell.source) > prompts.count_answers(cell.source):
            raise SolutionError(
                f"{where}: a prompt to predict has no answer; write it below, in a drop-down with "
                "the title Answer"
            )

        def keep() -> None:
            nonlocal pieces
            if text := "\n".join(kept).strip("\n"):
                pieces += 1
                part = copy.deepcopy(cell)
                part.source = text
                part.id = cell.id if pieces == 1 else _identifier(f"{cell.id}-part-{pieces}")
                self.cells.append(part)
            kept.clear()

        for name, label, body in _blocks(cell.source, where):
            if name == "text":
                (kept if self._gate is None else self._gate.texts).append(body)
            elif name in ("question", "answer"):
                if self._gate is None:
                    kept += self._inline(name, label, body, cell.id)
                else:
                    self._gate.texts += [label, body]
            elif name == "solution-end":
                if self._gate is None:
                    raise SolutionError(
                        f"{where}: {{solution-end}} without {{solution-start}} before it"
                    )
                self._put(self._gate)
                self._gate = None
            elif self._gate is not None:
                raise SolutionError(
                    f"{where}: a solution begins inside that of {self._gate.label}; "
                    "close the first with {solution-end}"
                )
            else:
                keep()
                answer = Answer(label, [body])
                if name == "solution-start":
                    self._gate = answer
                else:
                    self._put(answer)
        keep()


def _blocks(source: str, where: str) -> Iterator[tuple[str, str, str]]:
    """A text as (kind, label, text) in order: single lines, and whole directives with answers."""
    fence = name = label = ""
    body: list[str] = []
    lines = source.split("\n")
    for number, line in enumerate(lines):
        mark = line.strip()
        if fence:
            if mark and set(mark) == {fence[0]} and len(mark) >= len(fence):
                yield name, label, "\n".join(body)
                fence = ""
            else:
                body.append(line)
        elif begin := _DIRECTIVE.match(line):
            fence, name, label, body = begin[1], begin[2], begin[3].strip(), []
        elif opening := prompts.answer_fence(lines, number):
            fence, name, label, body = opening, "answer", "", []
        else:
            yield "text", "", line
    if fence:
        raise SolutionError(f"{where}: {{{name}}} is not closed; close it with {fence}")


def _take(answer: Answer, cell: NotebookNode) -> None:
    answer.texts.append(cell.source)
    if cell.cell_type == "code":
        answer.code_ids.append(cell.id)
        _take_outputs(answer, cell)


def _take_outputs(answer: Answer, cell: NotebookNode) -> None:
    for output in cell.outputs:
        answer.texts += _strings(output.get("text", ""))
        for kind, value in output.get("data", {}).items():
            # also inside the names under which myst_nb keeps glued values
            if "image/" in kind and "svg" not in kind:
                answer.images += _strings(value)
            elif "text/" in kind or "svg" in kind:
                answer.texts += _strings(value)


def _strings(value: Any) -> list[str]:
    return [value if isinstance(value, str) else "".join(value)]
