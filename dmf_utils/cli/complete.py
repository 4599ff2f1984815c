"""``dmf complete``: a partially observed matrix of the user's own, completed and judged."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dmf_utils._support.errors import InputError

__all__ = ["add_complete"]


def add_complete(commands: Any) -> None:
    """Add the command to argparse's `commands`."""
    parser = commands.add_parser(
        "complete",
        help="complete a partially observed matrix of your own",
        description="Complete a partially observed matrix by gradient flow, hold out some of its "
        "entries, and compare the error by depth with that of the minimum nuclear norm solution. "
        "Writes the completed matrix (NAME-completed.csv, .tsv or .npy, as the input is) and a "
        "report of one page (NAME-report.html).",
        epilog="Works in any folder. Factors and products are dense: give a matrix of more than "
        "some hundred rows and columns a small hidden size, such as 50. Interrupted, it leaves no "
        "file.",
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help=".csv or .tsv with a header and lines of row, column, value; or .npy with NaN where "
        "nothing is observed",
    )
    parser.add_argument(
        "--depth",
        type=_depths,
        default=[1, 2, 3],
        metavar="N",
        help="compare depths 1 to N and complete with depth N (3); or a list such as 2,4, whose "
        "last one completes",
    )
    parser.add_argument("--no-header", action="store_true", help="the first line is an entry")
    parser.add_argument(
        "--hold-out",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the entries that all methods are judged by (0.1)",
    )
    parser.add_argument(
        "--stop-by",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the entries whose least error stops a run (0.1); 0 to fit all the rest, "
        "noise and all",
    )
    parser.add_argument(
        "--hidden",
        type=int,
        metavar="K",
        help="hidden size (the smaller of rows and columns); a small one makes large matrices "
        "feasible, and bounds the rank by K",
    )
    parser.add_argument(
        "--center", action="store_true", help="take the mean off before, put it back after"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is held out, and of the start")
    parser.add_argument(
        "--output", type=Path, default=Path(), metavar="FOLDER", help="where to write (here)"
    )
    parser.set_defaults(command=_complete, interrupted="nothing was written.")


def _depths(text: str) -> list[int]:
    try:
        depths = [int(part) for part in text.split(",")]
    except ValueError:
        depths = []
    if not depths or min(depths) < 1 or len(set(depths)) < len(depths):
        raise argparse.ArgumentTypeError(
            f"{text!r}: give a number from 1 on, or a list such as 2,4"
        )
    return depths if len(depths) > 1 else list(range(1, depths[0] + 1))


def _complete(project: None, options: argparse.Namespace) -> int:
    # Imported here: torch takes seconds to load, and the other commands do without.
    from dmf_utils._support.files import write_whole
    from dmf_utils.user_data.completion import complete
    from dmf_utils.user_data.matrix import read_matrix, write_completed
    from dmf_utils.user_data.report import as_html, as_text, verdict

    try:
        own = read_matrix(options.file, header=not options.no_header)
        folder = options.output
        folder.mkdir(parents=True, exist_ok=True)
        _warn(own.remarks)
        print(f"{options.file.name}: {own.shape[0]} × {own.shape[1]}, {own.n_observed} observed")
        found = complete(
            own,
            options.depth,
            held_out=options.hold_out,
            stopping=options.stop_by,
            center=options.center,
            hidden=options.hidden,
            seed=options.seed,
            progress=True,
        )
        completed = folder / f"{options.file.stem}-completed{options.file.suffix.lower()}"
        report = folder / f"{options.file.stem}-report.html"
        page = as_html(found, options.file.name, _facts(options)).encode()
        write_completed(own, found.matrix, completed)
        write_whole(report, lambda file: file.write(page))
    except (OSError, TypeError, ValueError) as error:
        raise InputError(" ".join(str(error).split())) from error
    _warn(remark for remark in found.remarks if remark not in own.remarks)
    print(as_text(found))
    print(verdict(found))
    print(f"completed matrix (depth {found.depth}): {completed}")
    print(f"report: {report}")
    return 0


def _facts(options: argparse.Namespace) -> dict[str, str]:
    chosen = [
        f"depths {', '.join(map(str, options.depth))}",
        f"hold out {options.hold_out:g}",
        f"stop by {options.stop_by:g}",
        "mean taken off" if options.center else "not centred",
        f"hidden size {options.hidden or 'full'}",
        f"seed {options.seed}",
    ]
    made = [datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")]
    made.append(f"Python {platform.python_version()}")
    for name in ("dmf_utils", "torch", "numpy"):
        with contextlib.suppress(PackageNotFoundError):  # used in place, without installing it
            made.append(f"{name} {version(name)}")
    return {"Options": ", ".join(chosen), "Made": ", ".join(made)}


def _warn(remarks: Iterable[str]) -> None:
    for remark in remarks:
        print(f"dmf: warning: {remark}", file=sys.stderr)
