"""The notebooks that Binder and Colab open: each chapter with a cell that prepares Colab.

This file is also a script for the job that renews the branch of these notebooks. That job may push,
so it installs nothing: here only Python's own library is used.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COLAB_INSTALLS", "Repository", "add_cells", "repository"]

COLAB_INSTALLS = (
    *("cvxpy", "lazy_loader", "matplotlib", "myst-nb", "nbformat", "numpy", "pandas", "psutil"),
    *("pyarrow", "PyYAML", "scipy", "threadpoolctl", "torch", "tqdm"),
)
"""What the chapters import; Colab gets the versions that the book was made with."""

_ADDRESS = re.compile(r"https://github\.com/[\w-]+/[\w.-]+(?<!\.git)")
_TAG = re.compile(r"v\d+(\.\d+)*[\w.-]*")
_CELL = """\
# Only in Colab: fetch the book's code as of {tag}, and install the versions that it was made with.
import os
import sys

if "google.colab" in sys.modules:
    folder = os.path.expanduser("~/{name}")
    if not os.path.isdir(folder):
        !git clone --quiet --depth 1 --branch {tag} {url} {{folder}}
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
    path
        The folder of the notebooks in it.
    """

    url: str
    path: str

    @property
    def name(self) -> str:
        """The repository's name without its owner's."""
        return self.url.rsplit("/", 1)[1]


def repository(root: Path) -> Repository | None:
    """What the line ``repository: {url: "…", …}`` of ``_config.yml`` states; None without a url.

    Raises
    ------
    ValueError
        If the address is not that of a repository on GitHub: Colab opens no others.
    """
    text = (root / "_config.yml").read_text(encoding="utf-8")
    line = re.search(r"^repository: \{(.*)\}$", text, flags=re.MULTILINE)
    stated = dict(re.findall(r'(\w+): "?([^",]*)"?', line[1])) if line else {}
    url = stated.get("url", "")
    if not url:
        return None
    if not _ADDRESS.fullmatch(url):
        raise ValueError(
            f"_config.yml, repository url {url!r}: give https://github.com/OWNER/NAME, "
            "or nothing for no links to Binder and Colab"
        )
    return Repository(url, stated.get("path_to_book", ""))


def add_cells(root: Path, tag: str) -> list[Path]:
    """Put a cell into each notebook of a checkout that prepares Colab and elsewhere is idle.

    Parameters
    ----------
    root
        The checkout; without a public address nothing is changed.
    tag
        The version that the cell fetches.

    Returns
    -------
    list of Path
        The notebooks that were changed.

    Raises
    ------
    ValueError
        As :func:`repository` does, or if `tag` is none, or a package that Colab needs has no pin.
    """
    if not _TAG.fullmatch(tag):
        raise ValueError(f"--tag {tag!r}: give a version such as v0.1.0")
    public = repository(root)
    if public is None:
        return []
    source = _CELL.format(
        tag=tag, name=public.name, url=public.url, path=public.path, packages=_pins(root)
    )
    cell = {"cell_type": "code", "execution_count": None, "id": "colab", "metadata": {}}
    cell |= {"outputs": [], "source": source.splitlines(keepends=True)}
    changed = sorted((root / public.path).glob("*.ipynb"))
    for path in changed:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["cells"].insert(1, cell)
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    return changed


def _pins(root: Path) -> str:
    """What Colab installs, each ``NAME==VERSION`` as ``requirements.in`` has it."""
    text = (root / "requirements.in").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)(==\S+)", text, flags=re.MULTILINE))
    if missing := [name for name in COLAB_INSTALLS if name not in pins]:
        raise ValueError(f"requirements.in: {missing[0]} has no pin, and Colab needs it")
    return " ".join(name + pins[name] for name in COLAB_INSTALLS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the chapters of this checkout for Colab.")
    parser.add_argument("--tag", required=True, help="the version to fetch there, such as v0.1.0")
    try:
        for path in add_cells(Path(__file__).resolve().parents[2], parser.parse_args().tag):
            print(path)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
