"""The teachers' page and the lectures: what ``book/lectures.yml`` plans, with the run's times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from nbformat import NotebookNode

from dmf_utils._support.errors import InputError
from dmf_utils.publishing.chapter import Chapter
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.reading import reading_minutes
from dmf_utils.publishing.terminal import clock

__all__ = ["Lecture", "Plan", "Slide", "exercises", "load", "page"]

_EXERCISE = re.compile(r"^[`:]{3,}\{exercise(?:-start)?\} *(.*)\n[> ]*:label: *(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Slide:
    """One slide: words of its own, and a figure or a statement out of a chapter.

    Attributes
    ----------
    title
        Its headline.
    text
        Markdown; ``{glue:text}`` takes a number from the run of `chapter`.
    figure, statement
        The name of a figure's cell, the label of a theorem's box.
    crop
        The part of the figure's height that is shown, from the top: ``[0, 0.5]`` is its upper half.
        A figure of many panels is too small to be read at the back of a room.
    chapter
        Whose numbers the text takes; by default that of the figure.
    notes
        For the speaker's view.
    """

    title: str
    text: str = ""
    figure: str = ""
    statement: str = ""
    crop: list[float] = field(default_factory=lambda: [0.0, 1.0])
    chapter: str = ""
    notes: str = ""


@dataclass(frozen=True)
class Lecture:
    """One lecture, or the seminar, which has no slides."""

    title: str
    question: str
    minutes: int
    chapters: list[str]
    plan: list[str]
    exercises: dict[str, str] = field(default_factory=dict)
    slides: list[Slide] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """The whole course: its lectures, and what a student can do after each chapter."""

    lectures: list[Lecture]
    goals: dict[str, str]


def load(project: Project) -> Plan:
    """Read ``book/lectures.yml``.

    Raises
    ------
    InputError
        If it is not there, or an entry has an unknown or a missing field; the message names both.
    """
    path = project.book / "lectures.yml"
    if not path.is_file():
        raise InputError("book/lectures.yml: not there; it plans the lectures and their slides")
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        lectures = [
            _made(Lecture, entry | {"slides": [_made(Slide, s) for s in entry.get("slides", [])]})
            for entry in read["lectures"]
        ]
        plan = Plan(lectures, read["goals"])
    except (TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"book/lectures.yml: {error}; see the entries around it") from error
    chapters = project.chapters()
    for name in [*plan.goals, *(name for lecture in lectures for name in lecture.chapters)]:
        if name not in chapters:
            raise InputError(f"book/lectures.yml: chapter {name!r} is not in book/_toc.yml")
    return plan


def _made(kind: type, entry: dict[str, Any]) -> Any:
    try:
        return kind(**entry)
    except TypeError as error:
        raise TypeError(f"{entry.get('title', entry)}: {error}") from None


def exercises(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """The exercises of a chapter: the label and the title of each."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for title, label in _EXERCISE.findall(cell.source):
                yield label, title.strip()


def page(project: Project, chapters: list[Chapter]) -> str:
    """The generated part of the teachers' page, as Markdown.

    Parameters
    ----------
    project
        Whose plan.
    chapters
        In reading order; each was executed.

    Raises
    ------
    InputError
        If the plan names an exercise that no chapter has.
    """
    plan = load(project)
    titles = {label: title for one in chapters for label, title in exercises(one.source)}
    lines: list[str] = []
    for lecture in plan.lectures:
        for label in lecture.exercises:
            if label not in titles:
                raise InputError(
                    f"book/lectures.yml, {lecture.title!r}: no chapter has an exercise {label!r}"
                )
        lines += [*_lecture(lecture, chapters), ""]
    lines += ["## Chapter by chapter", ""]
    lines += ["| Chapter | Afterwards a student can | Exercises | Reading | Run |"]
    lines += ["|---|---|---|---:|---:|"]
    for one in chapters:
        named = [f"{{ref}}`{title} <{label}>`" for label, title in exercises(one.source)]
        if named or one.name in plan.goals:
            cells = [f"{{doc}}`{one.name}`", plan.goals.get(one.name, "–")]
            cells += [", ".join(named) or "–", f"{reading_minutes(one.source)} min", _run(one)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _lecture(lecture: Lecture, chapters: list[Chapter]) -> list[str]:
    used = {one.name: one for one in chapters if one.name in lecture.chapters}
    seconds = sum(one.last.seconds for one in used.values() if one.last)
    read = ", ".join(f"{{doc}}`{name}`" for name in lecture.chapters)
    lines = [f"## {lecture.title}", "", f"*{lecture.question}*", ""]
    lines += [f"{lecture.minutes} minutes, from {read}.", ""]
    ran = f"these chapters ran for {clock(seconds)} (minutes:seconds) in all"
    lines += [f"On the machine of this build {ran}.", ""]
    lines += [f"{number}. {step}" for number, step in enumerate(lecture.plan, 1)]
    if lecture.exercises:
        lines += ["", "| Exercise | What to listen for in an answer |", "|---|---|"]
        lines += [
            f"| {{ref}}`{label}` | {answer.strip()} |"
            for label, answer in lecture.exercises.items()
        ]
    return lines


def _run(chapter: Chapter) -> str:
    return clock(chapter.last.seconds) if chapter.last else "–"
