"""What the book's page ``status`` says of this build: versions, seeds, times, machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

from dmf_utils._support.notebooks import headings
from dmf_utils.publishing.chapter import Chapter, Execution
from dmf_utils.publishing.parameters import as_code
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.reading import HOW_COUNTED, reading_minutes
from dmf_utils.publishing.terminal import clock

__all__ = ["SectionTime", "section_times", "seeds", "status"]


@dataclass(frozen=True)
class SectionTime:
    """How long the code cells of one section took; it is named with the heading above its own."""

    heading: str
    cells: int
    seconds: float


def status(project: Project, chapters: list[Chapter]) -> str:
    """The generated part of the page, as Markdown.

    Parameters
    ----------
    project
        At which size.
    chapters
        Those that were executed, in reading order.
    """
    done = [(chapter, chapter.last) for chapter in chapters if chapter.last]
    total = clock(sum(execution.seconds for _, execution in done))
    lines = [
        f"Size of this build: {'quick, not the paper’s' if project.quick else 'the paper’s'}. "
        f"All chapters together ran for {total} (minutes:seconds). "
        f"Reading times are counted: {HOW_COUNTED}.",
        "",
        "## Chapters",
        "",
        "| Chapter | Reading time | Run time | Executed | Commit | Seeds |",
        "|---|---|---|---|---|---|",
    ]
    for chapter, execution in done:
        chosen = [f"`{name}` = {as_code(value)}" for name, value in seeds(chapter)]
        commit = execution.versions.get("commit")
        cells = [
            f"{{doc}}`{chapter.name}`",
            f"{reading_minutes(chapter.source)} min" if chapter.parameters else "–",
            clock(execution.seconds),
            execution.date,
            as_code(commit) if commit else "–",
            ", ".join(chosen) or "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Machines and versions", "", *_machines(done)]
    lines += ["", "## Run time by section", ""]
    for chapter, execution in done:
        if chapter.parameters:  # the ledger's page measures nothing
            lines += [*_section_table(chapter, execution.seconds), ""]
    return "\n".join(lines)


def seeds(chapter: Chapter) -> Iterator[tuple[str, Any]]:
    """The parameters of the last execution that are seeds, by their names, with their values."""
    given = chapter.last.parameters if chapter.last else {}
    for name, entry in chapter.parameters.items():
        if "seed" in name:
            yield name, given.get(name, entry.default)


def _machines(done: list[tuple[Chapter, Execution]]) -> list[str]:
    """One item for each machine with its versions, and the chapters that were executed there."""
    places: dict[tuple[str, str], list[str]] = {}
    for chapter, execution in done:
        versions = ", ".join(
            f"{name} {number}" for name, number in execution.versions.items() if name != "commit"
        )
        places.setdefault((execution.hardware or "not recorded", versions), []).append(chapter.name)
    lines = []
    for (machine, versions), names in places.items():
        named = ", ".join(f"{{doc}}`{name}`" for name in names)
        lines += [f"- **Machine**: {machine}.", f"  **Versions**: {versions}."]
        lines += [f"  **Chapters**: {named if len(places) > 1 else 'all'}."]
    return lines


def section_times(notebook: NotebookNode) -> list[SectionTime]:
    """The times that papermill noted, summed over the code cells below each heading."""
    totals: dict[str, tuple[int, float]] = {}
    path: dict[int, str] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for words, level in headings(cell.source):
                path = {n: above for n, above in path.items() if n < level} | {level: words}
        elif cell.cell_type == "code" and cell.source.strip():
            seconds = float(cell.metadata.get("papermill", {}).get("duration") or 0.0)
            name = " › ".join(words for n, words in sorted(path.items()) if n > 1) or "Opening"
            cells, before = totals.get(name, (0, 0.0))
            totals[name] = cells + 1, before + seconds
    return [SectionTime(name, *numbers) for name, numbers in totals.items()]


def _section_table(chapter: Chapter, total: float) -> list[str]:
    """A chapter's sections as a Markdown table under the chapter's title."""
    sections = section_times(chapter.executed)
    lines = [
        f"### {chapter.title}",
        "",
        "| Section | Code cells | Time in seconds |",
        "|---|---:|---:|",
    ]
    for section in sections:
        name = section.heading.replace("|", r"\|")
        lines.append(f"| {name} | {section.cells} | {section.seconds:.1f} |")
    rest = total - sum(section.seconds for section in sections)
    lines.append(f"| Starting the kernel, and the rest | | {max(rest, 0.0):.1f} |")
    return lines
