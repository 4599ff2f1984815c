"""Slides of a small book: whole, offline, and with the figures and numbers of the run."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pypdfium2
import pytest
import yaml
from matplotlib.image import imread

from dmf_utils._support.errors import InputError
from dmf_utils.publishing import lectures
from dmf_utils.publishing.build import build_book
from dmf_utils.publishing.chapter import read_chapters
from dmf_utils.publishing.project import Project
from dmf_utils.teaching import pdf, slides

MakeBook = Callable[..., Project]

STATEMENT = """
> ```{prf:theorem} Growth; Theorem 3 of the paper
> :label: theorem-growth
> :nonumber:
>
> By {prf:ref}`Lemma 1 <theorem-growth>`, $\\dot\\sigma = N \\sigma^{2-2/N}$.
> ```

:::{exercise} Warm-up: a small one
:label: ex-small

What is 1 + 1?
:::
"""
DRAW = """from dmf_utils import plotting
figure, (ax,) = plotting.panels(1, 1, height=12.0)  # taller than a slide
_ = ax.plot([0, 1], [0, 1])"""
GLUE = "from myst_nb import glue\nglue('answer', 0.12345, display=False)"
PLAN: dict[str, Any] = {
    "goals": {"small": "add numbers"},
    "lectures": [
        {
            "title": "Lecture 1: small",
            "question": "How much?",
            "minutes": 45,
            "chapters": ["small"],
            "plan": ["Ask."],
            "exercises": {"ex-small": "Two."},
            "slides": [
                {"title": "A number", "text": "It is {glue:text}`answer:.2f`.", "chapter": "small"},
                {"title": "A picture", "figure": "fig-line", "notes": "Read the axes."},
                {"title": "A statement", "statement": "theorem-growth"},
            ],
        },
        {
            "title": "Seminar",
            "question": "What next?",
            "minutes": 90,
            "chapters": ["small"],
            "plan": ["Talk."],
        },
    ],
}


def planned(make_book: MakeBook, plan: object = PLAN) -> Project:
    """A book of one chapter with a figure, a number, a statement, and a plan."""
    project = make_book(GLUE, DRAW, text=f"A chapter.\n{STATEMENT}")
    path = project.book / "small.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].metadata["mystnb"] = {
        "figure": {"name": "fig-line", "caption": "A line from one corner to the other."},
        "image": {"alt": "A line from one corner to the other."},
    }
    nbformat.write(notebook, path)
    (project.book / "lectures.yml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    return project


def changed(**slide: str) -> dict[str, Any]:
    """The plan with another first slide."""
    first = PLAN["lectures"][0] | {"slides": [{"title": "Changed"} | slide]}
    return PLAN | {"lectures": [first]}


def test_slides_are_whole_and_ask_nothing_of_the_network(
    make_book: MakeBook, browser: Any, tmp_path: Path
) -> None:
    project = planned(make_book)
    html, printed = slides.make_slides(project)
    assert [html.name, printed.name] == ["lecture-1.html", "lecture-1.pdf"]

    alone = tmp_path / "elsewhere" / "lecture.html"
    alone.parent.mkdir()
    shutil.copy(html, alone)
    asked: list[str] = []
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(alone.as_uri())
    page.evaluate("() => window.ready")
    assert [url for url in asked if not url.startswith(("data:", alone.as_uri()))] == []
    assert complaints == []
    assert page.locator("mjx-container").count() == 1
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    seen = []
    for _ in range(4):
        seen.append(page.locator("section.present section.present").inner_text())
        page.keyboard.press("ArrowRight")
    assert "How much?" in seen[0]
    assert "It is 0.12." in seen[1]
    assert "Theorem (Growth; Theorem 3 of the paper)" in seen[3]
    assert "By Lemma 1" in seen[3]
    page.keyboard.press("ArrowLeft")
    assert page.locator(".controls:visible").count() == 0  # nothing lies over a figure
    picture = page.locator("section.present img").bounding_box()
    assert picture["width"] > 800
    assert picture["y"] + picture["height"] <= 720
    sizes = page.locator("section.present *").evaluate_all(
        "all => all.filter(e => e.innerText).map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 30  # of 720 pixels: readable at the back of a room
    page.close()

    document = pypdfium2.PdfDocument(printed)
    texts = [document[k].get_textpage().get_text_bounded() for k in range(len(document))]
    assert len(texts) == 4
    assert "It is 0.12." in texts[1]
    assert not any("Read the axes" in text for text in texts)
    pixels = document[2].render(scale=1).to_numpy()
    assert (pixels[pixels.shape[0] // 4 :] < 128).any()  # the picture is printed
    height, width = pixels.shape[:2]
    dark = (pixels[height // 4 :, : width * 9 // 10] < 128).any(axis=2)  # beside the slide's number
    across, down = np.ptp(dark.any(axis=0).nonzero()), np.ptp(dark.any(axis=1).nonzero())
    assert (
        across < down
    )  # and whole: it is taller than wide, and what is cut is as wide as the sheet


def test_a_slide_shows_a_part_of_a_figure(make_book: MakeBook) -> None:
    project = planned(make_book)
    build_book(project)
    book = read_chapters(project)

    def shown(**slide: object) -> np.ndarray:
        lecture = lectures.Lecture("A", "B", 45, ["small"], [], {}, [lectures.Slide("C", **slide)])
        (figure,) = (c for c in slides.lecture_notebook(lecture, book).cells if c.get("outputs"))
        return imread(io.BytesIO(base64.b64decode(figure.outputs[0].data["image/png"])))

    whole = shown(figure="fig-line")
    lower = shown(figure="fig-line", crop=[0.25, 1])
    assert np.array_equal(lower[..., :3], whole[len(whole) // 4 :, :, :3])
    for wrong in ([0.5, 0.5], [0, 1.5], [0.5], [-0.1, 1]):
        with pytest.raises(InputError, match="must be two numbers, 0 <= top < bottom <= 1"):
            shown(figure="fig-line", crop=wrong)


def test_a_lecture_is_a_notebook_tagged_as_jupyter_tags_slides(make_book: MakeBook) -> None:
    project = planned(make_book)
    slides.build_book(project)
    lecture = lectures.load(project).lectures[0]
    notebook = slides.lecture_notebook(lecture, read_chapters(project))
    nbformat.validate(notebook)
    kinds = [cell.metadata.slideshow.slide_type for cell in notebook.cells]
    assert kinds == ["slide", "slide", "slide", "-", "notes", "slide"]
    (output,) = notebook.cells[3].outputs
    assert list(output.data) == ["image/png"]

    for slide, reason in (
        ({"figure": "fig-none"}, "'Changed': no chapter has a figure 'fig-none'"),
        ({"statement": "theorem-none"}, "no chapter has a statement 'theorem-none'"),
        ({"text": "{glue:text}`answer`"}, "has numbers and no chapter"),
        ({"text": "{glue:text}`none`", "chapter": "small"}, "'small' has no number 'none'"),
    ):
        path = project.book / "lectures.yml"
        path.write_text(yaml.safe_dump(changed(**slide)), encoding="utf-8")
        lecture = lectures.load(project).lectures[0]
        with pytest.raises(InputError, match=reason):
            slides.lecture_notebook(lecture, read_chapters(project))


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"goals": {}}, "'lectures'"),
        (changed(pictures="fig-line"), "Changed.*pictures"),
        (PLAN | {"goals": {"large": "fly"}}, "chapter 'large' is not in book/_toc.yml"),
        ("words", "book/lectures.yml"),
    ],
)
def test_a_plan_that_is_not_in_order_is_refused(
    make_book: MakeBook, plan: object, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        lectures.load(planned(make_book, plan))


def test_the_teachers_page_has_goals_exercises_and_times(make_book: MakeBook) -> None:
    project = planned(make_book)
    (project.book / "intro.md").write_text("# A book\n\n<!-- generated: lectures -->\n")
    slides.build_book(project)
    text = (project.executed / "intro.md").read_text(encoding="utf-8")
    assert "## Lecture 1: small" in text
    assert "45 minutes, from {doc}`small`." in text
    assert "| {ref}`ex-small` | Two. |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| {doc}`small` | add numbers")]
    assert "{ref}`Warm-up: a small one <ex-small>`" in row
    assert re.search(r"\| \d+ min \| \d+:\d\d \|$", row)

    plan = yaml.safe_load((project.book / "lectures.yml").read_text(encoding="utf-8"))
    plan["lectures"][0]["exercises"] = {"ex-none": "Nothing."}
    (project.book / "lectures.yml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    with pytest.raises(
        InputError, match="'Lecture 1: small': no chapter has an exercise 'ex-none'"
    ):
        lectures.page(project, list(read_chapters(project).values()))


def test_the_book_plans_three_lectures_with_goals_for_every_chapter() -> None:
    project = Project(Path(__file__).resolve().parents[2])
    plan = lectures.load(project)
    assert [bool(lecture.slides) for lecture in plan.lectures] == [True, True, True, False]
    assert set(plan.goals) == set(project.chapters()) - {"claims"}
    figures, statements, asked = set(), set(), set()
    for chapter in read_chapters(project).values():
        asked |= {label for label, _ in lectures.exercises(chapter.source)}
        for cell in chapter.source.cells:
            figures.add(cell.metadata.get("mystnb", {}).get("figure", {}).get("name"))
            statements |= set(re.findall(r"\{prf:.*\n[> ]*:label: *(\S+)", cell.source))
    for lecture in plan.lectures:
        assert set(lecture.exercises) <= asked
        assert {slide.figure for slide in lecture.slides if slide.figure} <= figures
        assert {slide.statement for slide in lecture.slides if slide.statement} <= statements


def test_without_chromium_the_pages_are_made_all_the_same(
    make_book: MakeBook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pdf, "find_chromium", lambda: None)
    (made,) = slides.make_slides(planned(make_book))
    assert made.suffix == ".html"
    assert "install" in capsys.readouterr().out
