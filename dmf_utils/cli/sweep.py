"""``dmf sweep``: a file of parameters turned into a table of runs."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmf_utils._support.errors import InputError
from dmf_utils._support.machine import hardware
from dmf_utils.sweep.spec import SweepSpec, read_spec

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

__all__ = ["add_sweep"]

_FAILED = 1


def add_sweep(commands: Any) -> None:
    """Add the command to argparse's `commands`."""
    parser = commands.add_parser(
        "sweep",
        help="compute a grid of runs into a table",
        description="Compute all runs that a file asks for, into a table with one row a run. The "
        "file has lines such as `depth: [2, 3]`: parameters, each with a value or a list of "
        "values, of which all combinations are run.",
        epilog="Works in any folder. What is finished is kept in --cache, whatever happens: the "
        "same command goes on from there.",
    )
    parser.add_argument("spec", type=Path, metavar="SPEC.yml", help="what to run")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the table to write: .parquet, or .csv; recorded trajectories go to a second file",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=_count, metavar="N", help="processes (one for each processor)"
    )
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask scheduler, such as tcp://127.0.0.1:8786"
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="for the scheduler to answer, at first and when it went away (300)",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="of finished chunks (FILE.chunks)"
    )
    parser.add_argument("--device", default="cpu", help="where to step batches, such as cuda (cpu)")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what it would take, and compute nothing"
    )
    parser.set_defaults(command=_sweep, interrupted="nothing was computed.")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give a positive number of seconds")
    return value


def _sweep(project: None, options: argparse.Namespace) -> int:
    out = options.out
    if out.suffix not in (".parquet", ".csv"):
        raise InputError(f"--out {out}: must end in .parquet or .csv")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist; make it first")
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; name a file")
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"--out {out}: the folder {out.parent} cannot be written")
    spec = read_spec(options.spec)
    cache = options.cache or out.with_name(f"{out.name}.chunks")
    if options.dry_run:
        return _dry_run(spec, cache, options)
    again = shlex.join(["dmf", *sys.argv[1:]])
    options.interrupted = f"what was finished is kept in {cache}. Go on with: {again}"
    begun, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    try:
        table = _computed(spec, cache, options)
    except (OSError, RuntimeError, ImportError) as error:
        print(f"\ndmf: {error}\ndmf: {options.interrupted}", file=sys.stderr)
        return _FAILED
    except (TypeError, ValueError) as error:
        raise InputError(" ".join(str(error).split())) from error
    from dmf_utils._support.provenance import this_computation
    from dmf_utils.sweep.source import SOURCE

    about = this_computation(SOURCE) | {
        "spec": spec.contents,
        "machine": hardware(),
        "scheduler": options.scheduler,
        "begun": begun.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 3),
    }
    try:
        written = _write(table, out, about, has_trajectories=spec.trajectories is not None)
    except OSError as error:
        print(
            f"dmf: {out}: cannot be written: {error}\ndmf: {options.interrupted}", file=sys.stderr
        )
        return _FAILED
    ends = ", ".join(f"{count} {status}" for status, count in table.status.value_counts().items())
    print(f"{len(table)} {'run' if len(table) == 1 else 'runs'}: {ends}")
    for path in written:
        print(path)
    return 0


def _computed(spec: SweepSpec, cache: Path, options: argparse.Namespace) -> pd.DataFrame:
    from dmf_utils.sweep.table import sweep

    with _executor(options) as executor, _warnings_in_one_line():
        return sweep(
            spec.runs,
            workers=options.workers,
            executor=executor,
            cache=cache,
            trajectories=spec.trajectories,
            device=options.device,
            label=options.spec.stem,
        )


@contextlib.contextmanager
def _executor(options: argparse.Namespace) -> Iterator[Executor | None]:
    """The cluster that is asked for; none for processes of this machine."""
    if options.scheduler is None:
        yield None
        return
    from dmf_utils.sweep.cluster import Cluster

    # We say ourselves what happened; Dask's log would add pages.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with Cluster(options.scheduler, options.wait) as cluster:
        n_workers = cluster.n_workers
        waits = "" if n_workers else "; the sweep begins when there are some"
        print(f"scheduler at {options.scheduler}: {n_workers} workers{waits}", file=sys.stderr)
        yield cluster


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    from tqdm import tqdm

    def show(message: Warning | str, *_: object) -> None:
        tqdm.write(f"dmf: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


def _write(
    table: pd.DataFrame, out: Path, about: dict[str, Any], *, has_trajectories: bool
) -> list[Path]:
    """Write the table, and that of the trajectories if there are any."""
    from dmf_utils.sweep.compute import RECORDED
    from dmf_utils.sweep.table import trajectory_table
    from dmf_utils.sweep.table_files import write_table

    written = [out]
    if has_trajectories:
        written.append(out.with_name(f"{out.stem}-trajectories{out.suffix}"))
        write_table(trajectory_table(table), written[1], about)
        table = table.drop(columns=list(RECORDED))
    write_table(table, out, about)
    return written


def _dry_run(spec: SweepSpec, cache: Path, options: argparse.Namespace) -> int:
    from dmf_utils.sweep import chunk_store
    from dmf_utils.sweep.cost import estimate
    from dmf_utils.sweep.run_parameters import chunks, complete_run
    from dmf_utils.sweep.table import run_options

    parts = chunks([complete_run(run, at) for at, run in enumerate(spec.runs)])
    asked = run_options(spec.trajectories, "cpu" if options.scheduler else options.device)
    missing = [
        part
        for part in parts
        if not (cache / f"{chunk_store.chunk_key(part.runs, asked)}.parquet").is_file()
    ]
    print(f"{len(spec.runs)} runs in {len(parts)} chunks; {len(parts) - len(missing)} are finished")
    if not missing:
        return 0
    cost = estimate(missing)
    memory = f"{cost.bytes_of_worker / 2**30:.1f} GiB of memory"
    print(
        f"processor time: about {_clock(cost.seconds)}, to an order of magnitude (gradients timed"
    )
    print("here, times 1000 for a flow, and 30 over the learning rate for descent)")
    if options.scheduler:
        print(f"divided by the number of workers; each takes about {memory}")
    else:
        workers = min(options.workers or os.cpu_count() or 1, len(missing))
        total = workers * cost.bytes_of_worker / 2**30
        print(
            f"{workers} {'process' if workers == 1 else 'processes'}: about "
            f"{_clock(cost.seconds / workers)}; {memory} each, {total:.1f} GiB together"
        )
    return 0


def _clock(seconds: float) -> str:
    """Seconds to one digit that counts, in a unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{float(f'{seconds / length:.1g}'):g} {unit}"
    return f"{float(f'{max(seconds, 0.1):.1g}'):g} seconds"
