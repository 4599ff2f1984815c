"""What the book's page ``status`` says of this build: versions, seeds, times, machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nbformat
from nbformat import NotebookNode

from dmf_utils._support.notebooks import headings, title
from dmf_utils.publishing.execution import Run
from dmf_utils.publishing.parameters import Parameter
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.terminal import clock

__all__ = ["SectionTime", "section_times", "seeds", "status"]


@dataclass(frozen=True)
class SectionTime:
    """How long the code cells of one section took; it is named with the heading above its own."""

    heading: str
    cells: int
    seconds: float


def status(
    project: Project, runs: dict[str, Run], parameters: dict[str, dict[str, Parameter]]
) -> str:
    """The generated part of the page, as Markdown.

    Parameters
    ----------
    project
        Where the runs are, and at which size.
    runs, parameters
        The record and the parameters of each chapter, in reading order.
    """
    total = clock(sum(run.seconds for run in runs.values()))
    lines = [
        f"Size of this build: {'quick, not the paper’s' if project.quick else 'the paper’s'}. "
        f"All chapters together ran for {total} (minutes:seconds).",
        "",
        "## Chapters",
        "",
        "| Chapter | Run time | Executed | Commit | Seeds |",
        "|---|---|---|---|---|",
    ]
    for chapter, run in runs.items():
        chosen = [f"`{name}` = {value}" for name, value in seeds(run, parameters[chapter])]
        cells = [
            f"{{doc}}`{chapter}`",
            clock(run.seconds),
            run.date,
            f"`{run.versions['commit']}`" if "commit" in run.versions else "–",
            ", ".join(chosen) or "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Machines and versions", "", *_machines(runs)]
    lines += ["", "## Run time by section", ""]
    for chapter, run in runs.items():
        if not parameters[chapter]:
            continue  # the ledger's page measures nothing
        notebook = nbformat.read(project.runs / f"{chapter}.ipynb", as_version=4)
        lines += [*_section_table(chapter, notebook, run.seconds), ""]
    return "\n".join(lines)


def seeds(run: Run, parameters: dict[str, Parameter]) -> Iterator[tuple[str, Any]]:
    """The parameters of a run that are seeds, by their names, with their values."""
    for name, entry in parameters.items():
        if "seed" in name:
            yield name, run.parameters.get(name, entry.default)


def _machines(runs: dict[str, Run]) -> list[str]:
    """One item for each machine with its versions, and the chapters that ran there."""
    places: dict[tuple[str, str], list[str]] = {}
    for chapter, run in runs.items():
        versions = ", ".join(
            f"{name} {number}" for name, number in run.versions.items() if name != "commit"
        )
        places.setdefault((run.hardware or "not recorded", versions), []).append(chapter)
    lines = []
    for (machine, versions), chapters in places.items():
        named = ", ".join(f"{{doc}}`{chapter}`" for chapter in chapters)
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


def _section_table(chapter: str, notebook: NotebookNode, total: float) -> list[str]:
    """A chapter's sections as a Markdown table under the chapter's title."""
    sections = section_times(notebook)
    lines = [
        f"### {title(notebook) or chapter}",
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
