"""The pictures of the book as files, for slides and for the README."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from nbformat import NotebookNode

from dmf_utils._support import files
from dmf_utils._support.notebooks import read_notebook

__all__ = ["write"]


def write(pages: Path, folder: Path) -> list[Path]:
    """Write every captioned figure of the executed chapters to ``folder/<name>.png``.

    Parameters
    ----------
    pages
        Folder of the executed notebooks.
    folder
        Where the pictures go, and nothing else.

    Returns
    -------
    list of Path
        The files written.
    """
    files.clear(folder)
    files.folder(folder)
    written = []
    for path in sorted(pages.glob("*.ipynb")):
        for cell in read_notebook(path).cells:
            name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
            picture = _picture(cell)
            if name and picture and re.fullmatch(r"[\w-]+", name):
                target = folder / f"{name}.png"
                target.write_bytes(base64.b64decode(picture))
                written.append(target)
    return written


def _picture(cell: NotebookNode) -> str | None:
    found = (output.get("data", {}).get("image/png") for output in cell.get("outputs", []))
    return next((picture for picture in found if picture), None)
