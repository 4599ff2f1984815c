"""What a notebook says of itself."""

from __future__ import annotations

import re

from nbformat import NotebookNode

__all__ = ["headings", "title", "title_of"]


def headings(text: str) -> list[tuple[str, int]]:
    """The headings in a text cell, each with its level; fenced code has none."""
    found, fenced = [], False
    for line in text.splitlines():
        if line.lstrip("> ").startswith(("```", ":::")):
            fenced = not fenced
        elif not fenced and (match := re.match(r"(#+) +(\S.*)", line)):
            found.append((match[2].strip(), len(match[1])))
    return found


def title(notebook: NotebookNode) -> str:
    """The chapter's title, its first heading."""
    texts = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return next((words for text in texts for words, level in headings(text) if level == 1), "")


def title_of(notebook: NotebookNode) -> str:
    """The chapter's first heading, without its mark."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    heading = re.search(r"^# +(.+)$", "\n".join(texts), flags=re.MULTILINE)
    return heading[1].strip() if heading else ""
