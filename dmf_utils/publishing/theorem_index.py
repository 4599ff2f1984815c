"""The index of theorems: every box of the book, with the number that the paper gives it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nbformat import NotebookNode

__all__ = ["Box", "boxes", "theorem_index"]

_OPENING = re.compile(r"^[> ]*(?:`{3,}|:{3,})\{prf:(?P<kind>\w+)\}[ \t]*(?P<title>.*)$")
_LABEL = re.compile(r"^[> ]*:label:[ \t]*(?P<label>\S+)$")
_NUMBERED = re.compile(
    r"(?P<kind>Theorem|Lemma|Corollary|Proposition|Conjecture) (?P<n>\d+) of the"
)


@dataclass(frozen=True)
class Box:
    """One numbered or named statement of the book.

    Attributes
    ----------
    chapter
        The file name without ending.
    kind
        ``theorem``, ``lemma``, …
    title
        As its box says.
    label
        By which ``{prf:ref}`` finds it; empty if it has none.
    """

    chapter: str
    kind: str
    title: str
    label: str

    @property
    def in_the_paper(self) -> str:
        """The paper's name for it, as the title states it; the dagger says that it has none."""
        if found := _NUMBERED.search(self.title):
            return f"{found['kind']} {found['n']}"
        if found := re.match(r"(\d+) of the paper", self.title):
            return f"{self.kind.capitalize()} {found[1]}"
        return "not in the paper\u00a0†" if "†" in self.title else "no number"

    @property
    def name(self) -> str:
        """The title without what :attr:`in_the_paper` says already."""
        text = re.sub(r"\s*\(?†\)?\s*", "", self.title)
        text = re.sub(r"^\d+ of the paper\W*", f"{self.in_the_paper}, ", text)
        text = re.sub(rf"; {re.escape(self.in_the_paper)} of the paper$", "", text)
        return text.strip(" ,;") or self.kind.capitalize()


def boxes(chapter: str, notebook: NotebookNode) -> list[Box]:
    """The boxes of a chapter in their order; proofs are not among them."""
    found: list[Box] = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        lines = cell.source.splitlines()
        for line, below in zip(lines, [*lines[1:], ""], strict=True):
            opening = _OPENING.match(line)
            if opening and opening["kind"] != "proof":
                label = _LABEL.match(below)
                found.append(
                    Box(
                        chapter,
                        opening["kind"],
                        opening["title"].strip(),
                        label["label"] if label else "",
                    )
                )
    return found


def theorem_index(found: Iterable[Box]) -> str:
    """A Markdown table of the boxes, each linked to its place."""
    lines = ["| Statement | Kind | In the paper | Chapter |", "|---|---|---|---|"]
    for box in found:
        name = box.name.replace("|", r"\|")
        link = f"{{prf:ref}}`{name} <{box.label}>`" if box.label else name
        lines.append(f"| {link} | {box.kind} | {box.in_the_paper} | {{doc}}`{box.chapter}` |")
    return "\n".join(lines)
