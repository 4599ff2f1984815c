"""The interactive figure in a real browser: its numbers are those of `dmf_utils`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import DESK, PHONE

from dmf_utils._support.notebooks import read_notebook
from dmf_utils.publishing import parameters
from dmf_utils.theory.aligned_modes import aligned_singular_value, time_to_reach

BOOK = Path(__file__).resolve().parents[2] / "book"
CHAPTER = BOOK / "singular_value_dynamics.ipynb"
DEPTHS = (1, 2, 3, 4, 5, 6)
STARTS = (-4.0, -2.5, -1.0)  # powers of ten
TARGETS = ((1.0, 0.6), (0.2, 2.0), (1.35, 1.35))


@pytest.fixture(scope="module")
def alone(open_alone: Any) -> Any:
    """The figure outside the book, which is quick to open."""
    return open_alone("aligned_modes")


def set_sliders(page: Any, **values: float) -> None:
    for name, value in values.items():
        page.locator(f"#interactive-aligned_modes input[name={name}]").fill(str(value))


def half_times(page: Any) -> list[float]:
    return [float(page.locator(f"[data-half='{i}']").inner_text()) for i in (0, 1)]


@pytest.mark.parametrize("depth", DEPTHS)
def test_half_times_agree_with_the_solution_to_two_decimals(alone: Any, depth: int) -> None:
    for power, (first, second) in itertools.product(STARTS, TARGETS):
        set_sliders(alone, depth=depth, start=power, first=first, second=second)
        for shown, y in zip(half_times(alone), (first, second), strict=True):
            start = 10.0**power
            solved = 0.0 if start >= y / 2 else float(time_to_reach(y / 2, start, y, depth))
            assert shown == pytest.approx(solved, abs=0.0051), (power, y)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_share_of_the_slower_value_agrees_with_the_solution(alone: Any, depth: int) -> None:
    set_sliders(alone, depth=depth, start=-3, first=0.7, second=1.2)
    half = float(time_to_reach(0.6, 1e-3, 1.2, depth))
    share = float(aligned_singular_value(torch.tensor([half]), 1e-3, 0.7, depth)[0]) / 0.7
    shown = float(alone.locator("[data-shows=share]").inner_text().removesuffix("%"))
    assert shown == pytest.approx(100 * share, rel=0.02)


def test_the_curve_is_drawn_through_the_solution(alone: Any) -> None:
    set_sliders(alone, depth=3, start=-3, first=1, second=0.6)
    marks = alone.locator("#interactive-aligned_modes circle")
    for i in (0, 1):
        mark = [float(marks.nth(i).get_attribute(name)) for name in ("cx", "cy")]
        points = (
            alone.locator("#interactive-aligned_modes path")
            .nth(i)
            .get_attribute("d")[1:]
            .split("L")
        )
        path = [tuple(map(float, point.split())) for point in points]
        before = max(point for point in path if point[0] <= mark[0])
        after = min(point for point in path if point[0] >= mark[0])
        share = (mark[0] - before[0]) / max(after[0] - before[0], 1e-9)
        assert before[1] + share * (after[1] - before[1]) == pytest.approx(mark[1], abs=1.0)


def test_the_figure_opens_with_the_chapters_parameters(alone: Any) -> None:
    alone.reload()
    known = parameters.read(read_notebook(CHAPTER), CHAPTER.name)
    values = [
        float(alone.locator(f"[data-shows={name}]").inner_text())
        for name in ("start", "first", "second")
    ]
    assert values == [known["mode_start"].default, *known["mode_targets"].default]


def test_the_keyboard_moves_every_slider(alone: Any) -> None:
    alone.reload()
    alone.locator("body").focus()
    seen = []
    for _ in range(4):
        alone.keyboard.press("Tab")
        name = alone.evaluate("() => document.activeElement.name")
        before = alone.locator(f"[data-shows={name}]").inner_text(), half_times(alone)
        alone.keyboard.press("ArrowRight")
        assert before != (alone.locator(f"[data-shows={name}]").inner_text(), half_times(alone))
        seen.append(name)
    assert seen == ["depth", "start", "first", "second"]


def test_every_slider_and_the_picture_have_names(alone: Any) -> None:
    assert [alone.get_by_role("slider", name=name).count() for name in ("depth", "start")] == [1, 1]
    assert alone.get_by_role("slider", name="target of the").count() == 2
    assert alone.get_by_role("img", name="Two singular values over time").count() == 1


def luminance(color: str) -> float:
    parts = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE])
@pytest.mark.parametrize("name", [CHAPTER.stem])
def test_letters_and_curves_stand_out_in_the_book(
    visit: Any, name: str, scheme: str, width: int
) -> None:
    opened = "light" if width == DESK else "dark"
    page = visit(name, width, opened).page
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function("of => document.documentElement.dataset.theme === of", arg=scheme)
    assert page.locator("#interactive-aligned_modes svg").is_visible()
    colors = page.evaluate(
        """() => {
            const style = (selector) => getComputedStyle(document.querySelector(selector));
            const figure = (selector) => style(`#interactive-aligned_modes ${selector}`);
            return {
                page: style("body").backgroundColor,
                letters: [figure("text").fill, figure("label").color],
                curves: [figure("path.m1").stroke, figure("path.m2").stroke],
            };
        }"""
    )
    behind = luminance(colors["page"])
    assert (behind < 0.1) == (scheme == "dark")
    for part, least in (("letters", 4.5), ("curves", 3.0)):
        for color in colors[part]:
            low, high = sorted((behind, luminance(color)))
            assert (high + 0.05) / (low + 0.05) >= least
    size = page.evaluate(
        """() => {
            const svg = document.querySelector("#interactive-aligned_modes svg");
            return 13 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
        }"""
    )
    assert size >= 12  # pixels of a letter on the screen
    page.emulate_media(color_scheme=opened)


@pytest.mark.parametrize("name", [CHAPTER.stem])
def test_without_scripts_there_is_a_static_figure(browser: Any, address: str, name: str) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{address}/{name}.html")
    assert page.locator("#interactive-aligned_modes .stage").count() == 0
    assert page.locator("#interactive-aligned_modes noscript p").is_visible()
    assert page.locator("#fig-modes img").is_visible()
    page.context.close()
