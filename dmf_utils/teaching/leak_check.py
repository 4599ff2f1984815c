"""Whether anything of a solution is left in what students get."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sphinx.search.en import SearchEnglish

from dmf_utils.teaching.solutions import Answer

__all__ = ["LeakError", "SolutionWatch", "notebook_text"]

_WORDS_IN_A_ROW = 5  # fewer occur by chance, more would let a short sentence through
_FEWEST_WORDS, _FEWEST_LETTERS = 3, 12
_MARK = re.compile(
    r"\{solution(?:-start|-end)?\}|(?:BEGIN|END) SOLUTION|class=\"solution[ \"]"
    r"|Solution to Exercise"
    r"|\{question\}|class=\"dmf-choice\b|class=\"dmf-judged|(?:^|\n)\s*[-*+] \[[xX]\] +\S"
)
_BLOCK = re.compile(r"</?(?:article|aside|caption|d[dlt]|div|fig\w+|h\d|li|nav|p|pre|tr)\b[^>]*>")
_INDEX = "searchindex.js"
_TEXTS = (".html", ".ipynb", ".js", ".json", ".md", ".txt", ".yml")


class LeakError(RuntimeError):
    """Something of a solution stands in a file for students, which is not handed out then."""


class SolutionWatch:
    """Knows the solutions and what else the book says, and finds the former in files.

    A file leaks if it has five words in a row that stand in a solution and nowhere in what is kept,
    a picture that a solution drew, or a mark of a solution. Words are compared without case, signs
    and line breaks, so that the markup around them does not matter. A solution of fewer than five
    words is looked for as a whole, and one of fewer than three not at all.

    Parameters
    ----------
    answers
        What was taken out.
    kept
        The texts that stay; a solution may repeat what they say.
    """

    def __init__(self, answers: Iterable[Answer], kept: Iterable[str]) -> None:
        solutions = [_words("\n".join(answer.texts)) for answer in answers]
        rest = [_words(text) for text in kept]
        self._runs: dict[int, set[tuple[str, ...]]] = {}
        for words in solutions:
            length = min(len(words), _WORDS_IN_A_ROW)
            if length >= _FEWEST_WORDS:
                self._runs.setdefault(length, set()).update(_runs(words, length))
        for length, runs in self._runs.items():
            runs -= {run for words in rest for run in _runs(words, length)}
            runs -= {run for run in runs if sum(map(len, run)) < _FEWEST_LETTERS}
        self._stem = SearchEnglish({}).stem
        self._stems = {self._stem(word) for words in solutions for word in words}
        self._stems -= {self._stem(word) for words in rest for word in words}
        self._pictures = {_decoded(picture) for answer in answers for picture in answer.images}

    def check_text(self, text: str, where: str) -> None:
        """Look through a text.

        Raises
        ------
        LeakError
            With what should not be there.
        """
        if mark := _MARK.search(text):
            raise LeakError(f"{where}: a mark of a solution is left: {mark[0]}")
        words = _words(text)
        for length, runs in self._runs.items():
            for run in _runs(words, length):
                if run in runs:
                    raise LeakError(f"{where}: words of a solution are left: {' '.join(run)}")

    def check_page(self, markup: str, where: str) -> None:
        """Look through HTML, such as that of a page about to be printed.

        Raises
        ------
        LeakError
            As :meth:`check_text` does.
        """
        if mark := _MARK.search(markup):
            raise LeakError(f"{where}: a mark of a solution is left: {mark[0]}")
        for block in _blocks(markup):
            self.check_text(block, where)

    def check_notebook(self, content: str, where: str) -> None:
        """Look through a notebook: its texts, and the pictures in its outputs.

        Raises
        ------
        LeakError
            As :meth:`check_text` does.
        """
        self.check_text(notebook_text(content), where)
        pictures = set(_strings(json.loads(content), pictures=True))
        if any(_decoded(picture) in self._pictures for picture in pictures):
            raise LeakError(f"{where}: holds a picture that a solution drew")

    def check_folder(self, folder: Path) -> int:
        """Look through all files below a folder: pages, notebooks, pictures, search index.

        Returns
        -------
        int
            The number of files.

        Raises
        ------
        LeakError
            As :meth:`check_text` does.
        """
        files = [path for path in folder.rglob("*") if path.is_file()]
        paths = [path for path in files if "mathjax" not in path.parts]
        shown: set[str] = set()
        for path in paths:
            content = path.read_bytes()
            if content in self._pictures:
                raise LeakError(f"{path}: is a picture that a solution drew")
            if path.suffix not in _TEXTS:
                continue
            text = content.decode("utf-8", errors="replace")
            if path.suffix == ".ipynb":
                self.check_notebook(text, str(path))
            elif path.suffix == ".html":
                self.check_page(text, str(path))
                shown |= {self._stem(word) for block in _blocks(text) for word in _words(block)}
            elif path.name != _INDEX:  # whose neighbours are no neighbours in a text
                self.check_text(text, str(path))
        for path in folder.rglob(_INDEX):
            self._check_index(path, shown)
        return len(paths)

    def _check_index(self, path: Path, shown: set[str]) -> None:
        """The search index has no sentences, only the stems of single words."""
        text = path.read_text(encoding="utf-8")
        index = json.loads(text[text.index("{") : text.rindex("}") + 1])
        terms = {
            self._stem(word)
            for term in [*index["terms"], *index["titleterms"]]
            for word in _words(term)
        }
        if found := sorted((terms & self._stems) - shown):
            raise LeakError(f"{path}: indexes words that only solutions have: {', '.join(found)}")


def notebook_text(content: str) -> str:
    """All that a notebook says: its texts, its code, and the texts of its outputs."""
    return "\n".join(_strings(json.loads(content), pictures=False))


def _blocks(markup: str) -> Iterator[str]:
    """The texts of a page, each apart: what merely stands beside another is no sentence."""
    for block in _BLOCK.split(markup):
        yield html.unescape(re.sub(r"<[^>]*>", " ", block))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(length)), strict=False)


def _decoded(picture: str) -> bytes:
    return base64.b64decode("".join(picture.split()))


def _strings(value: Any, *, pictures: bool) -> Iterator[str]:
    """The strings in a notebook: those of its pictures, or all others; lines joined."""
    if isinstance(value, str):
        if not pictures:
            yield value
    elif isinstance(value, list):
        if not pictures and all(isinstance(entry, str) for entry in value):
            yield "".join(value)
        else:
            for entry in value:
                yield from _strings(entry, pictures=pictures)
    elif isinstance(value, dict):
        for key, entry in value.items():
            if "image/" in key and "svg" not in key:
                if pictures:
                    yield "".join(entry)
            else:
                yield from _strings(entry, pictures=pictures)
