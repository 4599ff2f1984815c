"""Questions in a page: what their text must be, and that they answer without scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dmf_utils.publishing import site
from dmf_utils.publishing.build import build_book
from dmf_utils.publishing.project import Project

TEXT = """
:::{question} At depth 3, which value $\\sigma_r$ is learned *first*?
- [ ] Both at the same time.
  That is depth 1.
- [x] The larger one.
  Its own size speeds it up:

  $\\dot\\sigma = 3\\,\\sigma^{4/3}(y - \\sigma)$.
:::
"""


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["- [ ] one", "  told", "- [x] two"], "has no feedback"),
        (["- [ ] one", "  told", "- [ ] two", "  told"], "mark the right ones"),
        (["- [x] one", "  told"], "at least two answers"),
        (["- [x] one", "told"], "'told' is no answer"),
        (["- one", "  told"], "'- one' is no answer"),
    ],
)
def test_a_question_that_is_not_in_order_is_refused(lines: list[str], reason: str) -> None:
    import questions

    with pytest.raises(ValueError, match=reason.replace("[", r"\[")):
        questions.answers(lines)


def test_answers_know_their_feedback() -> None:
    import questions

    found = questions.answers(["- [ ] one", "  told", "", "  more", "* [X] two", "  - a list"])
    assert [(answer.is_right, answer.text) for answer in found] == [(False, "one"), (True, "two")]
    assert found[0].feedback == ["told", "", "more"]
    assert found[1].feedback == ["- a list"]


def test_choosing_an_answer_shows_what_it_is_told(
    browser: Any, make_book: Callable[..., Project]
) -> None:
    project = make_book("1 + 1", text=f"Text.\n{TEXT}")
    build_book(project)
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((project.html / "small.html").as_uri())
    wrong, right = page.locator(".dmf-choice").all()
    assert not right.locator("div").is_visible()
    right.locator("summary").focus()
    page.keyboard.press("Enter")
    assert "Yes. Its own size speeds it up" in " ".join(right.inner_text().split())
    assert not wrong.locator("div").is_visible()
    wrong.locator("summary").click()
    assert "No. That is depth 1." in " ".join(wrong.inner_text().split())
    assert page.locator(".dmf-question > p em").inner_text() == "first"
    assert page.locator(".dmf-question > p .math").count() == 1
    assert right.locator(".math").count() == 1
    page.context.close()


def test_a_bad_question_fails_the_build_by_name(make_book: Callable[..., Project]) -> None:
    project = make_book("1 + 1", text="Text.\n" + TEXT.replace("[x]", "[ ]"))
    with pytest.raises(site.SiteError, match=r"small\.ipynb.*mark the right ones"):
        build_book(project)


def test_an_unknown_figure_fails_the_build_by_name(make_book: Callable[..., Project]) -> None:
    text = "Text.\n\n```{interactive} nothing\n:title: a\n\nWords.\n```"
    with pytest.raises(site.SiteError, match="'nothing': unknown, choose one of"):
        build_book(make_book("1 + 1", text=text))
