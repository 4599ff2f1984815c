"""Sphinx extension: questions answered in the page, without a kernel and without scripts.

    :::{question} Before you run it: which value is learned first, at depth 3?
    - [ ] Both at the same time.
      That is what depth 1 does.
    - [x] The larger one.
      It is the one whose own size speeds it up.
    :::

Each answer stands on a line of its own; ``[x]`` marks the right ones, and the indented lines below
an answer are what a reader sees who chooses it. An answer is a ``details`` element: it opens by
mouse, keyboard and screen reader, and where pages are printed with their drop-downs open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_ANSWER = re.compile(r"[-*] \[([ xX])\] +(\S.*)")


@dataclass
class Answer:
    """One answer, and what it is told."""

    is_right: bool
    text: str
    line: int
    feedback: list[str] = field(default_factory=list)


def answers(lines: list[str]) -> list[Answer]:
    """The answers in a question's text.

    Raises
    ------
    ValueError
        If a line belongs to no answer, there are fewer than two, none is right, or one has no
        feedback.
    """
    found: list[Answer] = []
    for number, line in enumerate(lines):
        if begin := _ANSWER.fullmatch(line):
            found.append(Answer(begin[1] != " ", begin[2], number))
        elif found and (not line.strip() or line.startswith("  ")):
            found[-1].feedback.append(line[2:])
        elif line.strip():
            raise ValueError(
                f"{line!r} is no answer: write `- [ ] answer` or `- [x] answer`, and feedback in "
                "indented lines below it"
            )
    if len(found) < 2 or not any(answer.is_right for answer in found):
        raise ValueError("give at least two answers, and mark the right ones with [x]")
    for answer in found:
        if not "".join(answer.feedback).strip():
            raise ValueError(f"answer {answer.text!r} has no feedback; add it in indented lines")
    return found


class question(nodes.General, nodes.Element):
    """A question: its words, then its answers."""


class choice(nodes.General, nodes.Element):
    """An answer: its words, then what it is told."""


class _part(nodes.General, nodes.Element):
    """Words of a question or an answer, or feedback, in an element of their own."""


class Question(SphinxDirective):
    """Places a question."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            found = answers(list(self.content))
        except ValueError as error:
            raise self.error(f"question {self.arguments[0]!r}: {error}") from None
        whole = question()
        whole += self._part("p", [self.arguments[0]], self.lineno, is_line=True)
        for answer in found:
            made = choice(is_right=answer.is_right)
            line = self.content_offset + answer.line
            made += self._part("summary", [answer.text], line, is_line=True)
            made += self._part("div", answer.feedback, line + 1)
            whole += made
        return [whole]

    def _part(self, tag: str, lines: list[str], line: int, is_line: bool = False) -> _part:
        made = _part(tag=tag)
        holder = nodes.Element()
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), line, holder)
        is_paragraph = is_line and isinstance(holder.children[0], nodes.paragraph)
        made += holder.children[0].children if is_paragraph else holder.children
        return made


def _open_question(translator: Any, node: question) -> None:
    translator.body.append('<div class="dmf-question" role="group" aria-label="Question">\n')


def _close_question(translator: Any, node: question) -> None:
    translator.body.append("</div>\n")


def _open_choice(translator: Any, node: choice) -> None:
    kind = "right" if node["is_right"] else "wrong"
    translator.body.append(f'<details class="dmf-choice {kind}">')


def _close_choice(translator: Any, node: choice) -> None:
    translator.body.append("</details>\n")


def _open_part(translator: Any, node: _part) -> None:
    translator.body.append(f"<{node['tag']}>")
    if node["tag"] == "div":
        word = "Yes." if node.parent["is_right"] else "No."
        translator.body.append(f'<span class="dmf-judged">{word}</span>')


def _close_part(translator: Any, node: _part) -> None:
    translator.body.append(f"</{node['tag']}>\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(question, html=(_open_question, _close_question))
    app.add_node(choice, html=(_open_choice, _close_choice))
    app.add_node(_part, html=(_open_part, _close_part))
    app.add_directive("question", Question)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
