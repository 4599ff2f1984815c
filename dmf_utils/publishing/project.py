"""Where things are: the book's sources, and what is built from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dmf_utils._support.errors import InputError
from dmf_utils._support.yaml_files import read_yaml

__all__ = ["Project"]


@dataclass(frozen=True)
class Project:
    """The folders of one book, at one size.

    Attributes
    ----------
    root
        The folder that holds ``_config.yml`` and ``book/``.
    quick
        Whether this is the quick size, whose products go to a tree of their own.
    """

    root: Path
    quick: bool = False

    @classmethod
    def find(cls, start: Path | None = None) -> Project:
        """The project around the working directory.

        Raises
        ------
        InputError
            If no folder from there upwards has a ``_config.yml`` and a ``book/_toc.yml``.
        """
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / "_config.yml").is_file() and (folder / "book" / "_toc.yml").is_file():
                return cls(folder)
        raise InputError(
            f"working directory {start}: no _config.yml and book/_toc.yml here or above; "
            "change into the project's folder"
        )

    def at_size(self, *, quick: bool) -> Project:
        """The same project at the quick or at the paper's size."""
        return replace(self, quick=quick)

    @property
    def book(self) -> Path:
        """The sources: notebooks, texts, ledger."""
        return self.root / "book"

    @property
    def ledger(self) -> Path:
        """The ledger's rows."""
        return self.book / "claims.yml"

    @property
    def build(self) -> Path:
        """Where everything of this size is written."""
        return self.root / "_build" / "quick" if self.quick else self.root / "_build"

    @property
    def runs(self) -> Path:
        """What papermill wrote, one notebook and one record a chapter."""
        return self.build / "runs"

    @property
    def executed(self) -> Path:
        """The tree that the pages are built from."""
        return self.build / "executed"

    @property
    def html(self) -> Path:
        """The pages."""
        return self.build / "html"

    @property
    def claims(self) -> Path:
        """The ledger as measured."""
        return self.build / "claims.json"

    def documents(self) -> list[str]:
        """The documents of ``_toc.yml`` in reading order, without file endings.

        Raises
        ------
        InputError
            If ``_toc.yml`` names a file that is not there.
        """
        names = _names(read_yaml(self.book / "_toc.yml", "book/_toc.yml"))
        if not names:
            raise InputError("book/_toc.yml: names no document; give `root:` and `chapters:`")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"book/_toc.yml: {twice[0]} stands twice; keep one")
        for name in names:
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise InputError(f"book/_toc.yml: {name!r} is not in book/")
            if not any((self.book / f"{name}{ending}").is_file() for ending in (".md", ".ipynb")):
                raise InputError(f"book/_toc.yml: {name} has no book/{name}.md or .ipynb; add it")
        return names

    def chapters(self) -> list[str]:
        """The notebooks of ``_toc.yml`` in the order they are executed: the ledger comes last."""
        names = [name for name in self.documents() if (self.book / f"{name}.ipynb").is_file()]
        return sorted(names, key=lambda name: name == "claims")

    def chapter_path(self, name: str) -> Path:
        """The notebook of a chapter.

        Raises
        ------
        InputError
            If there is no such chapter.
        """
        if name not in (chapters := self.chapters()):
            raise InputError(f"chapter {name!r}: unknown, choose one of {', '.join(chapters)}")
        return self.book / f"{name}.ipynb"


def _names(entry: object) -> list[str]:
    """All documents below an entry of the table of contents."""
    found: list[str] = []
    if isinstance(entry, dict):
        found += [str(entry[key]) for key in ("root", "file") if key in entry]
        for key in ("parts", "chapters", "sections"):
            found += _names(entry.get(key, []))
    elif isinstance(entry, list):
        for item in entry:
            found += _names(item)
    return found
