"""The ``dmf`` command."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils._support.notebooks import read_notebook, write_notebook
from dmf_utils.claims import ledger, measured
from dmf_utils.claims.render import show
from dmf_utils.cli import complete, notebook_output, options, sweep
from dmf_utils.publishing import parameters
from dmf_utils.publishing.build import LedgerError, build_book
from dmf_utils.publishing.chapter import Chapter
from dmf_utils.publishing.execution import ChapterError, run_papermill
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.site import SiteError
from dmf_utils.publishing.terminal import Display

__all__ = ["main"]

_BAD_INPUT, _FAILED, _INTERRUPTED = 2, 1, 130
_LONGEST = 1000  # characters of a message
_CHAPTERS_KEPT = (
    "no kernel is left running. Finished chapters are kept: the same command goes on from there."
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, _as_interrupt)
    context: dict[str, str] = {"interrupted": _CHAPTERS_KEPT}
    try:
        return int(dmf.main(arguments, "dmf", standalone_mode=False, obj=context) or 0)
    except click.UsageError as error:
        place = error.ctx.command_path if error.ctx else "dmf"
        said = _one_line(error.format_message()).rstrip(".")
        print(f"dmf: {said}; see {place} --help", file=sys.stderr)
        return _BAD_INPUT
    except InputError as error:
        print(f"dmf: {_one_line(str(error))}", file=sys.stderr)
        return _BAD_INPUT
    except (ChapterError, LedgerError, SiteError) as error:
        print(f"\n{error}", file=sys.stderr)
        return _FAILED
    except MemoryError as error:
        reason = f" ({_one_line(str(error))})" if str(error) else ""
        print(f"dmf: this needs more memory than there is{reason}", file=sys.stderr)
        return _FAILED
    except OSError as error:  # a disk that is full, a folder that went away
        print(f"dmf: {_one_line(str(error))}", file=sys.stderr)
        return _FAILED
    except (KeyboardInterrupt, click.Abort):
        print(f"\ndmf: interrupted; {context['interrupted']}", file=sys.stderr)
        return _INTERRUPTED


def _one_line(text: str) -> str:
    """A message without line breaks, without what a terminal takes for a command, not too long."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 200]} … {line[-150:]}"


def _as_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@click.group(
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def dmf() -> None:
    """Execute the book's chapters, build its pages, and show its ledger of claims.

    Run it inside the project's folder. Exit status: 0 done, 1 failed, 2 bad input.
    """


@dmf.command("book", short_help="Execute what changed and build the pages.")
@click.argument("chapters", nargs=-1, metavar="[CHAPTER]...")
@options.quick
@click.option("--force", is_flag=True, help="Execute even what did not change.")
@options.patience
def _book(chapters: tuple[str, ...], quick: bool, force: bool, patience: float) -> int:
    """Execute the chapters that changed, judge the claims, and build the pages.

    The pages go to _build/html (with --quick to _build/quick/html). If chapters are named, only
    these are executed, and the other pages show their last execution.
    """
    project = Project.find().at_size(quick=quick)
    print(build_book(project, list(chapters), force=force, patience=patience))
    return 0


def _chapter_help(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """The help of `run`, and the parameters of the chapter that is named before or after."""
    if not asked or context.resilient_parsing:
        return
    click.echo(context.get_help())
    named = [one for one in context.params.get("chapter") or () if one]
    if named:
        table = parameters.as_text(Chapter(Project.find(), named[0]).parameters)
        click.echo(f"\nparameters of {named[0]}:\n{table or '(none)'}")
    context.exit()


@dmf.command(
    "run",
    short_help="Execute one chapter with parameters of your own.",
    epilog="`dmf run --help CHAPTER` lists the chapter's parameters.",
    add_help_option=False,
)
@click.argument("chapter", nargs=-1, metavar="CHAPTER", is_eager=True)
@click.option(
    "-h",
    "--help",
    is_flag=True,
    expose_value=False,
    callback=_chapter_help,
    help="Show this, and the parameters of a chapter: name, type, default, meaning.",
)
@click.option(
    "-p",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter, such as -p rank=2 or -p 'depths=[2, 3]'; may be repeated.",
)
@click.option("--quick", is_flag=True, help="Start from the small size.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The notebook to write (_build/single/CHAPTER.ipynb).",
)
@click.option("--force", is_flag=True, help="Replace a notebook that dmf did not write so.")
@options.patience
def _run(
    chapter: tuple[str, ...],
    assignments: tuple[str, ...],
    quick: bool,
    output: Path | None,
    force: bool,
    patience: float,
) -> int:
    """Execute one chapter with parameters of your own and keep the notebook.

    The book's pages are not touched.
    """
    if len(chapter) != 1:
        raise click.UsageError("name one chapter", click.get_current_context())
    project = Project.find().at_size(quick=quick)
    one = Chapter(project, chapter[0])
    given = parameters.given(one.name, one.parameters, list(assignments))
    values = one.values | _in_place(given)
    if output is None:
        output = files.folder(project.build / "single") / f"{one.name}.ipynb"
    if output.suffix != ".ipynb":
        raise InputError(f"--output {output}: must end in .ipynb")
    read = [*project.book.rglob("*.ipynb"), *map(Path, _files_in(given))]
    files.check_outputs([output], read, is_ours=notebook_output.is_ours, force=force)
    display = Display({one.name: one.expected_seconds})
    display.begin(one.name)
    with tempfile.TemporaryDirectory(prefix="dmf-") as folder:
        written = Path(folder) / "executed.ipynb"
        run_papermill(one, values, written, display, patience=patience)
        notebook = read_notebook(written)
    write_notebook(notebook_output.signed(notebook), output)
    display.end("executed")
    for found, _, _ in measured.recorded(notebook):
        print(found["data"]["text/plain"])
    print(output.resolve())
    return 0


def _files_in(values: dict[str, Any]) -> list[str]:
    return [value for name, value in values.items() if name.endswith("_file") and value]


def _in_place(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with files as absolute paths: a chapter runs in another folder than the user."""
    values = dict(values)
    for name, value in values.items():
        if name.endswith("_file") and value:
            path = Path(value).expanduser().resolve()
            if not path.is_file():
                raise InputError(f"parameter {name!r}: {path}: there is no such file")
            values[name] = str(path)
    return values


@dmf.command("parameters", short_help="List a chapter's parameters.")
@click.argument("chapter", metavar="CHAPTER")
def _parameters(chapter: str) -> int:
    """List a chapter's parameters: name, type, default, meaning."""
    table = parameters.as_text(Chapter(Project.find(), chapter).parameters)
    print(table or f"chapter {chapter} has no parameters")
    return 0


@dmf.command("handouts", short_help="Make student notebooks and PDFs for a class.")
@click.argument("chapters", nargs=-1, metavar="[CHAPTER]...")
@click.option("--version", type=click.Choice(["student", "instructor"]), help="Only this one.")
@click.option("--course", default="", metavar="LINE", help="A line for every sheet.")
@click.option("--quick", is_flag=True, help="From the book's quick size.")
def _handouts(chapters: tuple[str, ...], version: str | None, course: str, quick: bool) -> int:
    """For each chapter make a student notebook and PDFs for students and for instructors.

    A student notebook has no solutions and small parameters. The PDFs are on A4 and on US letter.
    All go to _build/handouts. What of the book is not executed yet is executed first.
    """
    from dmf_utils.teaching import handouts  # loads Sphinx: only when asked for

    project = Project.find().at_size(quick=quick)
    versions = (version,) if version else handouts.VERSIONS
    try:
        made = handouts.make_handouts(project, list(chapters), versions=versions, course=course)
    except handouts.FAILURES as error:
        print(f"\n{error}", file=sys.stderr)
        return _FAILED
    for path in made:
        print(path)
    return 0


@dmf.command("slides", short_help="Make the slides of the three lectures.")
@click.option("--quick", is_flag=True, help="From the book's quick size.")
def _slides(quick: bool) -> int:
    """Make the slides of each lecture of book/lectures.yml, with figures and numbers of the run.

    Each is one file of HTML that needs no network, and a PDF, in _build/slides. What of the book
    is not executed yet is executed first.
    """
    from dmf_utils.teaching import pdf, slides  # loads nbconvert: only when asked for

    try:
        made = slides.make_slides(Project.find().at_size(quick=quick))
    except pdf.PrintError as error:
        print(f"\n{error}", file=sys.stderr)
        return _FAILED
    for path in made:
        print(path)
    return 0


@dmf.command("claims", short_help="Print the ledger as last measured.")
@click.option("--quick", is_flag=True, help="As measured at the small size.")
def _claims(quick: bool) -> int:
    """Print the ledger as last measured.

    Exit status 1 if a verdict is worse than the ledger accepts.
    """
    project = Project.find().at_size(quick=quick)
    if not project.claims.is_file():
        raise InputError(f"{project.claims}: not there yet; run `dmf book` first")
    try:
        rows, accepted = measured.read(project.claims), ledger.load(project.ledger)
    except ValueError as error:
        raise InputError(str(error)) from error
    for row in rows:
        value = "" if row["measured"] is None else show(row["measured"])
        print(
            f"{row['verdict']:>14}  {row['kind']:>8}  {row['id']}  "
            f"expected: {row['expected']}  measured: {value}"
        )
    print(measured.summary(rows))
    worse = [] if project.quick else measured.worse(rows, accepted)
    for line in worse:
        print(f"worse than accepted: {line}", file=sys.stderr)
    return _FAILED if worse else 0


dmf.add_command(complete.command)
dmf.add_command(sweep.command)


if __name__ == "__main__":
    sys.exit(main())
