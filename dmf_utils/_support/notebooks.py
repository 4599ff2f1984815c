"""Notebooks as files, and what one says of itself."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from dmf_utils._support.errors import InputError
from dmf_utils._support.files import write_whole

__all__ = ["has_tag", "headings", "read_notebook", "title", "write_notebook"]


def read_notebook(path: Path) -> NotebookNode:
    """The notebook in a file, of the present format, valid.

    Raises
    ------
    InputError
        If the file cannot be read or holds no notebook.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        return notebook
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # what a damaged file makes a reader raise is anyone's guess
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path.name}: is not a notebook: {reason}") from error


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook, whole or not at all, into a folder that is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = nbformat.writes(notebook)
    write_whole(path, lambda file: file.write(f"{text}\n".encode()))


def has_tag(cell: NotebookNode, tag: str) -> bool:
    """Whether a cell has a tag."""
    return tag in cell.metadata.get("tags", [])


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
