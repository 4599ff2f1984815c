"""The reading time: counted in words of what a first reading meets."""

from __future__ import annotations

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dmf_utils.publishing.reading import _words, reading_minutes

WORDS = "A sentence of seven words stands here. "


def minutes(*cells: NotebookNode) -> int:
    return reading_minutes(new_notebook(cells=list(cells)))


def test_words_are_counted_at_a_steady_pace() -> None:
    assert minutes(new_markdown_cell(WORDS * 66)) == 2  # 462 words
    assert minutes(new_markdown_cell(WORDS * 330)) == 10
    assert minutes(new_markdown_cell("Short.")) == 1
    assert minutes() == 1


def test_markup_is_no_reading() -> None:
    assert _words("**Two words**") == 2
    assert _words("[a link](https://example.org/of/many/words)") == 2
    assert _words("see {ref}`the figure <fig-of-many-words>` and {cite:t}`arora`") == 5
    assert _words("<!-- not a word --> <b>one</b>") == 1
    assert _words("```{note}\n:class: tip\nThree more words\n```") == 3


def test_formulas_are_read_as_some_words() -> None:
    assert _words(r"so $\sigma_1 \dots \sigma_r$ holds") == 4
    assert _words("$$\na = b\n$$") == 15
    assert _words("\\begin{align}\na &= b \\\\ c &= d\n\\end{align}") == 15


def test_what_is_folded_is_left_out() -> None:
    folded = "```{dropdown} Proof\n" + WORDS * 500 + "\n```\n"
    solution = "````{solution} ex\n:class: dropdown\n```\n" + WORDS * 500 + "\n```\n````"
    assert minutes(new_markdown_cell(folded + solution)) == 1
    assert minutes(new_markdown_cell(folded + WORDS * 66)) == 2  # what follows is read
    assert minutes(new_markdown_cell(solution + "\n" + WORDS * 66)) == 2
    code = "\n".join(["x = 1"] * 115)  # as long as three minutes of text
    assert minutes(new_code_cell(code)) == 3
    assert minutes(new_code_cell(code, metadata={"tags": ["hide-input"]})) == 1
    gated = [
        new_markdown_cell("```{solution-start} ex\n:class: dropdown\n```\n" + WORDS * 500),
        new_code_cell(code),
        new_markdown_cell("```{solution-end}\n```\n" + WORDS * 66),
    ]
    assert minutes(*gated) == 2
