"""The ``dmf`` command."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import nbformat

from dmf_utils._support.errors import InputError
from dmf_utils.claims import ledger, measured
from dmf_utils.claims.render import show
from dmf_utils.cli import complete, sweep
from dmf_utils.publishing import execution, parameter_table, parameters
from dmf_utils.publishing.build import LedgerError, build_book
from dmf_utils.publishing.project import Project
from dmf_utils.publishing.site import SiteError
from dmf_utils.publishing.terminal import Progress

__all__ = ["main"]

_BAD_INPUT, _FAILED, _INTERRUPTED = 2, 1, 130
_CHAPTERS_KEPT = (
    "no kernel is left running. Finished chapters are kept: the same command goes on from there."
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        # What knows no sizes needs no project: `complete` works in any folder.
        project = Project.find().at_size(quick=options.quick) if "quick" in options else None
        return int(options.command(project, options))
    except InputError as error:
        print(f"dmf: {error}", file=sys.stderr)
        return _BAD_INPUT
    except (execution.ChapterError, LedgerError, SiteError) as error:
        print(f"\n{error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print(f"\ndmf: interrupted; {options.interrupted}", file=sys.stderr)
        return _INTERRUPTED


def _as_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class _ChapterHelp(argparse.Action):
    """The help of a command, and the parameters of the chapter that is named before or after."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        chapter = values or getattr(namespace, "chapter", None)
        try:
            table = parameter_table.as_text(_known(Project.find(), chapter)) if chapter else ""
        except InputError as error:
            parser.exit(_BAD_INPUT, f"dmf: {error}\n")
        parser.print_help()
        if chapter:
            print(f"\nparameters of {chapter}:\n{table or '(none)'}")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """Refuses bad input in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_BAD_INPUT, f"dmf: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dmf",
        description="Execute the book's chapters, build its pages, and show its ledger of claims.",
        epilog="Run it inside the project's folder. Exit status: 0 done, 1 failed, 2 bad input.",
    )
    parser.set_defaults(interrupted=_CHAPTERS_KEPT)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    book = commands.add_parser(
        "book",
        help="execute what changed and build the pages",
        description="Execute the chapters that changed, judge the claims, and build the pages "
        "into _build/html (with --quick into _build/quick/html).",
    )
    book.add_argument(
        "chapters",
        nargs="*",
        metavar="CHAPTER",
        help="execute only these; the other pages show their last run",
    )
    book.add_argument("--quick", action="store_true", help="at the small size, for a look")
    book.add_argument("--force", action="store_true", help="execute even what did not change")
    book.set_defaults(command=_book)

    run = commands.add_parser(
        "run",
        help="execute one chapter with parameters of your own",
        description="Execute one chapter with parameters of your own and keep the notebook; the "
        "book's pages are not touched.",
        epilog="`dmf run --help CHAPTER` lists the chapter's parameters.",
        add_help=False,
    )
    run.add_argument(
        "-h",
        "--help",
        action=_ChapterHelp,
        nargs="?",
        metavar="CHAPTER",
        help="show this, and the parameters of a chapter: name, type, default, meaning",
    )
    run.add_argument("chapter", metavar="CHAPTER")
    run.add_argument(
        "-p",
        dest="assignments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, such as -p rank=2 or -p 'depths=[2, 3]'; may be repeated",
    )
    run.add_argument("--quick", action="store_true", help="start from the small size")
    run.add_argument(
        "--output", type=Path, metavar="FILE", help="the notebook to write (_build/single/…)"
    )
    run.set_defaults(command=_run)

    listing = commands.add_parser(
        "parameters",
        help="list a chapter's parameters",
        description="List a chapter's parameters: name, type, default, meaning.",
    )
    listing.add_argument("chapter", metavar="CHAPTER")
    listing.set_defaults(command=_parameters, quick=False)

    handouts = commands.add_parser(
        "handouts",
        help="make student notebooks and PDFs for a class",
        description="For each chapter make a student notebook (no solutions, small parameters), a "
        "student PDF and an instructor's PDF, on A4 and on US letter, in _build/handouts. What "
        "of the book is not executed yet is executed first.",
    )
    handouts.add_argument("chapters", nargs="*", metavar="CHAPTER", help="all by default")
    handouts.add_argument("--version", choices=["student", "instructor"], help="only this one")
    handouts.add_argument("--course", default="", metavar="LINE", help="a line for every sheet")
    handouts.add_argument("--quick", action="store_true", help="from the book's quick size")
    handouts.set_defaults(command=_handouts)

    verdicts = commands.add_parser(
        "claims",
        help="print the ledger as last measured",
        description="Print the ledger as last measured. Exit status 1 if a verdict is worse than "
        "the ledger accepts.",
    )
    verdicts.add_argument("--quick", action="store_true", help="as measured at the small size")
    verdicts.set_defaults(command=_claims)

    complete.add_complete(commands)
    sweep.add_sweep(commands)
    return parser


def _book(project: Project, options: argparse.Namespace) -> int:
    page = build_book(project, options.chapters, force=options.force)
    print(page)
    return 0


def _handouts(project: Project, options: argparse.Namespace) -> int:
    from dmf_utils.teaching import handouts  # loads Sphinx: only when asked for

    versions = (options.version,) if options.version else handouts.VERSIONS
    try:
        made = handouts.make_handouts(
            project, options.chapters, versions=versions, course=options.course
        )
    except handouts.FAILURES as error:
        print(f"\n{error}", file=sys.stderr)
        return _FAILED
    for path in made:
        print(path)
    return 0


def _run(project: Project, options: argparse.Namespace) -> int:
    chapter = options.chapter
    known = _known(project, chapter)
    values = parameters.quick_values(project, chapter, known) if project.quick else {}
    values |= _in_place(parameters.given(chapter, known, options.assignments))
    output = (options.output or project.build / "single" / f"{chapter}.ipynb").resolve()
    if output.suffix != ".ipynb":
        raise InputError(f"--output {output}: must end in .ipynb")
    if output == project.chapter_path(chapter).resolve():
        raise InputError(f"--output {output}: is the chapter itself; name another file")
    output.parent.mkdir(parents=True, exist_ok=True)
    last = execution.last_run(project, chapter)
    progress = Progress({chapter: last.seconds if last else 10.0})
    progress.begin(chapter)
    execution.run_papermill(project, chapter, values, output, progress)
    progress.end("executed")
    for shown, _, _ in measured.recorded(nbformat.read(output, as_version=4)):
        print(shown["data"]["text/plain"])
    print(output)
    return 0


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


def _parameters(project: Project, options: argparse.Namespace) -> int:
    known = _known(project, options.chapter)
    print(parameter_table.as_text(known) or f"chapter {options.chapter} has no parameters")
    return 0


def _known(project: Project, chapter: str) -> dict[str, parameters.Parameter]:
    return parameters.read(project.chapter_path(chapter))


def _claims(project: Project, options: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
