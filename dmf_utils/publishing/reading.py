"""How long a chapter takes to read, counted the same way for each."""

from __future__ import annotations

import re

from nbformat import NotebookNode

from dmf_utils._support.notebooks import has_tag

__all__ = ["HOW_COUNTED", "reading_minutes"]

_WORDS_A_MINUTE = 230
_WORDS_A_LINE, _WORDS_A_FORMULA, _WORDS_A_DISPLAY = 6, 2, 15
_FOLDED = ("hide-input", "hide-cell", "remove-input", "remove-cell")

HOW_COUNTED = (
    f"{_WORDS_A_MINUTE} words a minute, a formula in the line counted as {_WORDS_A_FORMULA} words, "
    f"a displayed one as {_WORDS_A_DISPLAY}, a line of code that is not folded as {_WORDS_A_LINE}; "
    "proofs, hints and solutions that are folded are left out"
)


def reading_minutes(notebook: NotebookNode) -> int:
    """Minutes for a first reading, at least one.

    Parameters
    ----------
    notebook
        The chapter; outputs are not counted.
    """
    words, solving = 0, False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            before, _, after = cell.source.partition("{solution-end}")
            for part, hidden in ((before, solving), (after, False)):
                words += 0 if hidden else _words(part.partition("{solution-start}")[0])
            solving = "{solution-start}" in (after or before) or (solving and not after)
        elif not solving and not any(has_tag(cell, tag) for tag in _FOLDED):
            lines = [line for line in cell.source.splitlines() if line.strip(" )]}")]
            words += _WORDS_A_LINE * len(lines)
    return max(1, round(words / _WORDS_A_MINUTE))


def _words(text: str) -> int:
    """Words of a text cell, its formulas counted as words and what is folded left out."""
    text = re.sub(r"<!--.*?-->", " ", _without_folded(text), flags=re.DOTALL)
    displays = r"\$\$.*?\$\$|\\begin\{(\w+\*?)\}.*?\\end\{\1\}"
    text, shown = re.subn(displays, " ", text, flags=re.DOTALL)
    text, inline = re.subn(r"\$[^$\n]+(?:\n[^$\n]+)*\$", " ", text)
    text = re.sub(
        r"^[ >]*(?:`{3,}|:{3,}|~{3,}).*$|^[ >]*:[\w-]+:.*$", " ", text, flags=re.MULTILINE
    )
    text = re.sub(r"\{[\w:]+\}`([^`<]*)(?:<[^>]*>)?`", r"\1", text)  # a role shows its title
    text = re.sub(r"\]\([^)]*\)|<[^>\n]*>", " ", text)  # where a link leads
    plain = len(re.findall(r"\w[\w'’-]*", text))
    return plain + _WORDS_A_FORMULA * inline + _WORDS_A_DISPLAY * shown


def _without_folded(text: str) -> str:
    """The text without directives that are drop-downs."""
    kept: list[str] = []
    fence = ""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        mark = line.strip(" >")
        if fence:
            if mark and set(mark) == {fence[0]} and len(mark) >= len(fence):
                fence = ""
            continue
        opening = re.match(r"(`{3,}|:{3,}|~{3,})\{([\w:-]+)\}", mark)
        options = "\n".join(lines[number + 1 : number + 4])
        if opening and ("dropdown" in opening[2] or re.search(r":class:.*\bdropdown\b", options)):
            fence = opening[1]
            continue
        kept.append(line)
    return "\n".join(kept)
