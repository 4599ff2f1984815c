"""The notebooks that ``dmf run`` writes: each says that it was written so, and how it was then."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

from nbformat import NotebookNode

from dmf_utils._support.errors import InputError
from dmf_utils._support.notebooks import read_notebook

__all__ = ["is_ours", "signed"]

_KEY = "dmf_run"


def signed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with a digest of its cells, by which :func:`is_ours` knows it."""
    result = copy.deepcopy(notebook)
    result.metadata[_KEY] = {"digest": _digest(result)}
    return result


def is_ours(path: Path) -> bool:
    """Whether a file is a notebook as ``dmf run`` wrote it: one that was changed is the user's."""
    try:
        notebook = read_notebook(path)
    except InputError:
        return False
    stated = notebook.metadata.get(_KEY)
    return isinstance(stated, dict) and stated.get("digest") == _digest(notebook)


def _digest(notebook: NotebookNode) -> str:
    text = json.dumps([notebook.cells], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
