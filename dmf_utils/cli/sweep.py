"""``dmf sweep``: a file of parameters turned into a table of runs."""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmf_utils._support import files
from dmf_utils._support.errors import InputError
from dmf_utils._support.machine import hardware, processors
from dmf_utils.sweep.spec import MOST_RUNS, SweepSpec, read_spec

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

__all__ = ["command"]

_FAILED = 1


@dataclass(frozen=True)
class _Options:
    """What the command line says."""

    spec: Path
    out: Path
    workers: int | None
    scheduler: str | None
    wait: float
    cache: Path
    device: str
    most_runs: int


@click.command(
    "sweep",
    short_help="Compute a grid of runs into a table.",
    epilog="Works in any folder. What is finished is kept in --cache, whatever happens: the same "
    "command goes on from there.",
)
@click.argument("spec", type=click.Path(path_type=Path), metavar="SPEC.yml")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The table to write: .parquet, or .csv; recorded trajectories go to a second file.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes (one for each processor).",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Of a Dask scheduler, such as tcp://127.0.0.1:8786."
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0, min_open=True, max=1e9),
    default=300.0,
    metavar="SECONDS",
    help="For the scheduler to answer, at first and when it went away (300).",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Of finished chunks (FILE.chunks).",
)
@click.option("--device", default="cpu", help="Where to step batches, such as cuda (cpu).")
@click.option(
    "--most-runs",
    type=click.IntRange(min=1),
    default=MOST_RUNS,
    metavar="N",
    help=f"Refuse a file that asks for more ({MOST_RUNS}).",
)
@click.option("--force", is_flag=True, help="Replace a table that dmf did not write.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, and compute nothing.")
@click.pass_context
def command(
    context: click.Context,
    out: Path,
    workers: int | None,
    scheduler: str | None,
    cache: Path | None,
    force: bool,
    dry_run: bool,
    **others: Any,
) -> int:
    """Compute all runs that a file asks for, into a table with one row a run.

    The file has lines such as `depth: [2, 3]`: parameters, each with a value or a list of values,
    of which all combinations are run.
    """
    if not others["wait"] < math.inf:
        raise click.UsageError("--wait: give a number of seconds", context)
    if workers and scheduler:
        raise click.UsageError("--workers and --scheduler: give one of the two", context)
    context.obj["interrupted"] = "nothing was computed."
    cache = cache or out.with_name(f"{out.name}.chunks")
    options = _Options(out=out, workers=workers, scheduler=scheduler, cache=cache, **others)
    if out.suffix not in (".parquet", ".csv"):
        raise InputError(f"--out {out}: must end in .parquet or .csv")
    spec = read_spec(options.spec, options.most_runs)
    _check_outputs(spec, options, force)
    if not next(place for place in (cache, *cache.parents) if place.exists()).is_dir():
        raise InputError(f"--cache {cache}: is not a folder; name another one")
    return _dry_run(spec, cache, options) if dry_run else _sweep(spec, options, context.obj)


def _trajectories_path(out: Path) -> Path:
    return out.with_name(f"{out.stem}-trajectories{out.suffix}")


def _check_outputs(spec: SweepSpec, options: _Options, force: bool) -> None:
    from dmf_utils.sweep.table_files import is_ours, outputs_of  # pandas takes a second to load

    tables = [options.out, *([_trajectories_path(options.out)] if spec.trajectories else [])]
    files.check_outputs(
        outputs_of(tables), [options.spec], is_ours=is_ours, force=force, option="--out"
    )


def _sweep(spec: SweepSpec, options: _Options, told: dict[str, str]) -> int:
    out, cache = options.out, options.cache
    again = shlex.join(["dmf", *sys.argv[1:]])
    told["interrupted"] = f"what was finished is kept in {cache}. Go on with: {again}"
    begun, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    try:
        table = _computed(spec, cache, options)
    except (OSError, RuntimeError, ImportError) as error:
        print(f"\ndmf: {error}\ndmf: {told['interrupted']}", file=sys.stderr)
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
            f"dmf: {out}: cannot be written: {error}\ndmf: {told['interrupted']}", file=sys.stderr
        )
        return _FAILED
    ends = ", ".join(f"{count} {status}" for status, count in table.status.value_counts().items())
    print(f"{len(table)} {'run' if len(table) == 1 else 'runs'}: {ends}")
    for path in written:
        print(path)
    return 0


def _computed(spec: SweepSpec, cache: Path, options: _Options) -> pd.DataFrame:
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
def _executor(options: _Options) -> Iterator[Executor | None]:
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
    from dmf_utils.sweep.table_files import write_tables

    tables = {out: table}
    if has_trajectories:
        tables = {out: table.drop(columns=list(RECORDED))}
        tables[_trajectories_path(out)] = trajectory_table(table)
    write_tables(tables, about)
    return list(tables)


def _dry_run(spec: SweepSpec, cache: Path, options: _Options) -> int:
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
        workers = min(options.workers or processors(), len(missing))
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
