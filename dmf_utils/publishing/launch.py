"""The notebooks that Binder and Colab open, once the repository has a public address."""

from __future__ import annotations

import copy
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from dmf_utils._support.errors import InputError
from dmf_utils.publishing.project import Project

__all__ = ["Repository", "repository", "write_notebooks"]

COLAB_INSTALLS = (
    *("cvxpy", "lazy_loader", "matplotlib", "myst-nb", "nbformat", "numpy", "pandas", "psutil"),
    *("pyarrow", "PyYAML", "scipy", "seaborn", "threadpoolctl", "torch", "tqdm"),
)
"""What the chapters import. Colab has most of it, in versions of its own, and these are kept."""

_CELL = """\
# Only in Colab: fetch the book's code, and install what Colab lacks.
import os
import sys

if "google.colab" in sys.modules:
    folder = os.path.expanduser("~/{name}")
    if not os.path.isdir(folder):
        !git clone --quiet --depth 1 --branch {branch} {url} {{folder}}
    %pip install --quiet {packages}
    sys.path.insert(0, folder)
    %cd -q {{folder}}/{path}"""


@dataclass(frozen=True)
class Repository:
    """Where the public finds the book.

    Attributes
    ----------
    url
        ``https://github.com/OWNER/NAME``.
    branch
        The branch that holds the notebooks to open.
    path
        The folder of the notebooks in it.
    """

    url: str
    branch: str
    path: str

    @property
    def name(self) -> str:
        """The repository's name without its owner's."""
        return self.url.rsplit("/", 1)[1]


def repository(project: Project) -> Repository | None:
    """What ``_config.yml`` states under ``repository``; None while its ``url`` is empty.

    Raises
    ------
    InputError
        If the address is not that of a repository on GitHub: Colab opens no others.
    """
    config = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    stated = config.get("repository") or {}
    url = stated.get("url") or ""
    if not url:
        return None
    if not re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]+(?<!\.git)", str(url)):
        raise InputError(
            f"_config.yml, repository url {url!r}: give https://github.com/OWNER/NAME, "
            "or nothing for no links to Binder and Colab"
        )
    return Repository(url, stated.get("branch", "main"), stated.get("path_to_book", ""))


def write_notebooks(project: Project) -> list[Path]:
    """Write each chapter to ``launch/``, with a cell that prepares Colab and elsewhere is idle.

    Parameters
    ----------
    project
        Whose chapters; without a public address there is nothing to write, and ``launch/`` goes.

    Returns
    -------
    list of Path
        The notebooks, for the branch that the pages' links name.

    Raises
    ------
    InputError
        As :func:`repository` does.
    """
    folder = project.build / "launch"
    shutil.rmtree(folder, ignore_errors=True)
    public = repository(project)
    if public is None:
        return []
    source = _CELL.format(
        name=public.name,
        branch=public.branch,
        url=public.url,
        path=public.path,
        packages=" ".join(COLAB_INSTALLS),
    )
    written = []
    for name in project.chapters():
        notebook = copy.deepcopy(nbformat.read(project.chapter_path(name), as_version=4))
        notebook.cells.insert(1, nbformat.v4.new_code_cell(source, id="colab"))
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        written.append(path)
    return written
