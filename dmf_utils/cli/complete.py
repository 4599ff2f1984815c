"""``dmf complete``: a partially observed matrix of the user's own, completed and judged."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils._support.provenance import installed_versions

if TYPE_CHECKING:
    from dmf_utils.user_data.completion import Completion
    from dmf_utils.user_data.matrix import ObservedMatrix

__all__ = ["command"]

_PLAIN = str.maketrans({"×": "x", "±": "+-", "–": "-", "…": "...", "′": "'"})


def _depths(context: click.Context, parameter: click.Parameter, text: str) -> list[int]:
    try:
        depths = [int(part) for part in text.split(",")]
    except ValueError:
        depths = []
    if not depths or min(depths) < 1 or len(set(depths)) < len(depths):
        raise click.BadParameter(f"{text!r}: give a number from 1 on, or a list such as 2,4")
    return depths


def _columns(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


def _missing(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> list[float] | None:
    if text is None or text.lower() == "none":
        return None if text is None else []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}: give numbers such as 0 or -1,99, or none") from None


@click.command(
    "complete",
    short_help="Complete a partially observed matrix of your own.",
    epilog="Works in any folder. The runs that are finished are kept in the folder of the output "
    "when it is interrupted: the same command goes on from there.",
)
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--depth",
    "depths",
    default="2,3",
    show_default=True,
    callback=_depths,
    metavar="LIST",
    help="Depths to compare, such as 2 or 2,4.",
)
@click.option("--header/--no-header", default=None, help="Whether line 1 names the columns.")
@click.option(
    "--columns",
    callback=_columns,
    metavar="ROW,COLUMN,VALUE",
    help="The three columns, by name or by number from 1.",
)
@click.option(
    "--layout",
    type=click.Choice(["auto", "triplets", "wide"]),
    default="auto",
    help="A line for each entry, or for each row.",
)
@click.option(
    "--duplicates",
    type=click.Choice(["error", "last", "mean"]),
    default="error",
    help="What to do with entries that have several values.",
)
@click.option(
    "--missing",
    callback=_missing,
    metavar="NUMBERS",
    help="Numbers that mark a missing entry, such as 0 or -1,99; or none. Usual marks are asked "
    "about.",
)
@click.option(
    "--bounds",
    type=(float, float),
    metavar="LOW HIGH",
    help="Least and largest possible value: all methods are clipped alike.",
)
@click.option(
    "--center",
    type=click.Choice(["auto", "none", "mean", "rows", "columns", "both"]),
    default="auto",
    help="What is taken off first; auto compares none and both (biases).",
)
@click.option(
    "--scale",
    type=click.Choice(["auto", "none", "rows", "columns"]),
    default="auto",
    help="Whether columns or rows have units of their own.",
)
@click.option("--method", metavar="NAME", help="Complete by this method of the table.")
@click.option(
    "--fill-undetermined", is_flag=True, help="Fill in also what nothing observed determines."
)
@click.option("--test", default=0.1, metavar="SHARE", help="Share of entries that judge (0.1).")
@click.option(
    "--validation",
    default=0.1,
    metavar="SHARE",
    help="Share of entries by which methods choose (0.1); 0 to fit all the rest, noise and all.",
)
@click.option(
    "--hidden",
    type=int,
    metavar="K",
    help="Hidden size; of large matrices twice the rank that the data can carry.",
)
@click.option("--seed", default=0, help="Of the split and of the start.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="FOLDER",
    help="Where to write (here).",
)
@click.option("--force", is_flag=True, help="Replace files that this command did not write so.")
@click.pass_context
def command(context: click.Context, file: Path, output: Path, force: bool, **options: Any) -> int:
    """Complete a partially observed matrix, and compare methods on entries kept for a test.

    Gradient flow at several depths stands beside biases and a nuclear norm penalty. FILE is a table
    (.csv, .tsv, .txt, .dat, u.data, .parquet) with a line for each entry or for each row, an .npy
    array with NaN, or a sparse matrix (.npz, .mtx). Writes the completed matrix (NAME-completed)
    and a report of one page (NAME-report.html).
    """
    # Imported here: torch takes seconds to load, and the other commands do without.
    from dmf_utils.user_data.completion import complete
    from dmf_utils.user_data.reading import read_matrix
    from dmf_utils.user_data.report import as_text, verdict

    completed, report = _outputs(file, output, force)
    reading = ("header", "columns", "layout", "duplicates", "missing")
    how = {name: options.pop(name) for name in reading}
    facts = _facts(how | options)
    keep = output / f".{file.stem}-unfinished"
    if keep.exists() and not keep.is_dir():
        raise InputError(f"{keep}: is where finished runs are kept, and is no folder; move it")
    if isinstance(context.obj, dict):
        context.obj["interrupted"] = (
            "no result was written. Finished runs are kept: the same command goes on from there."
        )
    try:
        data = read_matrix(file, **how)
        _warn(data.remarks)
        _say(f"{file.name}: {data.shape[0]} × {data.shape[1]}, {data.n_observed} observed")
        found = complete(data, options.pop("depths"), **options, keep=keep, say=_say)
    except (TypeError, ValueError) as error:
        raise InputError(" ".join(str(error).split())) from error
    except MemoryError as error:  # such as a header that claims any size
        raise InputError(f"{file.name}: needs more memory than there is ({error})") from error
    _warn(remark for remark in found.remarks if remark not in data.remarks)
    _warn(_written(data, found, file.name, facts, completed, report))
    _say(as_text(found))
    _say(verdict(found))
    _say(f"completed matrix ({found.method}): {completed}")
    _say(f"report: {report}")
    return 0


def _outputs(file: Path, folder: Path, force: bool) -> tuple[Path, Path]:
    """The two files to write, after trying whether they can be; nothing of the user's is lost."""
    from dmf_utils.user_data.report import digest_in, is_unchanged
    from dmf_utils.user_data.writing import completed_ending

    if folder.is_file():
        raise InputError(f"--output {folder}: is a file; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {folder}: {error.strerror or error}") from error
    completed = folder / f"{file.stem}-completed{completed_ending(file)}"
    report = folder / f"{file.stem}-report.html"

    def is_ours(path: Path) -> bool:
        if path == report:
            return is_unchanged(report)
        return report.is_file() and digest_in(report) == files.file_digest(completed)

    files.check_outputs([completed, report], [file], is_ours=is_ours, force=force)
    return completed, report


def _written(
    data: ObservedMatrix,
    found: Completion,
    name: str,
    facts: dict[str, str],
    completed: Path,
    report: Path,
) -> tuple[str, ...]:
    """Write both files, or none; what is to be said of them."""
    import dataclasses

    from dmf_utils.user_data.report import as_html
    from dmf_utils.user_data.writing import write_completed

    with files.together(completed, report) as (matrix_part, page_part):
        said = write_completed(data, found.matrix, matrix_part)
        said = tuple(remark.replace(matrix_part.name, completed.name) for remark in said)
        found = dataclasses.replace(found, remarks=(*found.remarks, *said))
        page = as_html(found, name, facts, files.file_digest(matrix_part))
        page_part.write_text(page, encoding="utf-8")
    return said


def _facts(options: dict[str, Any]) -> dict[str, str]:
    given = [
        f"{name.replace('_', ' ')} {' '.join(map(str, v)) if isinstance(v, (list, tuple)) else v}"
        for name, v in options.items()
        if v is not None and v is not False
    ]
    made = [datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")]
    made.append(f"Python {platform.python_version()}")
    made += [f"{k} {v}" for k, v in installed_versions(("dmf_utils", "torch", "numpy")).items()]
    return {"Options": ", ".join(given), "Made": ", ".join(made)}


def _say(text: str, stream: Any = None) -> None:
    """Print for any terminal: one that knows ASCII only gets the nearest to other signs."""
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    print("\n".join(_printable(line) for line in text.split("\n")), file=stream, flush=True)


def _printable(line: str) -> str:
    """A line without what a terminal would take for a command, as a name in a file may hold."""
    return "".join(c if c.isprintable() else "?" for c in line)


def _warn(remarks: Iterable[str]) -> None:
    for remark in remarks:
        _say(f"dmf: warning: {remark}", sys.stderr)
